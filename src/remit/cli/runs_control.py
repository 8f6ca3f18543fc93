"""`remit runs resume` and `remit runs cancel`: let runs go on, or end them, from any shell."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from remit.cli.agent_options import agent_options, changes_of
from remit.cli.asynchronous import Drain, grace_option, run_async
from remit.cli.output import clean, clean_text, json_option, print_json
from remit.cli.people import as_option, person, reason_option
from remit.cli.watch import Watch
from remit.core.actions import Principal
from remit.core.errors import CODES, Exit, RemitError
from remit.core.runs import RunEnd, RunRecord
from remit.governance import records
from remit.ports.journal import JournalReads
from remit.ports.runs import RunEnding
from remit.runtime.clock import SystemClock
from remit.runtime.resumer import Resumer
from remit.runtime.runner import RunResult
from remit.wiring.deployment import Deployment, open_reader
from remit.wiring.journals import open_writer

EXITS = {"succeeded": Exit.DONE, "refused": Exit.REFUSED, "suspended": Exit.SUSPENDED}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """Which runs to resume, and how."""

    run_id: str | None
    all_ready: bool
    as_json: bool
    drain: Drain


@click.command(
    "resume",
    epilog="\b\nExamples:\n"
    "  remit runs resume 01m8... --config agent-config.yaml\n"
    "  remit runs resume --all-ready      # `remit worker` stays, and does so all the time\n",
)
@click.argument("run_id", required=False)
@click.option("--all-ready", is_flag=True, help="Every run that has nothing left to wait for.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("agent-config.yaml"),
    show_default=True,
    help="The governance file that the runs began under.",
)
@agent_options
@grace_option
@json_option
@click.pass_obj
def resume(home: Path, /, **given: Any) -> None:
    """Let a run go on that waited for a person, was paused or handed over: nothing is done twice.

    Exit codes for one run: as `remit run`. For several: 0, or 1 where one has failed.
    """
    wanted = _Wanted(
        run_id=given["run_id"],
        all_ready=given["all_ready"],
        as_json=given["as_json"],
        drain=Drain(given["grace_s"]),
    )
    if (wanted.run_id is not None) + wanted.all_ready != 1:
        raise RemitError("usage.invalid", "say which: RUN or --all-ready")
    os.umask(0o077)
    deployment = Deployment(home=home, environment=os.environ)
    # who reads or cancels runs does not wait for all that an agent needs
    from remit.wiring.agent import AgentOptions  # noqa: PLC0415

    options = AgentOptions(
        config=given["config"],
        changes=changes_of(given),
        offline=given["offline"],
        watch=None if wanted.as_json else Watch(),
    )
    sys.exit(run_async(_resume(deployment, options, wanted), wanted.drain))


@click.command("cancel", epilog="\b\nExamples:\n  remit runs cancel 01m8... --reason 'wrong customer'\n")
@click.argument("run_id")
@reason_option
@as_option
@json_option
@click.pass_obj
def cancel(home: Path, run_id: str, reason: str, as_name: str | None, as_json: bool) -> None:
    """End a run, wherever it is: a tool that is under way is ended too, within a second."""
    deployment = Deployment(home=home, environment=os.environ)
    record = run_async(_cancel(deployment, run_id, person(as_name), reason))
    if as_json:
        print_json({"run_id": record.run.id, "status": "cancelled", "was": record.status})
    else:
        print(f"{record.run.id}  cancelled, it was {record.status}")


async def _resume(deployment: Deployment, options: Any, wanted: _Wanted) -> int:
    from remit.wiring.agent import open_agent  # noqa: PLC0415 - as above

    run_id = await _known(deployment, wanted.run_id)
    async with open_agent(deployment, options) as agent:
        results: list[RunResult] = []

        def told(result: RunResult) -> None:
            results.append(result)
            if not wanted.as_json:
                print_end(result.run.id, result.end)

        resumer = Resumer(agent.runner, agent.remit, agent.journal, SystemClock())
        wanted.drain.opened(agent.runner.hand_over, resumer.stop)
        if run_id is not None:
            told(await agent.runner.resume(run_id))
        else:
            await resumer.resume_ready(told)
    if wanted.as_json:
        print_json([_as_json(result) for result in results])
    elif not results:
        print("no run is ready")
    if run_id is not None:
        return exit_of(results[0].end)
    return Exit.FAILED if any(one.end.status == "failed" for one in results) else Exit.DONE


async def _known(deployment: Deployment, run_id: str | None) -> str | None:
    if run_id is None:
        return None
    async with open_reader(deployment) as journal:
        if journal is None:
            raise RemitError("run.unknown", f"there is no journal in {deployment.home}")
        return (await find_run(journal, run_id)).run.id


async def _cancel(deployment: Deployment, run_id: str, who: Principal, reason: str) -> RunRecord:
    async with open_writer(deployment) as journal:
        record = await find_run(journal, run_id)
        message = f"{who} cancelled it: {clean(reason, 500)}"
        end = RunEnd(status="cancelled", code="run.cancelled", message=message)
        at_us = SystemClock().now_us()
        ending = RunEnding(end=end, audit=records.run_ended(record.run, end, at_us))
        if not await journal.cancel_run(record.run.id, ending, at_us):
            raise RemitError("run.not_running", f"the run is {record.status} already")
    return record


async def find_run(journal: JournalReads, run_id: str | None) -> RunRecord:
    """The run of an id, of the beginning of one, or the newest; rather one that no other has started.

    Raises: RemitError `run.unknown`.
    """
    if run_id is not None and (found := await journal.run(run_id)) is not None:
        return found
    newest = await journal.runs(limit=1000)
    matching = [record for record in newest if run_id is None or record.run.id.startswith(run_id)]
    matching = [record for record in matching if record.run.parent is None] or matching
    if run_id is None:
        matching = matching[:1]
    if len(matching) == 1:
        return matching[0]
    if not matching:
        raise RemitError(
            "run.unknown", "there is no run yet" if run_id is None else f"there is no run {run_id!r}"
        )
    raise RemitError(
        "run.unknown", f"{run_id!r} begins the ids of {len(matching)} runs", remedy="give more of it"
    )


def exit_of(end: RunEnd) -> int:
    """The exit code of a run that ended so."""
    return EXITS.get(end.status, CODES[end.code].exit if end.code else Exit.FAILED)


def print_end(run_id: str, end: RunEnd) -> None:
    """How a run ended, or why it waits, and its answer."""
    print(f"{run_id}  {end.status} {end.code}".rstrip())
    if end.answer or end.message:
        print("\n".join(f"  {line}" for line in clean_text(end.answer or end.message).splitlines()))


def _as_json(result: RunResult) -> dict[str, Any]:
    end = result.end
    return {
        "run_id": result.run.id,
        "status": end.status,
        "answer": end.answer,
        "error": {"code": end.code, "message": end.message} if end.code else None,
        "steps": result.steps,
        "attempts": result.attempts,
    }
