"""`remit agents`: what each agent has under way, and pausing one everywhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from remit.cli.asynchronous import run_async
from remit.cli.controls import set_control, told
from remit.cli.output import json_option, local_time, print_json, print_table
from remit.cli.people import as_option, person, reason_option
from remit.core import audit
from remit.core.controls import AgentLoad, Control
from remit.core.errors import RemitError
from remit.wiring.deployment import Deployment, open_reader


@click.group(
    epilog="\b\nExamples:\n"
    "  remit agents list\n"
    "  remit agents pause customer-support-v2 --reason 'it answers nonsense'\n"
    "  remit agents resume customer-support-v2\n"
    "  remit agents pause --all --reason 'the database is being moved'\n"
)
def command() -> None:
    """The agents of this journal: what they have under way, and a switch to stop each of them."""


@command.command("list", epilog="\b\nExamples:\n  remit agents list\n  remit agents list --json\n")
@json_option
@click.pass_obj
def list_agents(home: Path, as_json: bool) -> None:
    """List the agents, their runs that have not ended, and everything that is paused, since when, and why."""
    loads, controls = run_async(_read(Deployment(home=home, environment=os.environ)))
    paused = {one.scope: one for one in controls}
    agents = {_scope(load.tenant, load.agent): load for load in loads}
    others = [one for one in controls if one.scope not in agents]
    if as_json:
        shown = [_as_json(load, paused.get("all") or paused.get(scope)) for scope, load in agents.items()]
        print_json({"agents": shown, "paused": [_control_json(one) for one in others]})
        return
    if not loads and not controls:
        print(f"no agent has run in {home}")
        return
    rows = []
    for scope, load in agents.items():
        control = paused.get("all") or paused.get(scope)
        counts = (str(load.running), str(load.queued), str(load.suspended))
        rows.append((load.agent, load.tenant, "paused" if control else "open", *counts, *_why(control)))
    header = ("agent", "tenant", "state", "running", "queued", "waiting", "paused since (UTC)", "why")
    print_table(header, rows, right=frozenset({3, 4, 5}))
    if others:
        print()
        print_table(("paused", "since (UTC)", "why"), [(one.scope, *_why(one)) for one in others])


@command.command(
    "pause", epilog="\b\nExamples:\n  remit agents pause support --reason 'it answers nonsense'\n"
)
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Everything that goes through this journal.")
@reason_option
@as_option
@json_option
@click.pass_obj
def pause(home: Path, /, name: str | None, everything: bool, **given: Any) -> None:
    """Stop an agent, in every process: from its next gate crossing on it performs nothing.

    Its runs wait, and go on when it is resumed. To end a run, and the tool it is in: remit runs cancel.
    """
    scope = _named(name, everything=everything)
    set_control(home, scope, given["reason"], paused=True, as_name=given["as_name"])
    told(scope, paused=True, as_json=given["as_json"])


@command.command("resume", epilog="\b\nExamples:\n  remit agents resume support\n")
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="What `pause --all` has paused.")
@click.option("--reason", default="", help="Why; it is recorded.")
@as_option
@json_option
@click.pass_obj
def resume(home: Path, /, name: str | None, everything: bool, **given: Any) -> None:
    """Let an agent go on. The runs that its pause stopped are ready again."""
    scope = _named(name, everything=everything)
    set_control(home, scope, given["reason"], paused=False, as_name=given["as_name"])
    told(scope, paused=False, as_json=given["as_json"])


def _named(name: str | None, *, everything: bool) -> str:
    if (name is None) != everything:
        raise RemitError("usage.invalid", "name one agent, or --all")
    return "all" if name is None else _scope(person().tenant, name)


def _scope(tenant: str, agent: str) -> str:
    return f"agent:{tenant}/{agent}"


def _why(control: Control | None) -> tuple[str, str]:
    return ("-", "") if control is None else (local_time(control.at_us), control.reason)


async def _read(deployment: Deployment) -> tuple[Sequence[AgentLoad], Sequence[Control]]:
    async with open_reader(deployment) as journal:
        return ((), ()) if journal is None else (await journal.agents(), await journal.controls())


def _as_json(load: AgentLoad, control: Control | None) -> dict[str, Any]:
    return {
        "agent": load.agent,
        "tenant": load.tenant,
        "running": load.running,
        "queued": load.queued,
        "suspended": load.suspended,
        "paused": None if control is None else _control_json(control),
    }


def _control_json(control: Control) -> dict[str, Any]:
    return {"scope": control.scope, "since": audit.timestamp(control.at_us), "reason": control.reason}
