"""Tools called without a model: through the gate, under a remit that no worker takes for its own."""

from __future__ import annotations

from typing import Any

import pytest

from remit.core.actions import Principal
from remit.core.errors import RemitError
from remit.core.outcomes import Done, Refused, Suspended
from remit.core.runs import RunEnd
from remit.core.tools import ToolSpec
from remit.governance import votes
from remit.governance.compiler import parse
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.rules import Rules
from remit.runtime.direct import DirectCalls, DirectRun
from remit.runtime.runner import Runner
from remit.testing.fakes import FakeClock, FixedPrices, FunctionTools, RecordingTelemetry, ScriptedModel
from remit.testing.memory_journal import MemoryJournal, MemoryStore

FILE = """agent:
  name: a
  model: m
  allowed_tools: [look, pay]
  max_concurrent_runs: 1
  rate_limits: {max_looks_per_hour: 2}
  approvals: [{tool: pay, when: {usd: {gt: 10}}}]
  cost_controls: {max_daily_spend_usd: 1, max_cost_per_run_usd: 1}
"""
ARGS = {"type": "object", "properties": {"usd": {"type": "integer"}}, "additionalProperties": False}
LOOK = ToolSpec(name="look", description="l", args_schema=ARGS, effect="read", rate_group="looks")
PAY = ToolSpec(name="pay", description="p", args_schema=ARGS, effect="write")
WHO = Principal(kind="user", id="ana")


class World:
    def __init__(self, slots: int = 1) -> None:
        self.clock = FakeClock()
        self.journal = MemoryJournal(self.clock, MemoryStore())
        self.paid: list[Any] = []
        services = GateServices(
            journal=self.journal,
            prices=FixedPrices({"m": 1}),
            clock=self.clock,
            telemetry=RecordingTelemetry(),
        )
        tools = FunctionTools([(LOOK, self._look), (PAY, self._pay)])
        gate = Gate(services, Effects(model=ScriptedModel([]), tools=tools))
        file = FILE.replace("max_concurrent_runs: 1", f"max_concurrent_runs: {slots}")
        self.remit = parse(file, "a.yaml", (LOOK, PAY))
        self.runner = Runner(services, gate, Rules(self.remit, tools.specs))
        self.direct = DirectCalls(services, gate, self.remit, tools.specs)

    async def _look(self, _args: Any, _context: Any) -> Any:
        return {"seen": True}

    async def _pay(self, args: Any, _context: Any) -> Any:
        self.paid.append(args)
        return {"paid": True}

    async def begin(self) -> DirectRun:
        return await self.direct.begin(WHO, "by hand")

    async def approve(self, approval_id: str) -> None:
        await self._decide(approval_id, approves=True)

    async def deny(self, approval_id: str) -> None:
        await self._decide(approval_id, approves=False)

    async def _decide(self, approval_id: str, *, approves: bool) -> None:
        approval = await self.journal.approval(approval_id)
        assert approval is not None
        record = await self.journal.run(approval.run_id)
        assert record is not None
        verdict = votes.Verdict(approves=approves, reason="r", edited=None)
        boss = Principal(kind="user", id="boss")
        vote, audit = votes.vote(approval, record.run, boss, verdict, self.clock.now_us())
        assert await self.journal.decide_approval(vote, audit)


@pytest.fixture
def world() -> World:
    return World()


async def test_calls_are_decided_limited_and_recorded(world: World) -> None:
    run = await world.begin()
    assert isinstance(await run.call("look", {}), Done)
    assert isinstance(await run.call("look", {}), Done)
    limited = await run.call("look", {})
    unknown = await run.call("drop", {})
    wrong = await run.call("look", {"euro": 1})
    codes = [one.decision.code for one in (limited, unknown, wrong) if isinstance(one, Refused)]
    assert codes == ["rate.limited", "tool.not_granted", "args.invalid"]
    await run.end(RunEnd(status="succeeded"))
    (record,) = await world.journal.runs()
    assert (record.status, record.run.principal.id, record.run.task.text) == ("succeeded", "ana", "by hand")
    assert len(await world.journal.calls(run.run.id)) == 2
    assert len(await world.journal.refusals(run.run.id)) == 3


async def test_what_waited_for_a_person_is_done_once_when_it_is_asked_for_again(world: World) -> None:
    run = await world.begin()
    asked = await run.call("pay", {"usd": 50})
    assert isinstance(asked, Suspended)
    assert isinstance(await run.call("pay", {"usd": 51}), Suspended)
    assert isinstance(await run.call("pay", {"usd": 50}), Suspended)
    assert world.paid == []
    await world.approve(asked.approval_id)
    assert isinstance(await run.call("pay", {"usd": 50}), Done)
    assert isinstance(await run.call("pay", {"usd": 51}), Suspended)
    # an approval is for one call: the next of the same words waits again
    assert isinstance(await run.call("pay", {"usd": 50}), Suspended)
    assert world.paid == [{"usd": 50}]


async def test_it_holds_a_slot_and_is_ended(world: World) -> None:
    run = await world.begin()
    with pytest.raises(RemitError, match="1 runs under way") as raised:
        await world.begin()
    assert raised.value.code == "run.no_slot"
    await run.end(RunEnd(status="succeeded"))
    await (await world.begin()).end(RunEnd(status="succeeded"))
    # what has ended performs nothing
    late = await run.call("pay", {"usd": 1})
    assert isinstance(late, Refused)
    assert world.paid == []


async def test_neither_a_worker_nor_a_person_can_make_a_model_go_on_with_it(world: World) -> None:
    run = await world.begin()
    await world.runner._return_unattended()  # it is this process's, and no run of the runner's
    (record,) = await world.journal.runs()
    assert record.status == "running"
    await run.end(RunEnd(status="suspended", code="run.interrupted", message="as if its process had died"))
    remit, now_us = world.remit, world.clock.now_us()
    assert await world.journal.ready_runs(remit.agent, remit.digest, now_us) == []
    with pytest.raises(RemitError) as raised:
        await world.runner.resume(run.run.id)
    assert raised.value.code == "remit.changed"
