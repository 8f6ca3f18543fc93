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
from remit.core.actions import Place, Principal
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.memory import Seen
from remit.core.messages import Usage
from remit.core.outcomes import Outcome, Suspended
from remit.core.runs import Run, RunEnd
from remit.core.tools import ToolSpec
from remit.governance import records
from remit.governance.gate import Gate, GateServices, GovernedRun
from remit.governance.remit import Remit
from remit.governance.rules import Rules
from remit.ports.runs import RunEnding
from remit.ports.services import RunStarted, RunStopped
from remit.runtime import intake

_NOWHERE = Place(run_id="", step=0, name="", principal=Principal(kind="service", id="nobody"))
Waiting: TypeAlias = dict[tuple[str, str], int]
"""The steps of calls that wait for a person, by tool and canonical arguments."""


def without_model(remit: Remit) -> Remit:
    """The remit under which an agent's tools are called directly."""
    return replace(remit, digest=canonical.digest(f"direct {remit.digest}".encode()))


class DirectCalls:
    """Begins runs of direct calls for one agent."""

    def __init__(self, services: GateServices, gate: Gate, remit: Remit, tools: Sequence[ToolSpec]) -> None:
        self._services = services
        self._gate = gate
        self.rules = Rules(without_model(remit), tools)

    def key(self, tool: str, args: Json) -> tuple[str, str]:
        """What two calls have in common that are the same."""
        return _key(self.rules.name_of(tool), args)

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

    def claim(self, key: tuple[str, str]) -> int | None:
        """The step of the call of this key (`DirectCalls.key`) that waits, for one to make it again."""
        return self._waiting.pop(key, None)

    async def call(self, tool: str, args: Json, call_id: str = "", step: int | None = None) -> Outcome:
        """What became of a call. The same one, made again after it waited for a person, is the one that was asked for.

        `step`: that of the call that waited, where it was claimed.
        """
        name = self._rules.name_of(tool)
        key = _key(name, args)
        again = self._waiting.pop(key, None) if step is None else step
        if again is None:
            self._steps += 1
        action = actions.tool_call(self._place(again or self._steps), name, call_id, args)
        outcome: Outcome | None = None
        try:
            outcome = await self._gate.perform(action, self._governed)
            return outcome
        finally:
            # so does one that was cancelled when it was made again: its approval may not be used up
            if isinstance(outcome, Suspended) or (outcome is None and again is not None):
                self._waiting[key] = action.place.step

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

    def _place(self, step: int) -> Place:
        return Place(run_id=self.run.id, step=step, name="t0", principal=self.run.principal)


def _key(tool: str, args: Json) -> tuple[str, str]:
    asked = actions.tool_call(_NOWHERE, tool, "", args)
    return tool, asked.args.decode() if asked.fault is None else f"no arguments: {asked.fault}"
