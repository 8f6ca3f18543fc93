"""`remit worker`: take runs from the queue, as many workers as wanted on one database."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import click

from remit.cli.agent_options import agent_options, changes_of
from remit.cli.asynchronous import Drain, grace_option, run_async
from remit.cli.output import clean, dim, paint
from remit.cli.people import tenant
from remit.core.money import format_usd
from remit.runtime.runner import RunResult
from remit.wiring.agent import AgentOptions
from remit.wiring.deployment import Deployment
from remit.wiring.workers import StarterOptions, open_worker

_COLOURS = {"succeeded": "green", "suspended": "yellow"}


class _Wanted(NamedTuple):
    """How the worker is run."""

    options: AgentOptions
    drain: Drain
    starters: StarterOptions


@click.command(
    epilog="\b\nExamples:\n"
    "  remit worker agent-config.yaml                      # one, on the SQLite file in its home\n"
    "  REMIT_DATABASE_URL=postgresql://... remit --home w1 worker agent-config.yaml\n"
    "  REMIT_DATABASE_URL=postgresql://... remit --home w2 worker agent-config.yaml   # a second\n"
    "  remit worker agent-config.yaml --listen 127.0.0.1:8088  # take its webhooks too\n"
    "  remit run agent-config.yaml --detach --task 'I was charged twice'\n"
)
@click.argument("config", type=click.Path(path_type=Path))
@agent_options
@grace_option
@click.option(
    "--listen",
    metavar="HOST:PORT",
    envvar="REMIT_LISTEN",
    help="Take CONFIG's webhooks there (or REMIT_LISTEN).",
)
@click.pass_obj
def command(home: Path, /, **given: Any) -> None:
    """Work on the runs of CONFIG's agent that wait in the journal, until SIGTERM or Ctrl-C.

    Those are the runs of `remit run --detach`, those that a person has decided about, and those that a process
    handed over or left behind when it died; and it begins what CONFIG's schedules and webhooks ask for. Without REMIT_DATABASE_URL one worker has the home to itself.
    """
    os.umask(0o077)  # what is kept of a run is for whoever runs it
    deployment = Deployment(home=home, environment=os.environ)
    options = AgentOptions(config=given["config"], changes=changes_of(given), offline=given["offline"])
    drain = Drain(given["grace_s"])
    starters = StarterOptions(tenant=tenant(), listen=given["listen"])
    run_async(_work(deployment, _Wanted(options, drain, starters)), drain)


async def _work(deployment: Deployment, wanted: _Wanted) -> None:
    async with open_worker(deployment, wanted.options, wanted.starters, _told, _say) as opened:
        agent = opened.agent
        for notice in agent.notices:
            _say(notice)
        if agent.interrupted:
            _say(f"{len(agent.interrupted)} run(s) of a process that died go on")
        where = "PostgreSQL" if deployment.postgres else str(deployment.home)
        _say(
            f"worker {agent.worker} for {agent.remit.agent}, remit {agent.remit.digest[:12]}: "
            f"up to {agent.remit.max_concurrent_runs} runs at once, on {where}"
        )
        if opened.hooks_url is not None:
            _say(f"webhooks are taken at {opened.hooks_url}NAME")
        wanted.drain.opened(agent.runner.hand_over, opened.stop)
        await opened.worker.work(wanted.drain.grace_s)


def _told(result: RunResult) -> None:
    end = result.end
    status = paint(f"{end.status} {end.code}".rstrip(), _COLOURS.get(end.status, "red"))
    facts = dim(
        f"{result.steps} steps, {format_usd(result.cost_nano_usd)}, {result.duration_us / 1_000_000:.2f} s"
    )
    print(f"{result.run.id}  {status}  {facts}  {clean(end.message, 100)}".rstrip(), flush=True)


def _say(text: str) -> None:
    print(f"remit: {text}", file=sys.stderr, flush=True)
