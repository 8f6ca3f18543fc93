"""Retries: Retry-After is obeyed, deadlines are kept, storms are stopped, other models take over."""

from __future__ import annotations

from typing import Any

import pytest

from remit.core.actions import Principal
from remit.core.messages import ModelReply, ModelRequest, Usage
from remit.core.tools import ToolSpec
from remit.governance.compiler import parse
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.rules import Rules
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.journal import AuditQuery
from remit.ports.services import FirstText, TextSink
from remit.runtime.health import FAILURES_MAX, PAUSE_S, RETRIES_MAX, Health
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
  model: claude-1
  fallback_models: [claude-2, gpt-3]
  max_retries: 3
  allowed_tools: [work]
  timeouts: {run_s: 100}
  cost_controls: {max_daily_spend_usd: 50, max_cost_per_run_usd: 5}
"""
WORK = ToolSpec(name="work", description="Works.", args_schema={"type": "object", "properties": {}})
WHO = Principal(kind="user", id="u")


def busy(retry_after_s: float | None = None) -> EffectFailed:
    return EffectFailed("model.unavailable", "busy", retryable=True, retry_after_s=retry_after_s)


class Scene:
    def __init__(self, replies: list[ModelReply | EffectFailed], file: str = FILE, model: Any = None) -> None:
        self.clock = FakeClock()
        self.journal = MemoryJournal(self.clock)
        self.model = model or ScriptedModel(replies)
        self.telemetry = RecordingTelemetry()
        self.tools = FunctionTools([(WORK, self._work)])
        services = GateServices(
            journal=self.journal,
            prices=FixedPrices({"claude-1": 1, "claude-2": 1, "gpt-3": 1}),
            clock=self.clock,
            telemetry=self.telemetry,
        )
        gate = Gate(services, Effects(model=self.model, tools=self.tools))
        self.runner = Runner(services, gate, Rules(parse(file, "f.yaml", (WORK,)), (WORK,)))

    async def _work(self, args: Any, context: CallContext) -> Any:
        return {"ok": True}

    @property
    def asked(self) -> list[str]:
        return [request.model for request in self.model.requests]


ALONE = FILE.replace("  fallback_models: [claude-2, gpt-3]\n", "")


async def test_retry_after_is_the_least_wait() -> None:
    scene = Scene([busy(retry_after_s=17), says("done")], ALONE)
    assert (await scene.runner.run("t", WHO)).end.status == "succeeded"
    assert scene.clock.slept == [17]


async def test_a_retry_that_would_come_after_the_deadline_is_not_waited_for() -> None:
    scene = Scene([busy(retry_after_s=3 * 86_400)], ALONE)
    result = await scene.runner.run("t", WHO)
    assert (result.end.status, result.end.code, result.attempts) == ("failed", "model.unavailable", 1)
    assert "deadline" in result.end.message
    assert scene.clock.slept == []


async def test_where_a_model_is_not_available_the_next_one_is_asked_at_once() -> None:
    scene = Scene([busy(), busy(), says("done")])
    result = await scene.runner.run("t", WHO)
    assert result.end.status == "succeeded"
    assert scene.asked == ["claude-1", "claude-2", "gpt-3"]
    assert scene.clock.slept == [0, 0]
    intents = await scene.journal.audit(AuditQuery(kind="intent"))
    assert [b"fallback_models" in entry.body for entry in intents][:3] == [False, True, True]


async def test_after_a_tool_was_called_no_other_model_takes_over() -> None:
    scene = Scene([calls(("work", {})), busy(), says("done")])
    assert (await scene.runner.run("t", WHO)).end.status == "succeeded"
    assert scene.asked == ["claude-1"] * 3
    assert scene.tools.called == [("work", {})]


class Shower:
    """A model that shows half of a reply and then breaks, once."""

    def __init__(self) -> None:
        self.requests: list[ModelRequest] = []

    async def complete(self, request: ModelRequest, on_text: TextSink | None = None) -> ModelReply:
        self.requests.append(request)
        assert on_text is not None
        if len(self.requests) == 1:
            on_text("half")
            raise EffectFailed("model.unavailable", "cut", retryable=True, usage=Usage(input_tokens=5))
        on_text("who")
        on_text("le")
        return says("whole")


class Shown:
    def __init__(self) -> None:
        self.events: list[tuple[str, int, str]] = []

    def text(self, attempt: int, text: str) -> None:
        self.events.append(("text", attempt, text))

    def reset(self, attempt: int) -> None:
        self.events.append(("reset", attempt, ""))


async def test_what_was_shown_of_a_failed_attempt_is_reset_and_no_other_model_takes_over() -> None:
    shower, shown = Shower(), Shown()
    scene = Scene([], FILE, shower)
    result = await scene.runner.run("t", WHO, shown)
    assert result.end.answer == "whole"
    assert [request.model for request in shower.requests] == ["claude-1", "claude-1"]
    assert shown.events == [("text", 1, "half"), ("reset", 1, ""), ("text", 2, "who"), ("text", 2, "le")]
    first = [event for event in scene.telemetry.events if isinstance(event, FirstText)]
    assert [event.model for event in first] == ["claude-1", "claude-1"]
    assert result.cost_nano_usd == 5 + 110  # the cut attempt was billed, and is counted


async def test_a_failure_that_a_retry_cannot_mend_is_not_retried() -> None:
    scene = Scene([EffectFailed("model.failed", "bad request")])
    result = await scene.runner.run("t", WHO)
    assert (result.end.code, result.attempts, scene.asked) == ("model.failed", 1, ["claude-1"])


def test_a_breaker_opens_after_failures_in_a_row_and_lets_one_call_through_after_its_pause() -> None:
    clock = FakeClock()
    health = Health(clock)
    for _ in range(FAILURES_MAX - 1):
        health.heard("claude-1", available=False)
    assert health.blocked_s("claude-1") == 0
    health.heard("claude-1", available=False)
    assert health.blocked_s("claude-2") == PAUSE_S  # the provider is blocked, not the model
    assert health.blocked_s("gpt-3") == 0
    clock.advance(PAUSE_S)
    assert health.blocked_s("claude-1") == 0  # the one that is let through
    assert health.blocked_s("claude-1") == PAUSE_S
    health.heard("claude-1", available=True)
    assert health.blocked_s("claude-1") == 0


def test_retries_are_a_tenth_of_the_calls_in_the_long_run() -> None:
    health = Health(FakeClock())
    taken = 0
    for _ in range(1000):
        health.heard("claude-1", available=True)
        taken += health.take_retry("claude-1")
    assert 100 <= taken <= 100 + RETRIES_MAX


@pytest.mark.parametrize("runs", [20])
async def test_many_failing_runs_cause_no_storm(runs: int) -> None:
    scene = Scene([busy()] * 1000, ALONE)
    for _ in range(runs):
        await scene.runner.run("t", WHO)
    # without breaker and budget it would be four calls a run
    assert len(scene.asked) < runs * 2
