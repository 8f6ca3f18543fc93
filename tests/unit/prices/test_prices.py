"""The price book: exact, never below what is billed, never zero for what it does not know."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import pytest
from genai_prices import Usage as TableUsage
from genai_prices import calc_price
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.adapters.prices import PriceBook, Rates, Tier
from remit.adapters.prices.rates import dearest
from remit.core.errors import RemitError
from remit.core.messages import Usage
from remit.governance.source import ConfigErrors
from remit.ports.services import Charge

SONNET = "claude-sonnet-4-20260514"
NO_DATES = ("claude-sonnet-4-5", "claude-haiku-5-5", "gpt-5.4", "gpt-6-sol", "gpt-4o", "claude-opus-4-1")
tokens = st.integers(0, 2_000_000)
TIERS = ("", "standard", "default", "priority", "flex", "batch", "fast", "scale", "unknown")
GEOS = ("", "global", "not_available", "us", "eu", "mars")


@st.composite
def usages_on(draw: st.DrawFn, tiers: tuple[str, ...], geos: tuple[str, ...]) -> Usage:
    written = draw(tokens)
    return Usage(
        input_tokens=draw(tokens),
        output_tokens=draw(tokens),
        cache_read_tokens=draw(tokens),
        cache_write_tokens=written,
        cache_write_1h_tokens=draw(st.integers(0, written)),
        service_tier=draw(st.sampled_from(tiers)),
        inference_geo=draw(st.sampled_from(geos)),
    )


usages = usages_on(("",), ("",))
on_any_terms = usages_on(TIERS, GEOS)


@dataclass
class FixedClock:
    at_us: int

    def now_us(self) -> int:
        return self.at_us

    def monotonic_ns(self) -> int:
        return self.at_us * 1000

    def entropy(self, size: int) -> bytes:
        return bytes(size)


BOOK = PriceBook(None)
NOW = datetime(2026, 11, 20, tzinfo=UTC)
BOOK_NOW = PriceBook(None, FixedClock(int(NOW.timestamp()) * 1_000_000))


def cost_of(book: PriceBook, model: str, usage: Usage) -> int:
    return book.charge(model, usage).cost_nano_usd


@st.composite
def tiers_of_a_model(draw: st.DrawFn) -> tuple[Tier, ...]:
    starts = sorted(draw(st.sets(st.integers(0, 2_000_000), max_size=3)))
    cents = st.integers(0, 10**12)
    return tuple(
        Tier(
            above_input_tokens=start,
            input=draw(cents),
            output=draw(cents),
            cache_read=draw(cents),
            cache_write=draw(cents),
            cache_write_1h=draw(cents),
        )
        for start in (-1, *starts)
    )


@st.composite
def rates(draw: st.DrawFn) -> Rates:
    names = draw(st.sets(st.sampled_from(("priority", "flex", "batch")), max_size=2))
    places = draw(st.sets(st.sampled_from(("us", "eu")), max_size=2))
    return Rates(
        tiers=draw(tiers_of_a_model()),
        service_tiers={name: draw(tiers_of_a_model()) for name in sorted(names)},
        geo_percents={place: 100 + draw(st.integers(0, 50)) for place in sorted(places)},
    )


def test_the_model_of_the_governance_file_has_its_price() -> None:
    assert cost_of(BOOK, SONNET, Usage(input_tokens=1_000_000)) == 3_000_000_000
    assert cost_of(BOOK, SONNET, Usage(output_tokens=1_000_000)) == 15_000_000_000
    assert cost_of(BOOK, SONNET, Usage(cache_read_tokens=1_000_000)) == 300_000_000
    assert cost_of(BOOK, SONNET, Usage(cache_write_tokens=1_000_000)) == 3_750_000_000
    # a one-hour cache write, in a place of choice
    assert BOOK.worst_cost(SONNET, 1_000_000, 0) == 6_600_000_000
    assert BOOK.explain(SONNET).source == "prices.yaml:4"


def test_a_listed_model_does_not_pay_for_the_import_of_the_public_table() -> None:
    code = (
        "import sys; from remit.adapters.prices import PriceBook;"
        f"PriceBook(None).worst_cost('{SONNET}', 1, 1); sys.exit('genai_prices' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "model", ["", "nobody-1", "claude-zzz", "whisper-1", "text-embedding-3-small", "moderation"]
)
def test_what_has_no_price_is_refused_and_named(model: str) -> None:
    for ask in (
        lambda: cost_of(BOOK, model, Usage(input_tokens=1)),
        lambda: BOOK.worst_cost(model, 1, 1),
        lambda: BOOK.explain(model),
    ):
        with pytest.raises(RemitError) as caught:
            ask()
        assert caught.value.code == "price.unknown"
        assert repr(model) in caught.value.message


@given(usage=on_any_terms, model=st.sampled_from([SONNET, *NO_DATES]))
@settings(max_examples=60, deadline=None)
def test_no_cost_is_above_the_worst_cost_of_its_bounds(usage: Usage, model: str) -> None:
    cost = cost_of(BOOK, model, usage)
    assert 0 <= cost <= BOOK.worst_cost(model, usage.prompt_tokens, usage.output_tokens)


@given(table=rates(), usage=on_any_terms, more_in=tokens, more_out=tokens)
@settings(max_examples=100)
def test_worst_cost_bounds_every_call_within_it_and_grows_with_its_bounds(
    table: Rates, usage: Usage, more_in: int, more_out: int
) -> None:
    exact = table.worst_cost(usage.prompt_tokens, usage.output_tokens)
    wider = table.worst_cost(usage.prompt_tokens + more_in, usage.output_tokens + more_out)
    assert 0 <= table.charge(usage).cost_nano_usd <= exact <= wider


@given(usage=usages, more=usages, model=st.sampled_from([SONNET, *NO_DATES]))
@settings(max_examples=60, deadline=None)
def test_more_tokens_never_cost_less(usage: Usage, more: Usage, model: str) -> None:
    assert cost_of(BOOK, model, usage + more) >= cost_of(BOOK, model, usage)


@given(usage=usages, model=st.sampled_from(NO_DATES))
@settings(max_examples=60, deadline=None)
def test_the_public_tables_own_arithmetic_gives_the_same(usage: Usage, model: str) -> None:
    # Its input_tokens include the cached ones; ours exclude them.
    theirs = calc_price(
        TableUsage(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
        ),
        model,
    ).total_price
    nano = int((theirs * 10**9).to_integral_value(rounding=ROUND_CEILING))
    assert cost_of(BOOK, model, usage) == nano


@given(tables=st.lists(rates(), min_size=1, max_size=3), usage=on_any_terms)
@settings(max_examples=60)
def test_the_dearest_rates_are_never_below_any_of_theirs(tables: list[Rates], usage: Usage) -> None:
    top = dearest(tuple(tables))
    assert all(top.charge(usage).cost_nano_usd >= each.charge(usage).cost_nano_usd for each in tables)


@given(table=rates(), usage=usages, tier=st.sampled_from(TIERS), geo=st.sampled_from(GEOS))
@settings(max_examples=100)
def test_what_is_not_in_the_table_is_never_the_cheap_one_and_is_marked(
    table: Rates, usage: Usage, tier: str, geo: str
) -> None:
    charged = table.charge(replace(usage, service_tier=tier, inference_geo=geo))
    known_tier = tier in ("", "standard", "default", *table.service_tiers)
    known_geo = geo in ("", "global", "not_available", *table.geo_percents)
    assert charged.assumed is not (known_tier and known_geo)
    if not known_tier:
        for name in ("", *table.service_tiers):
            at_known = table.charge(replace(usage, service_tier=name, inference_geo=geo))
            assert charged.cost_nano_usd >= at_known.cost_nano_usd
    if not known_geo:
        for place in ("", *table.geo_percents):
            at_known = table.charge(replace(usage, service_tier=tier, inference_geo=place))
            assert charged.cost_nano_usd >= at_known.cost_nano_usd


@given(table=rates(), usage=on_any_terms)
@settings(max_examples=100)
def test_what_the_cache_saved_is_against_the_plain_input_price(table: Rates, usage: Usage) -> None:
    plain = replace(
        usage,
        input_tokens=usage.prompt_tokens,
        cache_read_tokens=0,
        cache_write_tokens=0,
        cache_write_1h_tokens=0,
    )
    charged, without = table.charge(usage), table.charge(plain)
    assert charged.cost_nano_usd + charged.saved_nano_usd == without.cost_nano_usd
    assert without.saved_nano_usd == 0


def test_surcharges_are_those_of_the_providers() -> None:
    plain = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    for model, geo in (("claude-haiku-4-5", "us"), ("gpt-5.4", "eu"), (SONNET, "us")):
        at_home = BOOK_NOW.charge(model, plain)
        there = BOOK_NOW.charge(model, replace(plain, inference_geo=geo))
        assert there.cost_nano_usd * 10 == at_home.cost_nano_usd * 11
        assert not there.assumed
        assert BOOK_NOW.charge(model, replace(plain, inference_geo="mars")).assumed
    for model in ("claude-haiku-4-5", "gpt-5.4"):
        batch = BOOK_NOW.charge(model, replace(plain, service_tier="batch"))
        assert (batch.cost_nano_usd * 2, batch.assumed) == (
            BOOK_NOW.charge(model, plain).cost_nano_usd,
            False,
        )
    hour = Usage(cache_write_tokens=1_000_000, cache_write_1h_tokens=1_000_000)
    assert BOOK_NOW.charge(SONNET, hour) == Charge(cost_nano_usd=6_000_000_000, saved_nano_usd=-3_000_000_000)
    assert BOOK_NOW.charge(
        SONNET, replace(hour, service_tier="priority")
    ).assumed  # sold by contract, not listed


@given(
    usage=usages, tier=st.sampled_from(("priority", "flex")), model=st.sampled_from(("gpt-5.4", "gpt-5.2"))
)
@settings(max_examples=40, deadline=None)
def test_the_public_table_s_own_service_tiers_are_ours(usage: Usage, tier: str, model: str) -> None:
    theirs = calc_price(
        TableUsage(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
        ),
        model,
        genai_request_timestamp=NOW,
        price_context={"service_tier": tier},
    ).total_price
    charged = BOOK_NOW.charge(model, replace(usage, service_tier=tier))
    assert not charged.assumed
    assert charged.cost_nano_usd == int((theirs * 10**9).to_integral_value(rounding=ROUND_CEILING))


def test_the_override_file_may_have_terms_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "models:\n  claude-x:\n    input: 2\n    output: 4\n    geo_surcharge_percent: {us: 25}\n"
        "    service_tiers:\n      priority: {input: 3, output: 6}\n"
        "  claude-y: {input: 2, output: 4, geo_surcharge_percent: {}}\n"
    )
    book = PriceBook(path)
    million = Usage(input_tokens=1_000_000, service_tier="priority", inference_geo="us")
    assert book.charge("claude-x", million) == Charge(cost_nano_usd=3_750_000_000)
    assert book.worst_cost("claude-x", 1_000_000, 0) == 3_750_000_000
    assert book.charge("claude-y", million) == Charge(cost_nano_usd=2_000_000_000, assumed=True)
    assert book.worst_cost("claude-y", 1_000_000, 0) == 2_000_000_000


def test_a_dated_price_holds_from_its_day_and_the_hold_covers_a_change_soon_after() -> None:
    day = 1_749_513_600_000_000  # 2025-06-10, when o3 fell from 10 to 2 dollars
    million = Usage(input_tokens=1_000_000)
    before = PriceBook(None, FixedClock(day - 1))
    after = PriceBook(None, FixedClock(day))
    assert cost_of(before, "o3", million) == 10_000_000_000
    assert cost_of(after, "o3", million) == 2_000_000_000
    assert before.worst_cost("o3", 1_000_000, 0) == 11_000_000_000
    assert after.worst_cost("o3", 1_000_000, 0) == 2_200_000_000  # both in a region of choice
    assert cost_of(PriceBook(None), "o3", million) == 10_000_000_000  # no clock: the dearest


def test_prices_follow_the_clock_while_the_book_is_open() -> None:
    clock = FixedClock(1_749_513_600_000_000 - 1)
    book = PriceBook(None, clock)
    assert cost_of(book, "o3", Usage(input_tokens=1_000_000)) == 10_000_000_000
    clock.at_us += 1
    assert cost_of(book, "o3", Usage(input_tokens=1_000_000)) == 2_000_000_000


def test_the_override_file_comes_first_and_is_read_digit_for_digit(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"models:\n  {SONNET}: {{input: 0.1, output: 0.000000003}}\n  gpt-4o: {{input: 1, output: 2}}\n"
        "  local: {input: 0, output: 0}\n"
        "  long:\n    input: 1\n    output: 1\n    long_context:\n"
        "      - {above_input_tokens: 10, input: 2, output: 3}\n"
    )
    book = PriceBook(path)
    assert cost_of(book, SONNET, Usage(input_tokens=3)) == 300
    assert cost_of(book, SONNET, Usage(output_tokens=1)) == 1  # rounded up, never to zero
    assert cost_of(book, "gpt-4o", Usage(input_tokens=1)) == 1000
    assert cost_of(book, "local", Usage(input_tokens=9)) == 0  # said so in the file
    assert cost_of(book, "long", Usage(input_tokens=10)) == 10_000
    assert cost_of(book, "long", Usage(input_tokens=11, output_tokens=1)) == 25_000
    assert book.explain("gpt-4o").source == f"{path}:3"


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("models:\n  a: {input: 1}\n", "config.missing_key", 2),
        ("models:\n  a:\n    input: 1\n    output: -1\n", "config.out_of_range", 4),
        ("models:\n  a:\n    input: 1\n    output: .nan\n", "config", 4),
        ("models:\n  a:\n    input: 1\n    output: .inf\n", "config", 4),
        ("models:\n  a:\n    input: '1'\n    output: 1\n", "config.wrong_type", 3),
        ("models:\n  a:\n    input: true\n    output: 1\n", "config.wrong_type", 3),
        ("models:\n  a:\n    input: 1\n    output: 1\n    outptu: 1\n", "config.unknown_key", 5),
        ("models:\n  a: {input: 1, output: 1}\n  a: {input: 0, output: 0}\n", "config.duplicate_key", 3),
        ("models: [\n", "config.syntax", 2),
        ("models: &x {a: {input: 1, output: 1}}\nother: *x\n", "config.unknown_key", 2),
        (
            "models:\n  a:\n    input: 1\n    output: 1\n    long_context:\n"
            "      - {above_input_tokens: 5, input: 1, output: 1}\n"
            "      - {above_input_tokens: 5, input: 1, output: 1}\n",
            "config.out_of_range",
            7,
        ),
        ("", "config.empty", 1),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str, code: str, line: int) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigErrors) as caught:
        PriceBook(path)
    (error,) = caught.value.errors
    assert error.code.startswith(code)
    assert str(error).startswith(f"{path}:{line}:")


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RemitError) as caught:
        PriceBook(tmp_path / "none.yaml")
    assert caught.value.code == "config.missing"


def test_costs_round_up_once_and_not_per_part(tmp_path: Path) -> None:
    path = tmp_path / "fine.yaml"
    path.write_text("models:\n  m: {input: 0.0003, output: 0.0003}\n")
    usage = Usage(input_tokens=1, output_tokens=1)  # 0.3 + 0.3 nano-USD
    assert cost_of(PriceBook(path), "m", usage) == 1
    assert Decimal(cost_of(PriceBook(path), "m", usage)) >= Decimal("0.6")
