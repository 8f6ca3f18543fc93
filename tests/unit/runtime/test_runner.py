"""A run always ends recorded: by an answer, a limit, a failure, a wait or a cancellation."""

from __future__ import annotations

import asyncio
from typing import Any

from remit.core.actions import Principal
from remit.core.messages import ModelReply
from remit.core.tools import ToolSpec
from remit.governance.compiler import parse
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.rules import Rules
from remit.ports.effects import CallContext, EffectFailed
from remit.runtime.loop import BAD_TURNS_MAX
from remit.runtime.runner import Runner
from remit.testing.fakes import (
    FakeClock,
    FixedPrices,
    FunctionTools,
    RecordingTelemetry,
    ScriptedModel,
    calls,
    says,
)
from remit.testing.memory_journal import MemoryJournal

FILE = """agent:
  name: a
  model: m
  max_retries: 3
  max_steps: 6
  max_concurrent_runs: 2
  allowed_tools: [work]
  cost_controls: {max_daily_spend_usd: 5, max_cost_per_run_usd: 1}
"""
WORK = ToolSpec(
    name="work",
    description="w",
    args_schema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
)
WHO = Principal(kind="user", id="u")
BUSY = EffectFailed("model.unavailable", "busy", retryable=True)


class Scene:
    def __init__(self, replies: list[ModelReply | EffectFailed], work: Any = None) -> None:
        self.clock = FakeClock()
        self.journal = MemoryJournal(self.clock)
        self.model = ScriptedModel(replies)
        self.tools = FunctionTools([(WORK, work or self._work)])
        services = GateServices(
            journal=self.journal,
            prices=FixedPrices({"m": 1}),
            clock=self.clock,
            telemetry=RecordingTelemetry(),
        )
        gate = Gate(services, Effects(model=self.model, tools=self.tools))
        self.runner = Runner(services, gate, Rules(parse(FILE, "f.yaml", (WORK,)), (WORK,)))

    async def _work(self, args: Any, context: CallContext) -> Any:
        return {"n": args["n"]}

    async def status(self) -> tuple[str, str]:
        (record,) = await self.journal.runs()
        assert record.end is not None
        return record.status, record.end.code


async def test_retries_wait_1_2_4_seconds_and_repeat_no_finished_effect() -> None:
    scene = Scene([calls(("work", {"n": 1})), BUSY, BUSY, BUSY, says("done")])
    result = await scene.runner.run("t", WHO)
    assert (result.end.status, result.attempts) == ("succeeded", 4)
    for slept, due in zip(scene.clock.slept, (1, 2, 4), strict=True):
        assert due <= slept <= due * 1.25  # a quarter more at most, so that runs do not return together
    assert scene.tools.called == [("work", {"n": 1})]


async def test_after_its_retries_a_run_has_failed() -> None:
    scene = Scene([BUSY] * 9)
    result = await scene.runner.run("t", WHO)
    assert (result.attempts, len(scene.model.requests)) == (4, 4)
    assert await scene.status() == ("failed", "model.unavailable")


async def test_steps_are_limited() -> None:
    scene = Scene([calls(("work", {"n": index})) for index in range(20)])
    await scene.runner.run("t", WHO)
    assert await scene.status() == ("refused", "steps.exhausted")
    assert len(scene.model.requests) == 6


async def test_a_model_of_bad_calls_alone_is_given_up() -> None:
    scene = Scene([calls(("work", {"n": "x"}), ("nothing", {}))] * 20)
    await scene.runner.run("t", WHO)
    assert await scene.status() == ("failed", "model.bad_calls")
    assert len(scene.model.requests) == BAD_TURNS_MAX


async def test_calls_of_a_turn_run_side_by_side() -> None:
    together = asyncio.Barrier(3)

    async def work(args: Any, context: CallContext) -> Any:
        await together.wait()
        return args

    uses = [("work", {"n": index}) for index in range(3)]
    scene = Scene([calls(*uses), says("done")], work)
    result = await scene.runner.run("t", WHO)
    assert result.end.status == "succeeded"


async def test_a_cancelled_run_ends_cancelled_once_all_its_calls_have_ended() -> None:
    entered = asyncio.Barrier(3)
    cleaned: list[int] = []

    async def work(args: Any, context: CallContext) -> Any:
        try:
            await entered.wait()
            await asyncio.Event().wait()
        finally:
            for _ in range(args["n"] * 10):
                await asyncio.sleep(0)
            cleaned.append(args["n"])

    scene = Scene([calls(("work", {"n": 0}), ("work", {"n": 5}))], work)
    task = asyncio.ensure_future(scene.runner.run("t", WHO))
    await entered.wait()
    task.cancel()
    ended = (await asyncio.gather(task, return_exceptions=True))[0]
    assert isinstance(ended, asyncio.CancelledError)
    assert cleaned == [0, 5]
    assert await scene.status() == ("cancelled", "run.cancelled")
    (run,) = await scene.journal.runs()
    assert {call.state for call in await scene.journal.calls(run.run.id)} == {"done", "unknown"}
    await scene.journal.close()


async def test_a_cancelled_run_stays_cancelled_when_the_journal_has_closed() -> None:
    entered = asyncio.Event()

    async def work(args: Any, context: CallContext) -> Any:
        entered.set()
        await asyncio.Event().wait()

    scene = Scene([calls(("work", {"n": 0}))], work)
    task = asyncio.ensure_future(scene.runner.run("t", WHO))
    await entered.wait()
    await scene.journal.close()
    task.cancel()
    ended = (await asyncio.gather(task, return_exceptions=True))[0]
    assert isinstance(ended, asyncio.CancelledError)


async def test_no_more_runs_at_once_than_the_remit_allows() -> None:
    running, most = 0, 0

    async def work(args: Any, context: CallContext) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        return args

    class Loop(ScriptedModel):
        async def complete(self, request: Any, on_text: Any = None) -> ModelReply:
            return calls(("work", {"n": 1})) if len(request.messages) == 1 else says("done")

    scene = Scene([], work)
    services = GateServices(
        journal=scene.journal, prices=FixedPrices({"m": 1}), clock=scene.clock, telemetry=RecordingTelemetry()
    )
    rules = Rules(parse(FILE, "f.yaml", (WORK,)), (WORK,))
    runner = Runner(services, Gate(services, Effects(model=Loop([]), tools=scene.tools)), rules)
    results = await asyncio.gather(*(runner.run("t", WHO) for _ in range(10)))
    assert {result.end.status for result in results} == {"succeeded"}
    assert most == 2
