"""A run that goes on, by another gate and runner on the same store, repeats nothing and is told the same again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from remit.core.actions import Principal
from remit.core.approvals import Vote
from remit.core.errors import RemitError
from remit.core.messages import Attachment, ModelReply
from remit.core.tools import ToolSpec
from remit.governance.compiler import parse
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.resolutions import Finding, resolution
from remit.governance.rules import Rules
from remit.ports.effects import CallContext, EffectFailed
from remit.runtime.runner import Runner, RunResult
from remit.testing.fakes import (
    FakeClock,
    FixedPrices,
    FunctionTools,
    RecordingTelemetry,
    ScriptedModel,
    calls,
    says,
)
from remit.testing.journal_values import ending_of
from remit.testing.memory_journal import MemoryJournal
from remit.testing.memory_store import MemoryStore

FILE = """agent:
  name: a
  model: m
  fallback_models: [n]
  max_retries: 3
  allowed_tools: [work, pay]
  rate_limits: {max_works_per_minute: 1}
  approvals: [{tool: pay, when: {n: {gt: 10}}, reason: dear, expires_s: 1000}]
  timeouts: {run_s: 100}
  cost_controls: {max_daily_spend_usd: 5, max_cost_per_run_usd: 1}
"""
_ARGS = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}
WORK = ToolSpec(name="work", description="w", args_schema=_ARGS, effect="read", rate_group="works")
PAY = ToolSpec(name="pay", description="p", args_schema=_ARGS)
WHO = Principal(kind="user", id="u")
BUSY = EffectFailed("model.unavailable", "busy", retryable=True)


class World:
    """One store; each `runner` is another process's, with a model and tools of its own."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore()
        self.telemetry = RecordingTelemetry()
        self.paid: list[Any] = []
        self.breaks = False

    def runner(self, *replies: ModelReply | EffectFailed, file: str = FILE) -> tuple[Runner, ScriptedModel]:
        model = ScriptedModel(list(replies))
        journal = MemoryJournal(self.clock, self.store)
        services = GateServices(
            journal=journal,
            prices=FixedPrices({"m": 1, "n": 1}),
            clock=self.clock,
            telemetry=self.telemetry,
        )
        tools = FunctionTools([(WORK, self._work), (PAY, self._pay)])
        gate = Gate(services, Effects(model=model, tools=tools))
        return Runner(services, gate, Rules(parse(file, "f.yaml", (WORK, PAY)), (WORK, PAY))), model

    @property
    def journal(self) -> MemoryJournal:
        return MemoryJournal(self.clock, self.store)

    async def decide(self, *, approves: bool = True) -> None:
        """Somebody decides the only approval."""
        (asked,) = self.store.approvals.values()
        vote = Vote(
            approval_id=asked.id,
            approves=approves,
            by="user:alice",
            at_us=self.clock.now_us(),
            digest=asked.digest,
            reason="because",
        )
        assert await self.journal.decide_approval(vote, b"{}") is not None

    async def _work(self, args: Any, context: CallContext) -> Any:
        return {"n": args["n"], "z": 1.0, "a": [1e3]}

    async def _pay(self, args: Any, context: CallContext) -> Any:
        self.paid.append(args)
        if self.breaks:
            raise OSError("the line is dead")
        return {"paid": args["n"]}


def told(model: ScriptedModel) -> str:
    """What the model was shown last."""
    return str(model.requests[-1].messages[-1].parts)


async def waiting(world: World, *replies: ModelReply | EffectFailed) -> RunResult:
    """A run that waits for an approval of `pay 20`."""
    runner, _ = world.runner(*replies, calls(("pay", {"n": 20.0})))
    result = await runner.run("t", WHO)
    assert result.end.code == "approval.required", result.end
    return result


async def test_a_refusal_by_a_window_that_has_room_again_is_told_again_and_not_done() -> None:
    world = World()
    first = await waiting(world, calls(("work", {"n": 1}), ("work", {"n": 2})))
    before = [call.action_id for call in await world.journal.calls(first.run.id)]
    world.clock.advance(600)  # long after: the window has room, and the run's own time has not passed
    await world.decide()
    runner, model = world.runner(says("done"))
    result = await runner.resume(first.run.id)
    assert (result.end.status, result.end.answer) == ("succeeded", "done")
    assert world.paid == [{"n": 20.0}]
    assert len(model.requests) == 1
    after = [call.action_id for call in await world.journal.calls(first.run.id)]
    assert after[: len(before)] == before
    assert [one.partition(".")[2] for one in after[len(before) :]] == ["2.t0", "3.m1", "3.answer"]
    assert "rate_limits" in str(model.requests[0].messages)


async def test_attempts_that_failed_are_neither_repeated_nor_waited_for() -> None:
    world = World()
    first = await waiting(world, BUSY, BUSY)
    slept = len(world.clock.slept)
    await world.decide(approves=False)
    runner, model = world.runner(says("done"))
    result = await runner.resume(first.run.id)
    assert (result.end.status, len(world.clock.slept)) == ("succeeded", slept)
    assert "because" in told(model)
    assert world.paid == []
    (request,) = model.requests
    # the run had failed over to another model, and stays with it
    made = await world.journal.calls(first.run.id)
    assert [call.resource for call in made if call.kind == "model"][-1] == request.model


async def test_what_a_person_has_not_decided_in_time_is_told_to_the_model() -> None:
    world = World()
    first = await waiting(world)
    assert await ready_in(world, first) == []
    world.clock.advance(1000)
    assert await ready_in(world, first) == [first.run.id]
    runner, model = world.runner(says("done"))
    assert (await runner.resume(first.run.id)).end.status == "succeeded"
    assert "expired" in told(model)
    assert world.paid == []


async def test_of_two_that_resume_one_goes_on() -> None:
    world = World()
    first = await waiting(world)
    await world.decide()
    runners = [world.runner(says("done"))[0] for _ in range(2)]
    ended = await asyncio.gather(*(runner.resume(first.run.id) for runner in runners), return_exceptions=True)
    assert sorted(type(one).__name__ for one in ended) == ["RemitError", "RunResult"]
    assert len(world.paid) == 1


async def test_a_run_goes_on_under_its_own_remit_alone() -> None:
    world = World()
    first = await waiting(world)
    await world.decide()
    runner, _ = world.runner(says("done"), file=FILE.replace("dear", "very dear"))
    with pytest.raises(RemitError, match=r"remit\.changed"):
        await runner.resume(first.run.id)
    record = await world.journal.run(first.run.id)
    assert record is not None
    assert record.status == "suspended"


async def test_what_is_attached_is_there_again() -> None:
    world = World()
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    runner, _ = world.runner(calls(("pay", {"n": 20})))
    picture = Attachment(media_type="image/png", data=pixel, name="p.png")
    first = await runner.run("t", WHO, attachments=(picture,))
    await world.decide()
    runner, model = world.runner(says("done"))
    assert (await runner.resume(first.run.id)).end.status == "succeeded"
    assert picture in model.requests[0].messages[0].parts


async def test_a_run_that_is_handed_over_goes_on_where_it_was() -> None:
    world = World()
    begun = asyncio.Event()

    class Hanging(ScriptedModel):
        async def complete(self, request: Any, on_text: Any = None) -> ModelReply:
            if len(self.requests) == 1:
                begun.set()
                await asyncio.Event().wait()
            return await super().complete(request, on_text)

    runner, model = world.runner(calls(("pay", {"n": 1})))
    model.__class__ = Hanging
    task = asyncio.create_task(runner.run("t", WHO))
    await begun.wait()
    runner.hand_over()
    result = await task
    assert (result.end.status, result.end.code) == ("suspended", "run.handed_over")
    runner, model = world.runner(says("done"))
    assert await ready_in(world, result) == [result.run.id]
    assert (await runner.resume(result.run.id)).end.status == "succeeded"
    assert world.paid == [{"n": 1}]


@pytest.mark.parametrize("happened", [True, False])
async def test_an_unknown_effect_waits_for_a_person_and_the_model_is_told(happened: bool) -> None:
    world = World()
    world.breaks = True
    runner, _ = world.runner(calls(("pay", {"n": 1})))
    first = await runner.run("t", WHO)
    assert first.end.code == "effect.unknown"
    (call,) = await world.journal.unresolved()
    runner, model = world.runner(says("done"))
    assert (await runner.resume(first.run.id)).end.code == "effect.unknown"  # it still waits, and asks nobody
    assert model.requests == []
    finding = Finding(happened=happened, by=Principal(kind="user", id="p"), reason="I looked")
    assert await world.journal.resolve(resolution(call, first.run, finding, world.clock.now_us()))
    world.breaks = False
    runner, model = world.runner(calls(("pay", {"n": 1})), says("done"))
    assert (await runner.resume(first.run.id)).end.status == "succeeded"
    said = str(model.requests[0].messages[-1])
    assert "I looked" in said
    assert ("do not repeat it" in said) == happened
    assert len(world.paid) == 2  # the second is another call, with another record, which this model wanted


async def test_a_call_without_a_record_that_the_model_went_on_from_is_not_done() -> None:
    world = World()
    first = await waiting(world, calls(("work", {"n": 1}), ("work", {"n": 2})))
    world.store.refusals.clear()  # as if its commit had failed
    world.clock.advance(600)
    await world.decide()
    runner, _ = world.runner(says("done"))
    result = await runner.resume(first.run.id)
    assert (result.end.status, result.end.code) == ("suspended", "action.conflict")
    assert world.paid == []


async def test_a_run_that_is_cancelled_elsewhere_ends_its_tool() -> None:
    world = World()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hang(args: Any, context: CallContext) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    world._work = hang  # type: ignore[method-assign]
    runner, _ = world.runner(calls(("work", {"n": 1})))
    task = asyncio.create_task(runner.run("t", WHO))
    await begun.wait()
    (run_id,) = world.store.runs
    ending = await _cancelled(world, run_id)
    assert ending
    await runner._stops.poll()
    result = await task
    assert (result.end.status, result.end.message) == ("cancelled", "m")
    assert ended.is_set()
    assert [call.state for call in await world.journal.calls(run_id)] == ["done", "failed"]


async def _cancelled(world: World, run_id: str) -> bool:

    return await world.journal.cancel_run(run_id, ending_of("cancelled"), world.clock.now_us())


async def ready_in(world: World, result: RunResult) -> list[str]:
    ready = await world.journal.ready_runs("a", result.run.remit_digest, world.clock.now_us())
    return [one.run_id for one in ready]
