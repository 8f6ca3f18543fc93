"""Near a cap: output tokens are lowered to fit, days end where their zone says, what nobody hears of is spent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.adapters.prices import PriceBook
from remit.core import actions
from remit.core.actions import ModelCall, Place, Principal, TaskSource
from remit.core.messages import Message, ModelRequest, Text, Usage
from remit.core.runs import Run
from remit.governance import bounds, budget
from remit.governance.budget import OUTPUT_TOKENS_MIN, TenantCap
from remit.governance.compiler import parse
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.rules import Rules
from remit.ports.effects import EffectFailed
from remit.ports.journal import AuditQuery
from remit.runtime.runner import Runner
from remit.testing.fakes import FakeClock, FixedPrices, FunctionTools, NoTelemetry, ScriptedModel, says
from remit.testing.memory_journal import MemoryJournal

MODEL = "claude-sonnet-4-20260514"
CONFIG = """agent:
  name: a
  model: m
  allowed_tools: []
  max_output_tokens: 4096
  cost_controls: {max_daily_spend_usd: %s, max_cost_per_run_usd: 2.00, timezone: %s}
"""


def call(text: str, max_output_tokens: int) -> ModelCall:
    request = ModelRequest(
        model=MODEL,
        system="",
        messages=(Message(role="user", parts=(Text(text=text),)),),
        tools=(),
        max_output_tokens=max_output_tokens,
    )
    place = Place(run_id="r", step=1, name="m1", principal=Principal(kind="user", id="u"))
    return actions.model_call(place, request, ("d",))


@given(st.integers(0, 200_000_000), st.integers(1, 20_000))
def test_a_capped_call_fits_what_is_left_and_uses_all_of_it(left: int, max_output_tokens: int) -> None:
    prices = PriceBook()
    action = call("hello", max_output_tokens)
    capped = budget.capped(action, left, prices)
    if capped is None:
        least = min(OUTPUT_TOKENS_MIN, max_output_tokens)
        too_dear = prices.worst_cost(MODEL, bounds.input_tokens_max(action.request), least) > left
        assert too_dear or max_output_tokens <= OUTPUT_TOKENS_MIN
        return
    tokens = capped.request.max_output_tokens
    assert capped.digest == action.digest  # the same action, within narrower bounds
    assert OUTPUT_TOKENS_MIN <= tokens < max_output_tokens
    assert prices.worst_cost(MODEL, *budget.call_bounds(capped)) <= left
    if tokens + 1 < max_output_tokens:
        assert prices.worst_cost(MODEL, bounds.input_tokens_max(action.request), tokens + 1) > left


def runner(
    cap: str, zone: str, clock: FakeClock, tenant: TenantCap | None = None
) -> tuple[Runner, ScriptedModel, MemoryJournal]:
    journal = MemoryJournal(clock)
    model = ScriptedModel([says("one"), says("two"), says("three")])
    tools = FunctionTools([])
    services = GateServices(
        journal=journal,
        prices=FixedPrices({"m": 1_000_000}),
        clock=clock,
        telemetry=NoTelemetry(),
        tenant_cap=tenant,
    )
    rules = Rules(parse(CONFIG % (cap, zone), "a.yaml", ()), ())
    return Runner(services, Gate(services, Effects(model=model, tools=tools)), rules), model, journal


async def test_a_call_near_the_cap_gets_fewer_output_tokens_and_its_record_says_so() -> None:
    clock = FakeClock()
    runs, model, journal = runner("1.50", "UTC", clock)  # 1.50 USD are 1,500 tokens at this price
    principal = Principal(kind="user", id="u")
    result = await runs.run("hello", principal)
    assert result.end.status == "succeeded"
    assert OUTPUT_TOKENS_MIN <= model.requests[0].max_output_tokens < 500
    (intent, *_) = await journal.audit(AuditQuery(kind="intent"))
    assert f'"max_output_tokens":{model.requests[0].max_output_tokens}'.encode() in intent.body


@pytest.mark.parametrize(
    ("usd", "status", "code"),
    [("50.00", "failed", "model.truncated"), ("1.50", "refused", "budget.exhausted")],
)
async def test_a_short_reply_that_was_cut_off_is_blamed_on_money_where_money_was_short(
    usd: str, status: str, code: str
) -> None:
    """Regression: a reply that a full context cut off counted as a cap that was reached."""
    cut_off = replace(says("so", usage=Usage(input_tokens=100, output_tokens=10)), stop="max_tokens")
    clock = FakeClock()
    prices = FixedPrices({"m": 100_000 if usd == "50.00" else 1_000_000})
    services = GateServices(journal=MemoryJournal(clock), prices=prices, clock=clock, telemetry=NoTelemetry())
    gate = Gate(services, Effects(model=ScriptedModel([cut_off]), tools=FunctionTools([])))
    runs = Runner(services, gate, Rules(parse(CONFIG % (usd, "UTC"), "a.yaml", ()), ()))
    end = (await runs.run("hello", Principal(kind="user", id="u"))).end
    assert (end.status, end.code) == (status, code)


async def test_a_refusal_names_the_scope_what_is_left_and_when_it_resets() -> None:
    clock = FakeClock(now_us=int(datetime(2026, 3, 28, 22, 30, tzinfo=UTC).timestamp()) * 1_000_000)
    runs, model, _ = runner("0.50", "Europe/Berlin", clock)
    result = await runs.run("hello", Principal(kind="user", id="u"))
    assert (result.end.status, result.end.code) == ("refused", "budget.exhausted")
    assert "day:default/a/2026-03-28" in result.end.message
    assert model.requests == []


@pytest.mark.parametrize(
    ("at", "day", "hours_left"),
    [
        (datetime(2026, 3, 29, 0, 0, tzinfo=UTC), "2026-03-29", 22),  # summer time begins: 23 hours
        (datetime(2026, 10, 24, 22, 0, tzinfo=UTC), "2026-10-25", 25),  # it ends: 25 hours
        (datetime(2026, 11, 22, 23, 30, tzinfo=UTC), "2026-11-23", 23.5),
    ],
)
def test_a_day_is_the_zones_own_also_when_its_clocks_change(
    at: datetime, day: str, hours_left: float
) -> None:
    remit = parse(CONFIG % ("5", "Europe/Berlin"), "a.yaml", ())
    at_us = int(at.timestamp()) * 1_000_000
    run = _run()
    (_, of_day) = budget.holds(run, remit, at_us, None)
    assert of_day.scope.endswith(day)
    assert of_day.resets_in_s(at_us) == hours_left * 3600


async def test_a_tenants_day_is_a_third_scope_over_all_agents() -> None:
    clock = FakeClock()
    tenant = TenantCap(day_nano_usd=1_000_000)
    runs, model, _ = runner("50", "UTC", clock, tenant)
    result = await runs.run("hello", Principal(kind="user", id="u", tenant="t"))
    assert result.end.code == "budget.exhausted"
    assert "REMIT_TENANT_DAILY_USD" in result.end.message
    assert "tenant:t/" in result.end.message
    assert model.requests == []


def _run() -> Run:

    principal = Principal(kind="user", id="u")
    return Run(
        id="r",
        tenant="default",
        agent="a",
        remit_digest="d",
        task=TaskSource(principal=principal, text="t", digest="d"),
        trace_id="0" * 32,
        created_at_us=0,
        deadline_us=1,
    )


async def test_a_failure_that_says_less_than_nothing_was_used_gives_no_money_back() -> None:
    """Regression: a failed call with a usage below zero lowered what had been spent."""
    clock = FakeClock()
    journal = MemoryJournal(clock)
    model = ScriptedModel([EffectFailed("model.failed", "no", usage=Usage(input_tokens=-5000))])
    services = GateServices(
        journal=journal, prices=FixedPrices({"m": 1000}), clock=clock, telemetry=NoTelemetry()
    )
    gate = Gate(services, Effects(model=model, tools=FunctionTools([])))
    runner = Runner(services, gate, Rules(parse(CONFIG % ("5.00", "UTC"), "a.yaml", ()), ()))
    await runner.run("hello", Principal(kind="user", id="u"))
    for balance in await journal.balances():
        assert balance.spent_nano_usd == balance.presumed_nano_usd > 0
