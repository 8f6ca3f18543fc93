"""`remit costs`: what was spent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from remit.cli.asynchronous import run_async
from remit.cli.output import json_option, parse_since, print_json, print_table
from remit.core.money import format_usd, usd_text
from remit.ports.journal import Balance, CostRow
from remit.runtime.clock import SystemClock
from remit.wiring.deployment import Deployment, open_reader


@click.command(epilog="\b\nExamples:\n  remit costs\n  remit costs --since 7d --json\n")
@click.option("--since", help="From this time on: 15m, 2h, 7d ago, or 2026-11-22.")
@json_option
@click.pass_obj
def command(home: Path, since: str | None, as_json: bool) -> None:
    """Say what model calls cost, by UTC day, agent and model; and what is held or presumed spent now."""
    deployment = Deployment(home=home, environment=os.environ)
    since_us = parse_since(since, SystemClock().now_us()) or 0
    rows, balances = run_async(_read(deployment, since_us))
    if as_json:
        print_json([_row_json(row) for row in rows])
        return
    if not rows:
        print("nothing was spent")
    else:
        table = [
            (
                row.day,
                row.agent,
                row.model,
                str(row.calls),
                str(row.usage.prompt_tokens),
                str(row.usage.output_tokens),
                format_usd(row.cost_nano_usd),
                format_usd(row.wasted_nano_usd),
            )
            for row in rows
        ]
        header = ("day (UTC)", "agent", "model", "calls", "tokens in", "out", "cost", "of it wasted")
        print_table(header, table, right=frozenset({3, 4, 5, 6, 7}))
    for balance in balances:
        if balance.held_nano_usd or balance.presumed_nano_usd:
            held, presumed = format_usd(balance.held_nano_usd), format_usd(balance.presumed_nano_usd)
            print(f"{balance.scope}: {held} held for calls under way, {presumed} presumed spent")


def _row_json(row: CostRow) -> dict[str, object]:
    return {
        "day": row.day,
        "agent": row.agent,
        "model": row.model,
        "calls": row.calls,
        "input_tokens": row.usage.prompt_tokens,
        "output_tokens": row.usage.output_tokens,
        "cost_usd": float(usd_text(row.cost_nano_usd)),
        "cost_nano_usd": row.cost_nano_usd,
        "wasted_nano_usd": row.wasted_nano_usd,
    }


async def _read(deployment: Deployment, since_us: int) -> tuple[Sequence[CostRow], Sequence[Balance]]:
    async with open_reader(deployment) as journal:
        if journal is None:
            return [], []
        return await journal.costs(since_us), await journal.balances("day:")
