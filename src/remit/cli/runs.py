"""`remit runs`: the runs there were, one of them in full; resume and cancel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click
import orjson

from remit.cli.asynchronous import run_async
from remit.cli.family import cost_of, cost_text, runs_below
from remit.cli.output import (
    bold,
    clean,
    clean_text,
    json_option,
    local_time,
    print_json,
    print_table,
)
from remit.cli.runs_control import cancel, find_run, resume
from remit.cli.runs_wait import wait
from remit.core import audit
from remit.core.audit import AuditKind
from remit.core.errors import RemitError
from remit.core.money import format_usd, usd_text
from remit.core.runs import RunRecord, RunStatus
from remit.ports.journal import AuditQuery, CallRecord
from remit.wiring.deployment import Deployment, open_reader

_STORY: tuple[AuditKind, ...] = ("run.created", "run.taken", "run.ended")

_RUN_HEADER = ("run", "status", "agent", "created (UTC)", "took", "steps", "cost", "task")
_RUN_NUMBERS = frozenset({4, 5, 6})


@click.group(epilog="\b\nExamples:\n  remit runs list --status failed\n  remit runs show 01m8...\n")
def command() -> None:
    """The runs there were: look at them, let them go on, end them."""


command.add_command(resume)
command.add_command(cancel)
command.add_command(wait)


@command.command("list")
@click.option("--status", type=click.Choice(get_args(RunStatus)), help="Only runs of this status.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@json_option
@click.pass_obj
def list_runs(home: Path, status: RunStatus | None, limit: int, as_json: bool) -> None:
    """List the newest runs, newest first."""
    deployment = Deployment(home=home, environment=os.environ)
    records = run_async(_list(deployment, status, limit))
    if as_json:
        print_json([run_json(record) for record in records])
        return
    if not records:
        print(f"no runs in {home}")
        return
    print_table(_RUN_HEADER, [_run_row(record) for record in records], right=_RUN_NUMBERS)


def _run_row(record: RunRecord) -> tuple[str, ...]:
    return (
        record.run.id,
        record.status,
        record.run.agent,
        local_time(record.run.created_at_us),
        _took(record),
        str(record.steps),
        format_usd(record.cost_nano_usd),
        clean(record.run.task.text, 40),
    )


@command.command("show")
@click.argument("run_id", required=False)
@json_option
@click.pass_obj
def show_run(home: Path, run_id: str | None, as_json: bool) -> None:
    """Show one run: who asked what, how it ended, and every governed call."""
    deployment = Deployment(home=home, environment=os.environ)
    record, calls, story, below = run_async(_show(deployment, run_id))
    if as_json:
        family = {"below": [run_json(one) for one in below], "cost_below_nano_usd": cost_of(below)}
        calls_json = [_call_json(call) for call in calls]
        print_json(run_json(record) | {"calls": calls_json, "story": story} | family)
        return
    end = record.end
    facts = [
        ("run", record.run.id),
        ("status", f"{record.status} {end.code if end else ''}".rstrip()),
        ("agent", f"{record.run.agent}  remit {record.run.remit_digest[:12]}"),
        ("asked by", f"{record.run.principal}  tenant {record.run.tenant}"),
        *([("started by", record.run.parent)] if record.run.parent else []),
        ("created", f"{local_time(record.run.created_at_us)} UTC, took {_took(record)}"),
        ("trace", record.run.trace_id),
        ("cost", cost_text(record, below)),
        ("exposed by", ", ".join(record.exposed_by) or "nothing untrusted"),
        ("task", clean(record.run.task.text)),
    ]
    for name, value in facts:
        print(f"{name:<11}{clean(value)}")
    if end is not None and end.message:
        print(f"{'why':<11}{clean(end.message, 500)}")
    if end is not None and end.answer:
        print(f"\n{bold('answer')}\n{clean_text(end.answer)}")
    print()
    told = [
        (one["at"][:19].replace("T", " "), _happened(one), one.get("worker") or one.get("principal", ""))
        for one in story
    ]
    print_table(("when (UTC)", "what", "who"), told)
    print()
    rows = [
        (
            call.action_id.partition(".")[2],
            call.kind,
            call.resource,
            call.state,
            local_time(call.started_at_us),
            format_usd(call.cost_nano_usd),
        )
        for call in calls
    ]
    print_table(("call", "kind", "resource", "state", "started (UTC)", "cost"), rows, right=frozenset({5}))
    if below:
        print()
        print_table(_RUN_HEADER, [_run_row(one) for one in below], right=_RUN_NUMBERS)


def _happened(record: dict[str, Any]) -> str:
    """What a record of the run's story says, in a word or two."""
    kind = str(record["kind"]).partition(".")[2]
    if kind == "ended":
        return f"{record['status']} {record.get('code', '')}".rstrip()
    return kind


def run_json(record: RunRecord) -> dict[str, Any]:
    """A run as the commands print it: times in RFC 3339, money in dollars and in nano-USD."""
    run, end = record.run, record.end
    return {
        "run_id": run.id,
        "status": record.status,
        "agent": run.agent,
        "tenant": run.tenant,
        "principal": str(run.principal),
        "remit_digest": run.remit_digest,
        "trace_id": run.trace_id,
        "task": run.task.text,
        "answer": end.answer if end else "",
        "error": {"code": end.code, "message": end.message} if end and end.code else None,
        "created_at": audit.timestamp(run.created_at_us),
        "started_at": audit.timestamp(record.started_at_us) if record.started_at_us else None,
        "ended_at": audit.timestamp(record.ended_at_us) if record.ended_at_us else None,
        "steps": record.steps,
        "input_tokens": record.usage.prompt_tokens,
        "output_tokens": record.usage.output_tokens,
        "cost_usd": float(usd_text(record.cost_nano_usd)),
        "cost_nano_usd": record.cost_nano_usd,
        "exposed_by": list(record.exposed_by),
        "parent": run.parent,
        "depth": run.depth,
        "interruptions": record.interruptions,
    }


def _call_json(call: CallRecord) -> dict[str, Any]:
    return {
        "call": call.action_id.partition(".")[2],
        "kind": call.kind,
        "resource": call.resource,
        "state": call.state,
        "digest": call.digest,
        "started_at": audit.timestamp(call.started_at_us),
        "ended_at": audit.timestamp(call.ended_at_us) if call.ended_at_us else None,
        "cost_nano_usd": call.cost_nano_usd,
        "held_nano_usd": call.held_nano_usd,
    }


def _took(record: RunRecord) -> str:
    if record.started_at_us is None or record.ended_at_us is None:
        return "-"
    return f"{(record.ended_at_us - record.started_at_us) / 1_000_000:.2f} s"


async def _list(deployment: Deployment, status: RunStatus | None, limit: int) -> Sequence[RunRecord]:
    async with open_reader(deployment) as journal:
        return [] if journal is None else await journal.runs(status=status, limit=limit)


async def _show(
    deployment: Deployment, run_id: str | None
) -> tuple[RunRecord, Sequence[CallRecord], list[dict[str, Any]], list[RunRecord]]:
    """The run, its calls, the records of its own (who created, took, lost and ended it), and the runs below it."""
    async with open_reader(deployment) as journal:
        if journal is None:
            raise RemitError("run.unknown", f"there is no journal in {deployment.home}")
        record = await find_run(journal, run_id)
        entries = [
            entry
            for kind in _STORY
            for entry in await journal.audit(AuditQuery(run_id=record.run.id, kind=kind, limit=1000))
        ]
        entries.sort(key=lambda entry: entry.seq)
        story = [orjson.loads(entry.body) for entry in entries]
        return record, await journal.calls(record.run.id), story, await runs_below(journal, record)
