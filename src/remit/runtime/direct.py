"""Tool calls that a person or another program makes within an agent's remit, without a model.

Each is an action like any other: decided, recorded, limited and labelled by the gate. A stretch of such calls is a run
of its own, under a remit of its own: the agent's, with another digest, so that no worker takes the run for a task and
asks a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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


def without_model(remit: Remit) -> Remit:
    """The remit under which an agent's tools are called directly."""
    return replace(remit, digest=canonical.digest(f"direct {remit.digest}".encode()))


class DirectCalls:
    """Begins runs of direct calls for one agent."""

    def __init__(self, services: GateServices, gate: Gate, remit: Remit, tools: Sequence[ToolSpec]) -> None:
        self._services = services
        self._gate = gate
        self.rules = Rules(without_model(remit), tools)

    async def begin(self, principal: Principal, purpose: str) -> DirectRun:
        """A run of calls for `principal`; `purpose` is recorded as its task.

        Raises: RemitError `run.no_slot`, `journal.unavailable`, `value.invalid`, `value.too_large`, `usage.invalid`.
        """
        services, remit = self._services, self.rules.remit
        run = intake.new_run(remit, purpose, principal, services.clock)
        await services.journal.create_run(intake.start_of(run, ()))
        direct = DirectRun(services, self._gate, self.rules, run)
        if not await services.journal.begin_run(run.id, remit.max_concurrent_runs, services.clock.now_us()):
            message = f"the agent has its {remit.max_concurrent_runs} runs under way"
            await direct.end(RunEnd(status="cancelled", code="run.no_slot", message=message))
            raise RemitError("run.no_slot", message)
        services.telemetry.emit(RunStarted(run=run))
        return direct


class DirectRun:
    """A stretch of direct calls. To be ended."""

    def __init__(self, services: GateServices, gate: Gate, rules: Rules, run: Run) -> None:
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
        self._waiting: dict[tuple[str, str], int] = {}

    async def call(self, tool: str, args: Json, call_id: str = "") -> Outcome:
        """What became of a call. The same one, made again after it waited for a person, is the one that was asked for."""
        key = (tool, actions.tool_call(self._place(0), tool, call_id, args).args.decode())
        step = self._waiting.pop(key, None)
        if step is None:
            self._steps += 1
            step = self._steps
        action = actions.tool_call(self._place(step), self._rules.name_of(tool), call_id, args)
        outcome = await self._gate.perform(action, self._governed)
        if isinstance(outcome, Suspended):
            self._waiting[key] = step
        return outcome

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
