"""`remit alerts`: the thresholds of spending that were crossed, and whether the webhook was told."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson

from remit.cli.asynchronous import run_async
from remit.cli.output import json_option, local_time, print_json, print_table
from remit.core import audit
from remit.core.errors import Exit
from remit.core.money import format_usd
from remit.core.outbox import BUDGET_ALERTS, OutboxMessage
from remit.ports.journal import AuditQuery
from remit.wiring.deployment import Deployment, open_reader
from remit.wiring.outbox import send_due

_MESSAGES_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Crossed:
    """One alert as it was recorded, and its message where a webhook was set."""

    record: dict[str, Any]
    message: OutboxMessage | None


@click.group(epilog="\b\nExamples:\n  remit alerts list\n  remit alerts send\n")
def command() -> None:
    """Thresholds of spending that were crossed, and what became of the webhook."""


@command.command("list", epilog="\b\nExamples:\n  remit alerts list\n  remit alerts list --limit 5 --json\n")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, _MESSAGES_MAX))
@json_option
@click.pass_obj
def list_alerts(home: Path, limit: int, as_json: bool) -> None:
    """List the newest alerts, newest first.

    Webhook: `-` none was set; `waiting` is tried again; `dead` was given up; `delivered` the receiver took it.
    """
    alerts = run_async(_read(Deployment(home=home, environment=os.environ), limit))
    if as_json:
        print_json([_as_json(one) for one in alerts])
        return
    if not alerts:
        print("no threshold was crossed")
        return
    rows = [
        (
            one.record["at"][:19].replace("T", " "),
            one.record["scope"],
            f"{one.record['threshold_percent']} %",
            format_usd(one.record["spent_nano_usd"], 2),
            format_usd(one.record["cap_nano_usd"], 2),
            _webhook(one.message),
        )
        for one in alerts
    ]
    header = ("crossed (UTC)", "scope", "at", "spent", "cap", "webhook")
    print_table(header, rows, right=frozenset({2, 3, 4}))


@command.command("send", epilog="\b\nExamples:\n  remit alerts send\n  remit alerts send --json\n")
@json_option
@click.pass_obj
def send(home: Path, as_json: bool) -> None:
    """Deliver once the messages that are due, such as those that a process left when it ended.

    An agent that runs does the same by itself; beside one, no message is sent by both at the same time.
    Exit 1 where the receiver did not take one of them.
    """
    receipts = run_async(send_due(Deployment(home=home, environment=os.environ)))
    counts = {
        state: sum(one.state == state for one in receipts) for state in ("delivered", "waiting", "dead")
    }
    if as_json:
        print_json(counts)
    elif not receipts:
        print("nothing is due")
    else:
        print(", ".join(f"{count} {state}" for state, count in counts.items() if count))
        for error in sorted({one.error for one in receipts if one.error}):
            print(f"remit: {error}", file=sys.stderr)
    if counts["delivered"] < len(receipts):
        sys.exit(Exit.FAILED)


async def _read(deployment: Deployment, limit: int) -> Sequence[_Crossed]:
    async with open_reader(deployment) as journal:
        if journal is None:
            return []
        entries = await journal.audit(AuditQuery(kind="alert", limit=limit))
        messages = await journal.outbox(_MESSAGES_MAX)
    by_crossing = {}
    for message in messages:
        if message.topic == BUDGET_ALERTS:
            data = orjson.loads(message.body)["data"]
            by_crossing[data["scope"], data["threshold_percent"]] = message
    records = [orjson.loads(entry.body) for entry in reversed(entries)]
    return [
        _Crossed(record=record, message=by_crossing.get((record["scope"], record["threshold_percent"])))
        for record in records
    ]


def _webhook(message: OutboxMessage | None) -> str:
    match message:
        case None:
            return "-"
        case OutboxMessage(state="delivered"):
            return f"delivered {local_time(message.ended_at_us)}"
        case OutboxMessage(state="dead"):
            return f"dead after {message.attempts} attempt(s): {message.error}"
    failed = f": {message.error}" if message.error else ""
    return f"waiting, {message.attempts} attempt(s), next {local_time(message.due_at_us)}{failed}"


def _as_json(one: _Crossed) -> dict[str, Any]:
    names = ("at", "scope", "threshold_percent", "spent_nano_usd", "cap_nano_usd")
    return {name: one.record[name] for name in names} | {"webhook": _message_json(one.message)}


def _message_json(message: OutboxMessage | None) -> dict[str, Any] | None:
    if message is None:
        return None
    waits = message.state == "waiting"
    return {
        "id": message.id,
        "state": message.state,
        "attempts": message.attempts,
        "next_at": audit.timestamp(message.due_at_us) if waits else None,
        "ended_at": None if message.ended_at_us is None else audit.timestamp(message.ended_at_us),
        "error": message.error or None,
    }
