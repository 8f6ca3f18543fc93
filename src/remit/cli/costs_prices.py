"""`remit costs prices`: what a model costs, on what terms, who says so, and what one call would cost."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import click

from remit.cli.output import json_option, print_json, print_table
from remit.core.messages import Usage
from remit.core.money import format_usd, usd_text
from remit.runtime.clock import SystemClock
from remit.wiring.remits import PriceExplanation, Tier, explain_price

_RATES = ("input", "output", "cache_read", "cache_write", "cache_write_1h")


@click.command(
    epilog="\b\nExamples:\n"
    "  remit costs prices claude-sonnet-4-20260514\n"
    "  remit costs prices gpt-5.4 --input-tokens 300000 --json\n"
)
@click.argument("model")
@click.option(
    "--input-tokens", default=10_000, show_default=True, type=click.IntRange(0, 10**9), help="Of an example."
)
@click.option(
    "--output-tokens", default=1_000, show_default=True, type=click.IntRange(0, 10**9), help="Of an example."
)
@json_option
def prices(model: str, input_tokens: int, output_tokens: int, as_json: bool) -> None:
    """Explain the price of a model: its rates, its surcharges, and where they come from."""
    found = explain_price(model, os.environ, SystemClock())
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    cost = found.rates.charge(usage).cost_nano_usd
    held = found.worst.worst_cost(input_tokens, output_tokens)
    if as_json:
        print_json(_as_json(found) | {"example": _example(usage, cost, held)})
        return
    print(f"model    {found.model}")
    print(f"source   {found.source}" + (f", unchanged since {found.since}" if found.since else ""))
    print("\nUSD for a million tokens")
    header = ("service tier", "input", "output", "cache read", "write 5 min", "write 1 h")
    print_table(header, list(_lines(found)), right=frozenset(range(1, 6)))
    if found.rates.geo_percents:
        print("\nsurcharge on all rates, by place: " + _places(found.rates.geo_percents))
    print(
        f"\nexample  {input_tokens} tokens in and {output_tokens} out: {format_usd(cost)};"
        f" held before the call: {format_usd(held)}"
    )
    print("         (as if all input were written to the dearest cache, at the dearest tier and place)")


def _lines(found: PriceExplanation) -> Sequence[tuple[str, ...]]:
    lines = []
    for name, tiers in {"standard": found.rates.tiers, **found.rates.service_tiers}.items():
        for tier in tiers:
            above = tier.above_input_tokens
            label = name if above < 0 else f"  above {above} tokens in"
            lines.append((label, *(usd_text(getattr(tier, rate)) for rate in _RATES)))
    return lines


def _places(percents: Mapping[str, int]) -> str:
    by_percent: dict[int, list[str]] = {}
    for place, percent in sorted(percents.items()):
        by_percent.setdefault(percent - 100, []).append(place)
    return "; ".join(f"{', '.join(places)} +{percent} %" for percent, places in by_percent.items())


def _as_json(found: PriceExplanation) -> dict[str, Any]:
    rates = found.rates
    return {
        "model": found.model,
        "source": found.source,
        "since": found.since,
        "usd_per_million_tokens": {
            name: [_tier(tier) for tier in tiers]
            for name, tiers in {"standard": rates.tiers, **rates.service_tiers}.items()
        },
        "geo_surcharge_percent": {place: percent - 100 for place, percent in rates.geo_percents.items()},
    }


def _tier(tier: Tier) -> dict[str, Any]:
    above = None if tier.above_input_tokens < 0 else tier.above_input_tokens
    return {"above_input_tokens": above} | {rate: usd_text(getattr(tier, rate)) for rate in _RATES}


def _example(usage: Usage, cost: int, held: int) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usd_text(cost),
        "cost_nano_usd": cost,
        "held_usd": usd_text(held),
        "held_nano_usd": held,
    }
