"""`remit costs reconcile`: whether the provider's bill says what the ledger says, and if not, why."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click

from remit.cli.asynchronous import run_async
from remit.cli.cost_export import Export, read_export
from remit.cli.costs_period import existing_zone
from remit.cli.output import clean, dim, json_option, paint, parse_since, print_json, print_table
from remit.core import days
from remit.core.errors import Exit, RemitError
from remit.core.money import format_usd, usd_text
from remit.governance.reconciliation import PARTS, Billed, Key, Line, Reason, ReasonCode, reconcile
from remit.ports.journal import CostQuery, CostRow
from remit.runtime.clock import SystemClock
from remit.wiring.deployment import Deployment, open_reader

_WHY: Mapping[ReasonCode, str] = {
    "presumed": "presumed spent here until somebody confirms it",
    "held": "held here for calls under way",
    "not_ours": "billed, but not in this journal: another home, application or name of the model?",
    "not_theirs": "in this journal, but not in the export: another key, or a shorter time?",
    "other_day": "counted on another day: the sum over all days agrees, so try another --timezone",
    "price": "the same tokens at another price",
    "tokens": "another count of tokens",
    "rounding": "within the tolerance",
    "unexplained": "not explained: the export tells no tokens to compare",
}
_DATED = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")


@click.command(
    "reconcile",
    epilog="\b\nExamples:\n"
    "  remit costs reconcile november.csv\n"
    "  remit costs reconcile november.csv --since 2026-11-01 --until 2026-12-01 --tolerance 0.1 --json\n",
)
@click.argument("export", type=click.Path(path_type=Path))
@click.option("--since", help="From the day of this time on; else from the export's first day.")
@click.option("--until", help="Up to the day before this time; else to the export's last day.")
@click.option("--timezone", default="UTC", show_default=True, help="The zone of the export's days.")
@click.option(
    "--tolerance", default="0.5", show_default=True, help="Percent that may differ, by day and model."
)
@json_option
@click.pass_obj
def reconcile_export(home: Path, /, export: Path, as_json: bool, **given: str) -> None:
    """Compare a provider's cost export (CSV) with the ledger, by day and model, and explain what differs.

    EXPORT has a header and lines of a day, a model and an amount in USD; tokens are compared where it has them. Exit
    code 0: every day and model agrees within the tolerance; 1: they do not.
    """
    zone = existing_zone(given["timezone"])
    tolerance_ppm = _ppm(given["tolerance"])
    found = read_export(export, zone)
    since, until = _days(found, given, zone)
    bills = {key: billed for key, billed in found.billed.items() if since <= key[0] < until}
    query = CostQuery(
        by=("day", "model"),
        since_us=days.starts_us(zone, date.fromisoformat(since)),
        until_us=days.starts_us(zone, date.fromisoformat(until)),
        timezone=zone,
    )
    deployment = Deployment(home=home, environment=os.environ)
    rows = run_async(_read(deployment, query))
    ledger = {(str(day), model): row for row in rows for day, model in [row.group] if model is not None}
    named, notes = _named(bills, {model for _, model in ledger})
    if found.unused:
        notes.append(f"columns that were not used: {', '.join(found.unused)}")
    if len(bills) < len(found.billed):
        notes.append(
            f"{len(found.billed) - len(bills)} days and models of the export are outside of the time asked for"
        )
    lines = reconcile(ledger, named, tolerance_ppm)
    agrees = all(line.agrees for line in lines)
    if as_json:
        print_json(_as_json(lines, notes, agrees=agrees))
    else:
        _print(lines, notes, agrees=agrees)
    if not agrees:
        sys.exit(Exit.FAILED)


def _ppm(text: str) -> int:
    try:
        percent = Decimal(text)
    except InvalidOperation:
        percent = Decimal(-1)
    if not (percent.is_finite() and 0 <= percent <= 100):
        raise RemitError("usage.invalid", f"--tolerance {text[:40]!r} is no percentage", remedy="write 0.5")
    return int(percent * PARTS / 100)


def _days(export: Export, given: Mapping[str, str], zone: str) -> tuple[str, str]:
    """The first day, and the day after the last. Raises: RemitError `usage.invalid`."""
    now_us = SystemClock().now_us()
    billed = [day for day, _ in export.billed] or [days.local_day(zone, now_us)]
    after = (date.fromisoformat(max(billed)) + timedelta(days=1)).isoformat()
    since_us, until_us = (parse_since(given[name], now_us, zone) for name in ("since", "until"))
    since = min(billed) if since_us is None else days.local_day(zone, since_us)
    until = after if until_us is None else days.local_day(zone, until_us)
    if since >= until:
        raise RemitError("usage.invalid", f"there is no day from {since} to before {until}")
    return since, until


async def _read(deployment: Deployment, query: CostQuery) -> Sequence[CostRow]:
    async with open_reader(deployment) as journal:
        return [] if journal is None else await journal.costs(query)


def _named(bills: Mapping[Key, Billed], ours: set[str]) -> tuple[dict[Key, Billed], list[str]]:
    """The bills by our names of the models, and what was taken for what: providers bill by dated names."""
    named: dict[Key, Billed] = {}
    notes: set[str] = set()
    for (day, model), billed in bills.items():
        undated = _DATED.sub("", model)
        name = undated if model not in ours and undated in ours else model
        if name != model:
            notes.add(f"{model} is taken for {name}")
        named[day, name] = named[day, name] + billed if (day, name) in named else billed
    return named, sorted(notes)


def _print(lines: Sequence[Line], notes: Sequence[str], *, agrees: bool) -> None:
    rows = [
        (
            line.day,
            line.model,
            format_usd(line.ours_nano_usd),
            format_usd(line.theirs_nano_usd),
            format_usd(line.difference_nano_usd),
            "; ".join(_said(line, reason) for reason in line.reasons),
        )
        for line in lines
    ]
    ours, theirs = _sums(lines)
    rows.append(("total", "", format_usd(ours), format_usd(theirs), format_usd(theirs - ours), ""))
    header = ("day", "model", "ours", "theirs", "difference", "why")
    print_table(header, rows, right=frozenset({2, 3, 4}))
    for note in notes:
        print(dim(clean(note)))
    print(paint("they agree", "green") if agrees else paint("they do not agree", "red"))


def _said(line: Line, reason: Reason) -> str:
    why = _WHY[reason.code]
    if reason.code == "price" and line.ours_nano_usd:
        hundredths = reason.nano_usd * 10_000 // line.ours_nano_usd
        why += f" ({hundredths / 100:+.2f} %)"
    return why if len(line.reasons) == 1 else f"{format_usd(reason.nano_usd)} {why}"


def _sums(lines: Sequence[Line]) -> tuple[int, int]:
    return sum(line.ours_nano_usd for line in lines), sum(line.theirs_nano_usd for line in lines)


def _as_json(lines: Sequence[Line], notes: Sequence[str], *, agrees: bool) -> dict[str, Any]:
    ours, theirs = _sums(lines)
    return {
        "agrees": agrees,
        **_money("ours", ours),
        **_money("theirs", theirs),
        **_money("difference", theirs - ours),
        "lines": [
            {
                "day": line.day,
                "model": line.model,
                "agrees": line.agrees,
                **_money("ours", line.ours_nano_usd),
                **_money("theirs", line.theirs_nano_usd),
                **_money("difference", line.difference_nano_usd),
                "reasons": [
                    {"code": reason.code, "says": _WHY[reason.code], **_money("part", reason.nano_usd)}
                    for reason in line.reasons
                ],
            }
            for line in lines
        ],
        "notes": list(notes),
    }


def _money(name: str, nano_usd: int) -> dict[str, Any]:
    return {f"{name}_usd": usd_text(nano_usd), f"{name}_nano_usd": nano_usd}
