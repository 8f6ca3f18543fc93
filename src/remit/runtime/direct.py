"""Tool calls that a person or another program makes within an agent's remit, without a model.

Each is an action like any other: decided, recorded, limited and labelled by the gate. A stretch of such calls is a run
of its own, under a remit of its own: the agent's, with another digest, so that no worker takes the run for a task and
asks a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from remit.core import actions, canonical
from remit.core.actions import Place, Principal, ToolCall
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.memory import Seen
from remit.core.messages import Usage
from remit.core.outcomes import Outcome, Suspended
from remit.core.runs import Run, RunEnd
from remit.core.tools import ToolSpec
from remit.governance import records
from remit.governance.gate import Gate, GateServices, GovernedRun
from remit.governance.history import History, history_of
from remit.governance.remit import Remit
from remit.governance.rules import Rules
from remit.ports.runs import RunEnding
from remit.ports.services import RunStarted, RunStopped
from remit.runtime import intake

Waiting: TypeAlias = dict[int, str]
"""The digests of calls that wait for a person, by their steps."""


def without_model(remit: Remit) -> Remit:
    """The remit under which an agent's tools are called directly."""
    return replace(remit, digest=canonical.digest(f"direct {remit.digest}".encode()))


class DirectCalls:
    """Begins runs of direct calls for one agent."""

    def __init__(self, services: GateServices, gate: Gate, remit: Remit, tools: Sequence[ToolSpec]) -> None:
        self._services = services
        self._gate = gate
        self.rules = Rules(without_model(remit), tools)

    def known(self, run: Run, waiting: Waiting) -> DirectRun:
        """A run of before, in which calls wait. To be gone on with."""
        return DirectRun(self._services, self._gate, self.rules, run, waiting)

    async def begin(self, principal: Principal, purpose: str) -> DirectRun:
        """A run of calls for `principal`; `purpose` is recorded as its task.

        Raises: RemitError `run.no_slot`, `journal.unavailable`, `value.invalid`, `value.too_large`, `usage.invalid`.
        """
        services, remit = self._services, self.rules.remit
        run = intake.new_run(remit, purpose, principal, services.clock)
        await services.journal.create_run(intake.start_of(run, ()))
        direct = DirectRun(services, self._gate, self.rules, run)
        try:
            await direct.go_on()
        except RemitError as error:
            await direct.end(RunEnd(status="cancelled", code=error.code, message=error.message))
            raise
        return direct


class DirectRun:
    """A stretch of direct calls. To be ended."""

    def __init__(
        self, services: GateServices, gate: Gate, rules: Rules, run: Run, waiting: Waiting | None = None
    ) -> None:
        self.run = run
        self._services = services
        self._gate = gate
        self._rules = rules
        self._governed = GovernedRun(
            run=run,
            rules=rules,
            seen=None if rules.remit.memory is None else Seen(is_exposed=run.is_strangers),
        )
        self._steps = 0
        self._waiting: Waiting = waiting or {}

    @property
    def waits(self) -> bool:
        """Whether a call of it waits for a person."""
        return bool(self._waiting)

    def claim(self, tool: str, args: Json) -> int | None:
        """The step of the same call where one waits, for its caller to make it again."""
        for step, digest in self._waiting.items():
            action = self._action(step, tool, args)
            if action.fault is None and action.digest == digest:
                del self._waiting[step]
                return step
        return None

    async def call(self, tool: str, args: Json, call_id: str = "", step: int | None = None) -> Outcome:
        """What became of a call. The same one, made again after it waited for a person, is the one that was asked for.

        `step`: that of the call that waited, where it was claimed.
        """
        again = self.claim(tool, args) if step is None else step
        if again is None:
            self._steps += 1
        action = self._action(again or self._steps, tool, args, call_id)
        outcome: Outcome | None = None
        try:
            governed = self._governed
            if again is not None:  # a tool that makes calls may have made some before it had to wait
                governed = replace(governed, history=await self._history())
            outcome = await self._gate.perform(action, governed)
            return outcome
        finally:
            # so does one that was cancelled when it was made again: its approval may not be used up
            if isinstance(outcome, Suspended) or (outcome is None and again is not None):
                self._waiting[action.place.step] = action.digest

    async def go_on(self) -> None:
        """Have it running again. Raises: RemitError `run.no_slot`, `run.not_running`, `journal.unavailable`."""
        journal, remit = self._services.journal, self._rules.remit
        if not await journal.begin_run(self.run.id, remit.max_concurrent_runs, self._services.clock.now_us()):
            raise RemitError("run.no_slot", f"the agent has its {remit.max_concurrent_runs} runs under way")
        self._services.telemetry.emit(RunStarted(run=self.run))

    async def end(self, end: RunEnd) -> None:
        """Record how it ended. Raises: RemitError `journal.unavailable`."""
        at_us = self._services.clock.now_us()
        ending = RunEnding(end=end, audit=records.run_ended(self.run, end, at_us))
        await self._services.journal.end_run(self.run.id, ending, at_us)
        stopped = RunStopped(
            run=self.run,
            end=end,
            started_us=self.run.created_at_us,
            duration_us=at_us - self.run.created_at_us,
            usage=Usage(),
            cost_nano_usd=0,
        )
        self._services.telemetry.emit(stopped)

    async def _history(self) -> History:
        journal, run_id = self._services.journal, self.run.id
        return history_of(await journal.calls(run_id), await journal.refusals(run_id))

    def _action(self, step: int, tool: str, args: Json, call_id: str = "") -> ToolCall:
        place = Place(run_id=self.run.id, step=step, name="t0", principal=self.run.principal)
        return actions.tool_call(place, self._rules.name_of(tool), call_id, args)
