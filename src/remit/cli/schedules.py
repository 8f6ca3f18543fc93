"""`remit schedules`: when tasks begin by the clock, and what became of the last ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click

from remit.cli.asynchronous import run_async
from remit.cli.output import json_option, print_json, print_table
from remit.cli.people import tenant
from remit.core import audit, ids
from remit.core.runs import RunRecord
from remit.governance.remit import Remit
from remit.governance.schedules import Schedule, clock_time, ticks
from remit.runtime.clock import SystemClock
from remit.wiring.deployment import Deployment, open_reader
from remit.wiring.remits import load_remit

_NEXT = 3


@click.group(epilog="\b\nExamples:\n  remit schedules list agent-config.yaml\n")
def command() -> None:
    """The tasks that workers begin by the clock."""


@command.command("list")
@click.argument("config", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def list_schedules(home: Path, config: Path, as_json: bool) -> None:
    """List the schedules in CONFIG: their next ticks in their own zone, and their last runs."""
    remit = load_remit(config)
    deployment = Deployment(home=home, environment=os.environ)
    found = list(zip(remit.schedules, run_async(_last_runs(deployment, remit)), strict=True))
    now_us = SystemClock().now_us()
    if as_json:
        print_json([_schedule_json(schedule, last, now_us) for schedule, last in found])
        return
    if not found:
        print(f"no schedules in {config}")
        return
    rows = [
        (
            schedule.name,
            schedule.in_words(),
            schedule.timezone,
            ", ".join(clock_time(tick_us, schedule.timezone) for tick_us in _next(schedule, now_us)[:2]),
            schedule.missed,
            "-" if last is None else f"{last.run.id} {last.status}",
        )
        for schedule, last in found
    ]
    print_table(("schedule", "when", "zone", "next", "missed", "last run"), rows)


def _schedule_json(schedule: Schedule, last: RunRecord | None, now_us: int) -> dict[str, Any]:
    shown = None
    if last is not None:
        at = audit.timestamp(ids.moment_us(last.run.id))
        shown = {"run_id": last.run.id, "tick": at, "status": last.status}
    return {
        "name": schedule.name,
        "cron": schedule.cron,
        "in_words": schedule.in_words(),
        "timezone": schedule.timezone,
        "task": schedule.task,
        "urgency": schedule.urgency,
        "missed": schedule.missed,
        "next": [audit.timestamp(tick_us) for tick_us in _next(schedule, now_us)],
        "last": shown,
    }


def _next(schedule: Schedule, now_us: int) -> list[int]:
    return list(islice(ticks(schedule, now_us), _NEXT))


async def _last_runs(deployment: Deployment, remit: Remit) -> Sequence[RunRecord | None]:
    principals = [schedule.principal(tenant()) for schedule in remit.schedules]
    async with open_reader(deployment) as journal:
        if journal is None:
            return [None] * len(principals)
        return [await journal.last_run(remit.agent, principal) for principal in principals]
