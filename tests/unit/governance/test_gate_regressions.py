"""Defects that the simulation found in the gate, each by its name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from remit.core import actions
from remit.core.actions import TaskSource, ToolCall
from remit.core.outcomes import Failed, Refused, Suspended, Unknown
from remit.core.runs import Run
from remit.governance.budget import TenantCap
from remit.governance.gate import Effects, Gate, GateServices, GovernedRun
from remit.ports.effects import CallContext
from remit.ports.runs import StartRun
from remit.ports.services import ThresholdCrossed
from remit.testing.fakes import FixedPrices, RecordingTelemetry
from remit.testing.gate_world import PAY_PRICE, PRINCIPAL, MemoryBackend, Process, World


class Scene:
    """One running run in one process, and a tool that does what the test says."""

    def __init__(self) -> None:
        self.world = World(MemoryBackend(), Gate, lambda journal: journal)
        self.process: Process = self.world.process()
        self.count = 0

    async def begin(self, run_id: str = "r") -> GovernedRun:
        rules = self.process.rules
        run = Run(
            id=run_id,
            tenant="default",
            agent="sim",
            remit_digest=rules.remit.digest,
            task=TaskSource(principal=PRINCIPAL, text="t", digest="0" * 64),
            trace_id="0" * 32,
            created_at_us=0,
            deadline_us=2**60,
        )
        journal = self.process.journal.inner
        await journal.create_run(StartRun(run=run, audit=b"{}"))
        await journal.begin_run(run_id, 100, 0)
        return GovernedRun(run=run, rules=rules)

    def call(self, tool: str, run_id: str = "r") -> ToolCall:
        self.count += 1
        place = actions.Place(run_id=run_id, step=1, name=f"t{self.count}", principal=PRINCIPAL)
        self.world.places[place.action_id] = place
        return actions.tool_call(place, tool, "c", {"to": "ann", "amount": 1})

    def balance(self) -> tuple[int, int, int]:
        return self.world.store.witness.balances().get("run:r", (0, 0, 0))


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_cancelled_admission_stays_cancelled_when_the_journal_has_closed(scene: Scene) -> None:
    governed = await scene.begin()
    scene.process.journal.fault = "crash_at_admit_known"
    task = asyncio.ensure_future(scene.process.gate.perform(scene.call("note"), governed))
    scene.process.journal.task = task
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_effect_stays_cancelled_when_the_journal_has_closed(scene: Scene) -> None:
    governed = await scene.begin()
    scene.process.journal.fault = "crash_in_effect"
    scene.world.current = scene.process
    task = asyncio.ensure_future(scene.process.gate.perform(scene.call("note"), governed))
    scene.process.journal.task = task
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_tool_that_exits_does_not_end_the_process(scene: Scene) -> None:
    governed = await scene.begin()
    scene.world.behaviour = "exits"
    outcome = await scene.process.gate.perform(scene.call("pay"), governed)
    assert isinstance(outcome, Unknown)
    assert scene.balance() == (PAY_PRICE, 0, PAY_PRICE)


async def test_a_tool_that_cancels_itself_cancels_nothing_else(scene: Scene) -> None:
    governed = await scene.begin()
    scene.world.behaviour = "cancels_itself"
    outcome = await scene.process.gate.perform(scene.call("note"), governed)
    assert isinstance(outcome, Unknown)
    assert "cancelled itself" in outcome.reason


async def test_a_tool_that_swallows_cancellation_is_recorded_and_the_task_ends_all_the_same(
    scene: Scene,
) -> None:
    governed = await scene.begin()
    started = asyncio.Event()

    class Stubborn(World):
        async def call(self, tool: str, args: Any, context: CallContext) -> Any:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return {"ok": True}

    world = Stubborn(scene.world.store, Gate, lambda journal: journal, clock=scene.world.clock)
    action = scene.call("note")
    task = asyncio.ensure_future(world.process().gate.perform(action, governed))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    recorded = scene.world.store.witness.call(action.id)
    assert recorded is not None
    assert recorded[1] == "done"


async def test_a_priced_read_that_broke_counts_as_spent(scene: Scene) -> None:
    governed = await scene.begin()
    scene.world.behaviour = "raises"
    outcome = await scene.process.gate.perform(scene.call("search"), governed)
    assert isinstance(outcome, Failed)
    assert scene.balance() == (500_000, 0, 500_000)


async def test_an_action_of_another_run_is_denied(scene: Scene) -> None:
    await scene.begin("r")
    other = await scene.begin("other")
    outcome = await scene.process.gate.perform(scene.call("note", "r"), other)
    assert isinstance(outcome, Refused)
    assert scene.world.seen == []


async def test_an_action_whose_run_died_before_its_outcome_is_unknown(scene: Scene) -> None:
    governed = await scene.begin()
    action = scene.call("pay")
    scene.process.journal.fault = "complete_fails"
    assert isinstance(await scene.process.gate.perform(action, governed), Unknown)
    scene.process.journal.fault = "none"
    again = await scene.process.gate.perform(action, governed)
    assert isinstance(again, Refused)
    assert again.decision.code == "action.in_flight"
    await scene.process.journal.inner.interrupt_runs(0)
    assert isinstance(await scene.process.gate.perform(action, governed), Unknown)
    assert len(scene.world.seen) == 1


async def test_a_refusal_that_no_journal_takes_is_a_refusal_still(scene: Scene) -> None:
    governed = await scene.begin()
    scene.process.journal.fault = "record_raises"  # type: ignore[assignment]
    outcome = await scene.process.gate.perform(scene.call("wire"), governed)
    assert isinstance(outcome, Refused)
    assert "not recorded" in outcome.decision.reason


async def test_an_approval_is_asked_for_arguments_of_any_size_of_number(scene: Scene) -> None:
    governed = await scene.begin()
    place = actions.Place(run_id="r", step=1, name="t0", principal=PRINCIPAL)
    action = actions.tool_call(place, "pay", "c", {"to": "ann", "amount": 1e17})
    outcome = await scene.process.gate.perform(action, governed)
    assert isinstance(outcome, Suspended)
    standing = await scene.process.journal.inner.approval_for(action.digest)
    assert standing is not None
    assert action.args in standing.action


async def test_a_threshold_that_a_cancelled_call_crosses_is_told(scene: Scene) -> None:
    """Regression: it was recorded, and neither counted nor logged: nobody waited for the commit."""
    governed = await scene.begin()
    started = asyncio.Event()
    told = RecordingTelemetry()

    class Endless(World):
        async def call(self, tool: str, args: Any, context: CallContext) -> Any:
            started.set()
            await asyncio.Event().wait()

    world = Endless(scene.world.store, Gate, lambda journal: journal, clock=scene.world.clock)
    services = GateServices(
        journal=scene.process.journal,
        prices=FixedPrices({}),
        clock=world.clock,
        telemetry=told,
        tenant_cap=TenantCap(day_nano_usd=PAY_PRICE),
    )
    gate = Gate(services, Effects(model=world, tools=world))
    task = asyncio.ensure_future(gate.perform(scene.call("pay"), governed))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await scene.process.journal.inner.record(b"{}")  # by now what was before it is committed
    crossed = [one.alert.scope for one in told.events if isinstance(one, ThresholdCrossed)]
    assert any(scope.startswith("tenant:") for scope in crossed)
