"""`remit effects`: calls of which nobody knows whether they happened, and what a person has found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from remit.cli.asynchronous import run_async
from remit.cli.output import json_option, local_time, print_json, print_table
from remit.cli.people import as_option, person, reason_option
from remit.core import audit
from remit.core.errors import RemitError
from remit.governance.resolutions import Finding, resolution
from remit.ports.journal import CallRecord, JournalReads
from remit.runtime.clock import SystemClock
from remit.wiring.deployment import Deployment, open_reader
from remit.wiring.journals import open_writer

_CALLS_MAX = 10_000


@click.group(
    epilog="\b\nExamples:\n"
    "  remit effects list\n"
    "  remit effects resolve 01m8....2.t0 --happened --reason 'it is in the outbox of the mail server'\n"
    "  remit effects resolve 01m8....2.t0 --did-not-happen --reason 'the server never saw it'\n"
)
def command() -> None:
    """Effects that were begun and whose outcome nobody knows. They are never repeated by themselves."""


@command.command("list", epilog="\b\nExamples:\n  remit effects list\n  remit effects list --json\n")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, _CALLS_MAX))
@json_option
@click.pass_obj
def list_effects(home: Path, limit: int, as_json: bool) -> None:
    """List the calls that wait for a person to find out, newest first."""
    found = run_async(_list(Deployment(home=home, environment=os.environ), limit))
    if as_json:
        print_json([_as_json(call) for call in found])
        return
    if not found:
        print("the outcome of every call is known")
        return
    rows = [(call.action_id, call.resource, call.state, local_time(call.started_at_us)) for call in found]
    print_table(("call", "tool", "state", "begun (UTC)"), rows)


@command.command(
    "resolve",
    epilog="\b\nExamples:\n  remit effects resolve 01m8....2.t0 --happened --reason 'Bob has the mail'\n",
)
@click.argument("call_id")
@click.option("--happened/--did-not-happen", default=None, required=True, help="What you have found.")
@reason_option
@as_option
@json_option
@click.pass_obj
def resolve(home: Path, /, call_id: str, happened: bool, **given: Any) -> None:
    """Record what you have found. The model is told; a run that waits for it is ready to go on.

    What did not happen may be called again by the model, as a new call; what happened is not repeated.
    """
    finding = Finding(happened=happened, by=person(given["as_name"]), reason=given["reason"])
    call = run_async(_resolve(Deployment(home=home, environment=os.environ), call_id, finding))
    verdict = "happened" if happened else "did not happen"
    if given["as_json"]:
        print_json({"call_id": call.action_id, "happened": happened, "by": str(finding.by)})
    else:
        print(f"{call.action_id}  {verdict}, by {finding.by}")


async def _list(deployment: Deployment, limit: int) -> Sequence[CallRecord]:
    async with open_reader(deployment) as journal:
        return [] if journal is None else await journal.unresolved(limit)


async def _resolve(deployment: Deployment, call_id: str, finding: Finding) -> CallRecord:
    async with open_writer(deployment) as journal:
        call = await _find(journal, call_id)
        record = await journal.run(call.run_id)
        if record is None:
            raise RemitError("effect.settled", "the run of this call is not in the journal")
        at_us = SystemClock().now_us()
        if not await journal.resolve(resolution(call, record.run, finding, at_us)):
            raise RemitError("effect.settled", "its outcome has become known in this moment")
        return call


async def _find(journal: JournalReads, call_id: str) -> CallRecord:
    """The unresolved call of an id. Raises: RemitError `effect.settled`."""
    found = [call for call in await journal.unresolved(_CALLS_MAX) if call.action_id == call_id]
    if not found:
        raise RemitError("effect.settled", f"no call {call_id[:80]!r} waits for a person")
    return found[0]


def _as_json(call: CallRecord) -> dict[str, Any]:
    return {
        "call_id": call.action_id,
        "run_id": call.run_id,
        "tool": call.resource,
        "state": call.state,
        "digest": call.digest,
        "started_at": audit.timestamp(call.started_at_us),
        "held_nano_usd": call.held_nano_usd,
    }
