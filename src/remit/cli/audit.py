"""`remit audit`: the records of what was decided, begun and done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import orjson

from remit.cli.asynchronous import run_async
from remit.cli.output import clean, json_option, paint, parse_since, print_json
from remit.cli.runs_control import find_run
from remit.core.audit import AUDIT_KINDS, AuditKind
from remit.core.money import format_usd
from remit.ports.journal import AuditEntry, AuditQuery
from remit.runtime.clock import SystemClock
from remit.wiring.deployment import Deployment, open_reader

_COLOURS = {
    "refusal": "red",
    "overrun": "red",
    "alert": "yellow",
    "control": "yellow",
    "approval.requested": "yellow",
}


@click.group(
    epilog="\b\nExamples:\n"
    "  remit audit tail\n"
    "  remit audit search --open\n"
    "  remit audit search --run 01m8... --kind refusal\n"
)
def command() -> None:
    """Read the audit log. A record holds digests, never arguments or results."""


@command.command()
@click.option("--limit", "-n", default=20, show_default=True, type=click.IntRange(1, 100_000))
@json_option
@click.pass_obj
def tail(home: Path, limit: int, as_json: bool) -> None:
    """Show the newest records, oldest first."""
    _show(home, AuditQuery(limit=limit), as_json=as_json)


@command.command()
@click.option("--run", "run_id", help="Of this run: its id, or the beginning of it.")
@click.option(
    "--open", "open_only", is_flag=True, help="Intents without an outcome: begun, and nobody knows."
)
@click.option("--kind", type=click.Choice(AUDIT_KINDS), help="Of this kind.")
@click.option("--since", help="From this time on: 15m, 2h, 7d ago, or 2026-11-22T10:00.")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 1_000_000))
@json_option
@click.pass_obj
def search(home: Path, /, limit: int, as_json: bool, **given: Any) -> None:
    """Find records by run, kind and time; or the intents that have no outcome."""
    kind: AuditKind | None = given["kind"]
    query = AuditQuery(
        run_id=given["run_id"],
        kind=kind,
        since_us=parse_since(given["since"], SystemClock().now_us()),
        open_only=given["open_only"],
        limit=limit,
    )
    _show(home, query, as_json=as_json)


def _show(home: Path, query: AuditQuery, *, as_json: bool) -> None:
    entries = run_async(_read(Deployment(home=home, environment=os.environ), query))
    if as_json:
        print_json([{"seq": entry.seq} | orjson.loads(entry.body) for entry in entries])
        return
    for line in audit_lines(entry.body for entry in entries):
        print(line)
    if not entries:
        print("no open intents" if query.open_only else "no records")


def audit_lines(bodies: Iterable[bytes]) -> list[str]:
    """One aligned line for each record."""
    lines = []
    for body in bodies:
        record = orjson.loads(body)
        kind = record["kind"]
        at = record["at"][:23].replace("T", " ")
        what = record.get("resource") or record.get("scope") or record.get("agent") or ""
        place = f"{record.get('run', '')[-8:]} {record.get('call', ''):<9}"
        label = paint(f"{kind:<18}", _COLOURS[kind]) if kind in _COLOURS else f"{kind:<18}"
        lines.append(f"{at}  {label}  {place}  {clean(what, 40):<28}  {clean(_detail(record), 160)}".rstrip())
    return lines


def _detail(record: dict[str, Any]) -> str:
    """What is particular to the record, in a few words."""
    match record["kind"]:
        case "intent":
            held = f"  holds {format_usd(record['held_nano_usd'])}" if "held_nano_usd" in record else ""
            return f"{record['decision']} by {record['rule']} {record['source']}{held}"
        case "outcome":
            cost = f"  {format_usd(record['cost_nano_usd'])}" if "cost_nano_usd" in record else ""
            return f"{record['outcome']}{' ' + record['code'] if 'code' in record else ''}{cost}"
        case "refusal":
            return (
                f"{record['code']} by {record['rule']} {record.get('source', '')}: {record.get('reason', '')}"
            )
        case "run.created":
            attached = f"  {len(record['attachments'])} attached" if "attachments" in record else ""
            return f"{record['principal']}  remit {record['remit'][:12]}{attached}"
        case "run.ended":
            return f"{record['status']} {record.get('code', '')}"
        case "overrun":
            cost, held = format_usd(record["cost_nano_usd"]), format_usd(record["held_nano_usd"])
            return f"cost {cost}, more than the {held} that were held"
        case "alert":
            spent, cap = format_usd(record["spent_nano_usd"], 2), format_usd(record["cap_nano_usd"], 2)
            return f"{record['threshold_percent']} % crossed: {spent} of {cap}"
    skip = ("at", "kind", "run", "call", "agent", "resource", "scope")
    return "  ".join(f"{key}={value}" for key, value in record.items() if key not in skip)


async def _read(deployment: Deployment, query: AuditQuery) -> Sequence[AuditEntry]:
    async with open_reader(deployment) as journal:
        if journal is None:
            return []
        if query.run_id is not None:
            # the beginning of an id will do; an id of no run is an error, and not an empty answer
            query = replace(query, run_id=(await find_run(journal, query.run_id)).run.id)
        return await journal.audit(query)
