"""Does what the gate has admitted: hands each kind of action to the port that it is for, and nothing else.

Only the gate calls this, once it has decided and recorded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import orjson

from remit.core import memory
from remit.core.actions import Action, MemoryRead, MemoryWrite, ModelCall, ToolCall
from remit.core.decisions import Decision
from remit.core.errors import RemitError
from remit.core.memory import Scope, Seen
from remit.core.outcomes import Done, Failed, Outcome
from remit.core.runs import Ceiling, Run
from remit.core.tools import ToolSpec
from remit.governance import budget, memories, results
from remit.governance.history import History
from remit.governance.inner import InnerCalls
from remit.governance.memories import MemoryGrant
from remit.governance.results import Attempted
from remit.governance.rules import Rules
from remit.ports.counting import TokenCounter
from remit.ports.effects import CallContext, Caller, EffectFailed, Model, ToolHost
from remit.ports.journal import Recorded
from remit.ports.memory import Memory
from remit.ports.services import Clock, HasLease, Prices, Telemetry, TextSink, ToolProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernedRun:
    """A run, the rules it began under, and the number of its attempt. `on_text`: told a reply as it comes.

    `history`: what is on record of a run that goes on. `seen`: the labels of what it has been shown, where it may
    remember anything. `callers`: the runs above it, nearest first.
    """

    run: Run
    rules: Rules
    attempt: int = 1
    on_text: TextSink | None = None
    history: History | None = None
    seen: Seen | None = None
    callers: tuple[Ceiling, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """The effect ports. Nobody but the gate is given them."""

    model: Model
    tools: ToolHost
    counter: TokenCounter | None = None
    memory: Memory | None = None


Perform: TypeAlias = Callable[[Action, GovernedRun], Awaitable[Outcome]]
Effectful: TypeAlias = ModelCall | ToolCall | MemoryRead | MemoryWrite
"""The actions that something is done for; the commit of any other is all there is to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performer:
    """The effect ports at work. Raises (all methods) whatever a port raises."""

    effects: Effects
    prices: Prices
    clock: Clock
    has_lease: HasLease
    telemetry: Telemetry
    gate: Perform

    async def perform(self, action: Effectful, governed: GovernedRun, decision: Decision) -> Attempted:
        """Do it, once. Raises: EffectFailed, EffectPending."""
        if not self.has_lease():  # it stood still after the admission: the run may be another worker's by now
            raise EffectFailed(
                "worker.fenced", "its worker was silent for too long, and did nothing", retryable=True
            )
        if isinstance(action, ModelCall):
            reply = await self.effects.model.complete(action.request, governed.on_text)
            return results.model_done(action, reply, self.prices)
        run = governed.run
        if isinstance(action, ToolCall):
            tool = governed.rules.tools[action.resource]
            caller = None
            if tool.agent is not None:
                caller = Caller(
                    run, action.id, (budget.ceiling(run, governed.rules.remit), *governed.callers)
                )
            context = CallContext(
                run_id=run.id,
                tenant=run.tenant,
                agent=run.agent,
                idempotency_key=action.digest[:32],
                constraints=decision.constraints,
                begun_before=governed.history is not None and action.id in governed.history.open,
                seen=governed.seen,
                run_began_us=run.created_at_us,
                caller=caller,
                on_progress=lambda text: self.telemetry.emit(ToolProgress(run, action, text)),
            )
            return await self._call(tool, action, context, governed)
        try:
            if isinstance(action, MemoryRead):
                return results.session_done(await self._read(run, governed.rules, self.clock.now_us()))
            store, grant, seen = self._memory(governed)
            await store.append(memories.to_keep(action, run, grant, seen, self.clock.now_us()))
        except RemitError as error:  # a text is kept once for its key, so that nothing is left unknown
            raise EffectFailed(error.code, error.message, retryable=error.kind.retryable) from error
        return results.kept()

    async def _call(
        self, tool: ToolSpec, action: ToolCall, context: CallContext, governed: GovernedRun
    ) -> Attempted:
        tools, args = self.effects.tools, action.args_value()
        if not tool.uses:
            value = await tools.call(tool.name, args, context)
            return results.tool_done(action, value, tool, context.constraints)
        inner = InnerCalls(action, governed.rules, lambda call: self.gate(call, governed))
        try:
            value = await tools.call(tool.name, args, context._replace(inner=inner.make))
        except EffectFailed as error:
            raise inner.after(error) from error
        return results.tool_done(action, value, inner.labelled(tool), context.constraints)

    async def reread(self, governed: GovernedRun, recorded: Recorded) -> Outcome:
        """What was read when the run began, the same to the byte, or nothing."""
        was = orjson.loads(recorded.result)
        try:
            read = await self._read(governed.run, governed.rules, was["at"], was["last"])
        except RemitError as error:
            return Failed(code=error.code, message=error.message, retryable=error.kind.retryable)
        if read.label.digest != was["digest"]:
            message = "what the run was shown of its session has been erased, or has expired, since"
            return Failed(code="memory.changed", message=message)
        return Done(value=read.shown, label=read.label, replayed=True)

    async def _read(
        self, run: Run, rules: Rules, at_us: int, upto: int | None = None
    ) -> memories.SessionRead:
        store = self.effects.memory
        if store is None:
            raise RemitError("memory.unavailable", "no store of memory is open")
        scope = Scope(run.tenant, run.agent)
        kept = await store.read(scope, memory.session_list(run.session), at_us, upto)
        return memories.session_read(kept, rules.remit.denied_classes, at_us)

    def _memory(self, governed: GovernedRun) -> tuple[Memory, MemoryGrant, Seen]:
        store, grant, seen = self.effects.memory, governed.rules.remit.memory, governed.seen
        if store is None or grant is None or seen is None:
            raise RemitError("memory.unavailable", "no store of memory is open")
        return store, grant, seen


def is_of_run(action: Action, run: Run) -> bool:
    """Whether an action is one of this very run, and of its own session."""
    place = action.place
    if place.run_id != run.id or place.principal != run.principal:
        return False
    if isinstance(action, MemoryRead | MemoryWrite):
        return bool(run.session) and action.args_value()["session"] == run.session
    return True


def note_seen(seen: Seen, action: Action, outcome: Outcome) -> None:
    """Take note of what the model is shown by an outcome. What a failed tool said is its own words, too."""
    if isinstance(outcome, Done) and outcome.label is not None:
        seen.add(outcome.label)
    elif isinstance(outcome, Failed) and isinstance(action, ToolCall):
        seen.is_exposed = True
