"""`remit trace`: a run drawn as a tree."""

from __future__ import annotations

import os
from pathlib import Path

import click

from remit.cli import tracetree
from remit.cli.asynchronous import run_async
from remit.cli.output import has_colour, json_option, print_json, width
from remit.cli.runs_control import find_run
from remit.cli.tracenodes import TraceView
from remit.core.errors import RemitError
from remit.core.runs import RunRecord
from remit.ports.journal import JournalReads
from remit.runtime.clock import SystemClock
from remit.wiring.deployment import Deployment, open_reader, trace_reader


@click.command(epilog="\b\nExamples:\n  remit trace   (the newest run)\n  remit trace 01m8... --json\n")
@click.argument("run_id", required=False)
@json_option
@click.pass_obj
def command(home: Path, run_id: str | None, as_json: bool) -> None:
    """Draw a run (by its id, the beginning of it, or the newest): what it did, why, how long, at what cost.

    The runs of the agents that it asked stand below the calls that asked them.
    """
    deployment = Deployment(home=home, environment=os.environ)
    view = run_async(_view(deployment, run_id))
    if as_json:
        print_json(tracetree.to_json(view))
    else:
        print(tracetree.render(view, width=width(), colour=has_colour()), end="")


async def draw(deployment: Deployment, run_id: str) -> str:
    """The tree of a run, for printing."""
    view = await _view(deployment, run_id)
    return tracetree.render(view, width=width(), colour=has_colour())


async def _view(deployment: Deployment, run_id: str | None) -> TraceView:
    async with open_reader(deployment) as journal:
        if journal is None:
            raise RemitError("run.unknown", f"there is no journal in {deployment.home}")
        return await _view_of(deployment, journal, await find_run(journal, run_id))


async def _view_of(deployment: Deployment, journal: JournalReads, record: RunRecord) -> TraceView:
    run_id = record.run.id
    return TraceView(
        run_id=run_id,
        agent=record.run.agent,
        status=record.status,
        spans=trace_reader(deployment).spans(run_id),
        calls=await journal.calls(run_id),
        code=record.end.code if record.end else "",
        message=record.end.message if record.end else "",
        now_us=SystemClock().now_us(),
        below=[await _view_of(deployment, journal, below) for below in await journal.children(run_id)],
        parent=record.run.parent,
    )
