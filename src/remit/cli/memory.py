"""`remit memory`: what agents remember; look at it, and have it erased."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from remit.cli.asynchronous import run_async
from remit.cli.output import bold, clean, clean_text, dim, json_option, local_time, print_json, print_table
from remit.cli.people import as_option, person, reason_option
from remit.core import audit
from remit.core.errors import RemitError
from remit.core.memory import NOTES, Kept, ListInfo, session_list, session_of
from remit.runtime.clock import SystemClock
from remit.wiring.deployment import Deployment
from remit.wiring.memories import Erasure, erase, open_kept

_SUBJECT_CHARS_MIN = 3
agent_option = click.option("--agent", help="Only of this agent.")


class _List(NamedTuple):
    """A list of an agent's memory, and what stands in it."""

    info: ListInfo
    kept: Sequence[Kept]


@click.group(
    epilog="\b\nExamples:\n"
    "  remit memory list\n"
    "  remit memory show --session SUPPORT-77\n"
    "  remit memory erase --subject C-1042 --reason 'asked for by mail of 3 May'\n"
)
def command() -> None:
    """What agents remember from run to run: sessions and notes. Always of one tenant, REMIT_TENANT."""


@command.command(
    "list", epilog="\b\nExamples:\n  remit memory list\n  remit memory list --agent support --json\n"
)
@agent_option
@json_option
@click.pass_obj
def list_memory(home: Path, agent: str | None, as_json: bool) -> None:
    """List the sessions and notes there are, with their size."""
    infos = run_async(_infos(Deployment(home=home, environment=os.environ), agent))
    if as_json:
        print_json([_info_json(info) for info in infos])
        return
    if not infos:
        print("nothing is remembered")
        return
    rows = [
        (
            info.scope.agent,
            "session" if session_of(info.name) else info.name,
            session_of(info.name),
            str(info.entries),
            str(info.size),
            local_time(info.last_at_us),
            local_time(info.expires_at_us),
        )
        for info in infos
    ]
    print_table(("agent", "kind", "session", "entries", "bytes", "newest (UTC)", "gone by (UTC)"), rows)


@command.command(
    "show",
    epilog="\b\nExamples:\n  remit memory show --session SUPPORT-77\n  remit memory show --notes --agent support\n",
)
@click.option("--session", help="The session to show.")
@click.option("--notes", is_flag=True, help="The notes.")
@agent_option
@json_option
@click.pass_obj
def show(home: Path, session: str | None, notes: bool, agent: str | None, as_json: bool) -> None:
    """Show what is kept, with its labels, word for word."""
    if bool(session) == notes:
        raise RemitError("usage.invalid", "give either --session NAME or --notes")
    name = session_list(session) if session else NOTES
    lists = run_async(_lists(Deployment(home=home, environment=os.environ), agent, name))
    if as_json:
        print_json(
            [_info_json(one.info) | {"kept": [_kept_json(kept) for kept in one.kept]} for one in lists]
        )
        return
    if not lists:
        print("nothing of it is remembered")
    for one in lists:
        print(bold(f"{one.info.scope.agent}  {one.info.name}"))
        for seq, entry in one.kept:
            labels = ", ".join((*entry.classes, entry.trust))
            about = f"  about {clean(entry.subject, 130)}" if entry.subject else ""
            covers = f"  in the place of 1 to {entry.covers}" if entry.covers else ""
            head = f"{seq}  {local_time(entry.at_us)}  {entry.role}{about}{covers}"
            print(f"{head}  {dim(f'{labels}, run {entry.source}')}")
            print("\n".join(f"    {line}" for line in clean_text(entry.text).splitlines()))


@command.command(
    "erase",
    epilog="\b\nExamples:\n"
    "  remit memory erase --subject C-1042 --reason 'asked for by mail of 3 May'\n"
    "  remit memory erase --session SUPPORT-77 --reason 'closed'\n",
)
@click.option("--subject", help="Whoever is to be forgotten, by the id that they have in the texts.")
@click.option("--session", help="The session to forget.")
@agent_option
@reason_option
@as_option
@json_option
@click.pass_obj
def erase_memory(
    home: Path, /, subject: str | None, session: str | None, agent: str | None, **given: Any
) -> None:
    """Erase a session, or all that is of a person or names them, with every summary that was made of it.

    Of a session the whole turn goes that names them; summaries are made anew. Runs that are under way keep
    nothing in what was erased. The journal's own records are not touched.
    """
    if bool(subject) == bool(session):
        raise RemitError("usage.invalid", "give either --subject ID or --session NAME")
    if subject and len(subject.strip()) < _SUBJECT_CHARS_MIN:
        raise RemitError("usage.invalid", f"{subject!r} is too short: it would be found in texts of others")
    who = person(given["as_name"])
    erasure = Erasure(
        tenant=who.tenant,
        agent=agent,
        subject=subject or "",
        name=session_list(session) if session else "",
        by=str(who),
        reason=clean(given["reason"], 500),
    )
    count = run_async(erase(Deployment(home=home, environment=os.environ), erasure, SystemClock()))
    if given["as_json"]:
        print_json({"erased": count})
    else:
        print(f"{count} entries erased" if count else "nothing of it was remembered")


async def _infos(deployment: Deployment, agent: str | None) -> list[ListInfo]:
    async with open_kept(deployment) as memory:
        lists = [] if memory is None else await memory.lists(SystemClock().now_us())
    tenant = person().tenant
    return [one for one in lists if one.scope.tenant == tenant and agent in (None, one.scope.agent)]


async def _lists(deployment: Deployment, agent: str | None, name: str) -> list[_List]:
    infos = [info for info in await _infos(deployment, agent) if info.name == name]
    async with open_kept(deployment) as memory:
        if memory is None:
            return []
        now_us = SystemClock().now_us()
        return [_List(info, await memory.entries(info.scope, name, now_us)) for info in infos]


def _info_json(info: ListInfo) -> dict[str, Any]:
    return {
        "agent": info.scope.agent,
        "session": session_of(info.name) or None,
        "entries": info.entries,
        "bytes": info.size,
        "first_at": audit.timestamp(info.first_at_us),
        "last_at": audit.timestamp(info.last_at_us),
        "expires_at": audit.timestamp(info.expires_at_us),
    }


def _kept_json(kept: Kept) -> dict[str, Any]:
    seq, entry = kept
    return {
        "number": seq,
        "role": entry.role,
        "text": entry.text,
        "classes": list(entry.classes),
        "trust": entry.trust,
        "run_id": entry.source,
        "about": entry.subject,
        "at": audit.timestamp(entry.at_us),
        "expires_at": audit.timestamp(entry.expires_at_us),
        "covers": entry.covers,
    }
