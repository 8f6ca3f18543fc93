"""Agents as tools of other agents: a call is a run of the agent that is asked, started once and found again.

That run is under its own remit and under all that the runs above it may spend; it waits where it waits, and the run
that asked waits with it, without a task, a slot or money. Its answer counts as data of every class it has read, and
it is told nothing of a class that it may not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.labels import DATA_CLASSES, DataClass
from remit.core.runs import FINAL, RunEnd
from remit.core.tools import ToolSpec
from remit.governance.remit import Remit
from remit.ports.effects import CallContext, Caller, EffectFailed, EffectPending
from remit.ports.journal import Journal
from remit.ports.services import Clock
from remit.runtime import intake
from remit.runtime.runner import Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegate:
    """An agent that can be asked, by the tool `tool`."""

    tool: ToolSpec
    remit: Remit
    runner: Runner


class Delegation:
    """A `ToolHost` of agents."""

    def __init__(self, delegates: Sequence[Delegate], journal: Journal, clock: Clock) -> None:
        self._delegates = {delegate.tool.name: delegate for delegate in delegates}
        self._journal = journal
        self._clock = clock

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        return tuple(delegate.tool for delegate in self._delegates.values())

    async def call(self, tool: str, args: Json, context: CallContext) -> Json:
        """What the agent answers, and of which classes what it read was. Raises: EffectFailed, EffectPending."""
        caller = context.caller
        if caller is None or tool not in self._delegates:
            raise EffectFailed("tool.unknown", f"there is no agent behind {tool!r}")
        delegate = self._delegates[tool]
        try:
            run_id, end = await self._ask(delegate, args["task"], caller)
            classes = await self._journal.classes(run_id)
        except RemitError as error:
            if error.kind.retryable:
                raise EffectPending(f"{delegate.remit.agent}: {error.code}: {error.message}") from error
            raise EffectFailed(error.code, error.message) from error
        if end.status == "suspended":
            raise EffectPending(
                f"it waits for run {run_id} of {delegate.remit.agent}: {end.code}: {end.message}"
            )
        if end.status != "succeeded":
            message = f"{delegate.remit.agent} has not answered, and what it had done is done: {end.message}"
            raise EffectFailed(end.code, message)
        return {"answer": end.answer, **({"classes": list(classes)} if classes else {})}

    async def _ask(self, delegate: Delegate, task: str, caller: Caller) -> tuple[str, RunEnd]:
        """The run of the call, begun or gone on with where it has not ended, and how it ended or why it waits."""
        run = intake.child_run(delegate.remit, task, caller.run, caller.action_id, self._clock)
        record = await self._journal.run(run.id)
        if record is None:
            _check_place(delegate.remit, caller)
            await self._check_classes(delegate.remit, caller)
            await self._journal.create_run(intake.start_of(run, ()))
        elif record.end is not None and record.status in FINAL:
            return run.id, record.end
        try:
            return run.id, (await delegate.runner.resume(run.id, callers=caller.ceilings)).end
        except RemitError as error:
            record = await self._journal.run(run.id)
            if error.code != "run.not_running" or record is None:
                raise
            if record.end is None:
                raise EffectPending(f"it waits for run {run.id}, which another process has") from error
            return run.id, record.end  # somebody has ended it meanwhile

    async def _check_classes(self, remit: Remit, caller: Caller) -> None:
        """What the runs above have read may stand in the task."""
        read: set[DataClass] = set()
        for above in caller.ceilings:
            read.update(await self._journal.classes(above.run_id))
        denied = [name for name in DATA_CLASSES if name in read & remit.denied_classes]
        if denied:
            message = f"this run has read {', '.join(denied)} data, which {remit.agent} may not see"
            raise RemitError("data.denied", message)


def _check_place(remit: Remit, caller: Caller) -> None:
    """A run above that asked in a circle, or from too deep, would have been refused when the files were loaded."""
    depth = caller.run.depth + 1
    if depth > min(above.depth_max for above in caller.ceilings):
        raise RemitError("run.too_deep", f"{remit.agent} would be {depth} runs below the first")
    if remit.agent in {above.agent for above in caller.ceilings}:
        raise RemitError("run.too_deep", f"{remit.agent} has asked for this itself")
