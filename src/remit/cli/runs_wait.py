"""`remit runs wait`: wait for a run that a worker has."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from remit.cli.asynchronous import run_async
from remit.cli.output import json_option, print_json
from remit.cli.runs_control import exit_of, find_run, print_end
from remit.core.errors import RemitError
from remit.core.runs import RunEnd, RunRecord
from remit.ports.journal import JournalReads
from remit.runtime.clock import SystemClock
from remit.wiring.deployment import Deployment, open_reader

POLL_S = 0.2
_READY_MAX = 1_000_000


@click.command(
    "wait", epilog="\b\nExamples:\n  remit runs wait 01m8...\n  remit runs wait 01m8... --timeout 60 --json\n"
)
@click.argument("run_id")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0), help="Seconds to wait at most; without, for ever."
)
@json_option
@click.pass_obj
def wait(home: Path, run_id: str, timeout_s: float | None, as_json: bool) -> None:
    """Wait until a run has ended or waits for a person, and print its answer.

    Exit codes: as `remit run`; 1 where the time is over.
    """
    deployment = Deployment(home=home, environment=os.environ)
    record, end = run_async(_wait(deployment, run_id, timeout_s))
    if as_json:
        error = {"code": end.code, "message": end.message} if end.code else None
        print_json({"run_id": record.run.id, "status": end.status, "answer": end.answer, "error": error})
    else:
        print_end(record.run.id, end)
    sys.exit(exit_of(end))


async def _wait(deployment: Deployment, run_id: str, timeout_s: float | None) -> tuple[RunRecord, RunEnd]:
    clock = SystemClock()
    began_ns = clock.monotonic_ns()
    async with open_reader(deployment) as journal:
        if journal is None:
            raise RemitError("run.unknown", f"there is no journal in {deployment.home}")
        known = await find_run(journal, run_id)
        while True:
            record = await journal.run(known.run.id) or known
            if record.end is not None and not await _goes_on(journal, record, clock.now_us()):
                return record, record.end
            if timeout_s is not None and (clock.monotonic_ns() - began_ns) / 1e9 >= timeout_s:
                message = f"the run is {record.status} after {timeout_s:g} s"
                raise RemitError("run.not_ended", message)
            await clock.sleep(POLL_S)


async def _goes_on(journal: JournalReads, record: RunRecord, now_us: int) -> bool:
    """Whether a run that waits needs nobody but a worker, or has gone on while this was asked."""
    if record.status != "suspended":
        return False
    run = record.run
    ready = await journal.ready_runs(run.agent, run.remit_digest, now_us, limit=_READY_MAX)
    return any(one.run_id == run.id for one in ready) or await journal.run(run.id) != record
