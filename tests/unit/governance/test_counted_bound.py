"""Near the cap a permitted call's tokens are counted by its provider, recorded first; a count is a bound with a margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.adapters.models import AnthropicModel, ModelRouter
from remit.core import actions
from remit.core.actions import ModelCall, Place, Principal
from remit.core.errors import RemitError
from remit.core.messages import Message, ModelReply, ModelRequest, Text, Usage
from remit.governance import bounds, budget
from remit.governance.compiler import parse
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.rules import Rules
from remit.ports.journal import AuditQuery
from remit.runtime.runner import Runner, RunResult
from remit.testing.fakes import FakeClock, FixedPrices, FunctionTools, NoTelemetry, ScriptedModel, says
from remit.testing.memory_journal import MemoryJournal
from remit.testing.model_server import serve

CONFIG = """agent:
  name: a
  model: m
  allowed_tools: []
  max_output_tokens: 1000
  cost_controls: {max_daily_spend_usd: %s, max_cost_per_run_usd: 50.00}
"""
TASK = "word " * 1000
COUNT = 1000
WHO = Principal(kind="user", id="u")


@dataclass
class Counter:
    """Counts what it was told to, and remembers what stood in the journal when it was asked."""

    journal: MemoryJournal
    answer: int | Exception | None
    seen: list[Sequence[str]] = field(default_factory=list)
    is_there: bool = True

    def counts(self, model: str) -> bool:
        return self.is_there

    async def count_tokens(self, request: ModelRequest) -> int | None:
        self.seen.append([record["kind"] for record in await records(self.journal)])
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def records(journal: MemoryJournal) -> list[dict[str, object]]:
    return [orjson.loads(entry.body) for entry in await journal.audit(AuditQuery())]


@dataclass
class Scene:
    """An agent that may spend `usd` a day at 0.001 USD a token."""

    usd: str
    answer: int | Exception | None = COUNT
    reply: ModelReply = field(
        default_factory=lambda: says("done", usage=Usage(input_tokens=1000, output_tokens=5))
    )

    def __post_init__(self) -> None:
        clock = FakeClock()
        self.journal = MemoryJournal(clock)
        self.model = ScriptedModel([self.reply])
        self.counter = Counter(self.journal, self.answer)
        prices = FixedPrices({"m": 1_000_000})
        services = GateServices(journal=self.journal, prices=prices, clock=clock, telemetry=NoTelemetry())
        effects = Effects(model=self.model, tools=FunctionTools([]), counter=self.counter)
        self.runner = Runner(
            services, Gate(services, effects), Rules(parse(CONFIG % self.usd, "a.yaml", ()), ())
        )

    async def run(self) -> RunResult:
        return await self.runner.run(TASK, WHO)


@pytest.mark.parametrize(("usd", "output_tokens"), [("3.00", 1000), ("1.50", 386)])
async def test_a_call_that_does_not_fit_by_its_bytes_fits_by_its_count(usd: str, output_tokens: int) -> None:
    scene = Scene(usd)
    result = await scene.run()
    assert result.end.status == "succeeded"
    assert scene.model.requests[0].max_output_tokens == output_tokens
    assert scene.counter.seen == [["run.created", "count"]]  # on record before anything left
    intent, *_ = [one for one in await records(scene.journal) if one["kind"] == "intent"]
    assert intent["bound"] == "counted"
    assert intent["held_nano_usd"] == (COUNT * 21 // 20 + 64 + output_tokens) * 1_000_000


@pytest.mark.parametrize("answer", [None, 10**6, TimeoutError(), RemitError("internal", "broken")])
async def test_a_count_that_does_not_help_leaves_the_call_refused(answer: int | Exception | None) -> None:
    scene = Scene("3.00", answer)
    result = await scene.run()
    assert result.end.status == "refused"
    assert (len(scene.counter.seen), scene.model.requests) == (1, [])
    assert all(balance.held_nano_usd == 0 for balance in await scene.journal.balances())


async def test_nothing_is_counted_where_the_call_fits_or_is_not_to_be_made() -> None:
    fits = Scene("9.00")
    assert (await fits.run()).end.status == "succeeded"
    paused = Scene("3.00")
    await paused.journal.set_control("agent:default/a", True, "stop", 0, b"{}")
    assert (await paused.run()).end.code == "agent.paused"
    assert fits.counter.seen == paused.counter.seen == []


@pytest.mark.parametrize(("usd", "is_there"), [("0.00", True), ("0.31", True), ("3.00", False)])
async def test_nobody_is_shown_a_call_that_no_count_can_help_and_no_record_says_so(
    usd: str, is_there: bool
) -> None:
    """Regression: with nothing left, a prompt was still sent to be counted; "count" was recorded of OpenAI's too."""
    scene = Scene(usd)
    scene.counter.is_there = is_there
    assert (await scene.run()).end.code == "budget.exhausted"
    assert scene.counter.seen == []
    assert "count" not in [one["kind"] for one in await records(scene.journal)]


@given(st.integers(1, 10**7), st.text(max_size=200))
def test_a_counted_bound_is_never_above_that_of_the_bytes(tokens: int, text: str) -> None:
    request = ModelRequest(
        model="m",
        system="",
        messages=(Message(role="user", parts=(Text(text=text),)),),
        tools=(),
        max_output_tokens=100,
    )
    action: ModelCall = actions.model_call(
        Place(run_id="r", step=1, name="m1", principal=WHO), request, ("d",)
    )
    counted = budget.counted(action, tokens)
    by_bytes, bound = bounds.input_tokens_max(request), bounds.input_tokens_max(counted.request)
    assert bound == min(by_bytes, tokens + tokens // 20 + 64)
    assert budget.is_counted(counted.request)
    assert not budget.is_counted(request)
    assert counted.digest == action.digest


async def test_the_provider_counts_a_whole_request_and_is_not_believed_blindly() -> None:
    request = ModelRequest(
        model="claude-sonnet-4-20260514",
        system="Be brief.",
        messages=(Message(role="user", parts=(Text(text=TASK),)),),
        tools=(),
        max_output_tokens=100,
        cache_prefix=True,
    )
    async with serve() as server:
        claude = AnthropicModel("offline", base_url=server.base_url)
        router = ModelRouter({"claude-*": claude, "m": ScriptedModel([])})
        assert router.counts(request.model)
        assert not router.counts("m")
        tokens = await router.count_tokens(request)
        reply = await router.complete(request)
        assert server.bill["calls"] == 1
        await claude.aclose()
    assert tokens == reply.usage.prompt_tokens
    nobody = AnthropicModel("offline", base_url="http://127.0.0.1:9")
    assert await nobody.count_tokens(request) is None
    await nobody.aclose()
