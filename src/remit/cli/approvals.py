"""`remit approvals`: what waits for a person, and the person's decision."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson

from remit.cli.asynchronous import run_async
from remit.cli.family import first_of
from remit.cli.output import bold, clean, clean_text, json_option, local_time, print_json, print_table
from remit.cli.people import as_option, person, reason_option
from remit.core import audit
from remit.core.actions import Principal
from remit.core.approvals import Approval
from remit.core.errors import RemitError
from remit.core.runs import Run
from remit.governance import votes
from remit.governance.rules import Rules
from remit.governance.votes import Verdict
from remit.ports.journal import JournalReads
from remit.runtime.clock import SystemClock
from remit.wiring.deployment import Deployment, open_reader
from remit.wiring.journals import open_writer
from remit.wiring.remits import load_remit, tool_declarations

_ARGUMENT_BYTES_MAX = 1024 * 1024


@click.group(
    epilog="\b\nExamples:\n"
    "  remit approvals list\n"
    "  remit approvals show 01m8...\n"
    "  remit approvals approve 01m8... --as alice\n"
    "  remit approvals deny 01m8... --as alice --reason 'not to a private address'\n"
)
def command() -> None:
    """What an agent may only do once a person has approved it."""


@command.command(
    "list", epilog="\b\nExamples:\n  remit approvals list\n  remit approvals list --all --json\n"
)
@click.option("--all", "show_all", is_flag=True, help="Also what was decided, or has expired.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@json_option
@click.pass_obj
def list_approvals(home: Path, show_all: bool, limit: int, as_json: bool) -> None:
    """List what waits for a decision, newest first."""
    now_us = SystemClock().now_us()
    found = run_async(_list(_deployment(home), None if show_all else now_us, limit))
    if as_json:
        print_json([_as_json(one, now_us) for one in found])
        return
    if not found:
        print("nothing was asked of anybody" if show_all else "nothing waits for a decision")
        return
    rows = [
        (
            one.id,
            _state(one, now_us),
            _shown(one).get("agent", ""),
            one.resource,
            one.requested_by,
            local_time(one.expires_at_us),
            _shown(one).get("reason", ""),
        )
        for one in found
    ]
    print_table(("approval", "state", "agent", "tool", "asked for by", "expires (UTC)", "because"), rows)


@command.command("show", epilog="\b\nExamples:\n  remit approvals show 01m8...\n")
@click.argument("approval_id")
@json_option
@click.pass_obj
def show_approval(home: Path, approval_id: str, as_json: bool) -> None:
    """Show exactly what will be done, which rule asks, for whom, and who may decide."""
    approval, run = run_async(_show(_deployment(home), approval_id))
    now_us = SystemClock().now_us()
    action = votes.asked(approval, run)
    if as_json:
        print_json(_as_json(approval, now_us) | {"args": action.args_value(), "digest": action.digest})
        return
    shown = _shown(approval)
    who = " or ".join(approval.roles) if approval.roles else "anybody"
    facts = [
        ("approval", approval.id),
        ("state", _state(approval, now_us)),
        ("expires", f"{local_time(approval.expires_at_us)} UTC"),
        ("asked by", f"agent {run.agent}, for {approval.requested_by}"),
        ("run", f"{run.id}, call {approval.action_id.partition('.')[2]}"),
        ("because", f"{shown.get('reason', '')} (rule {approval.rule}, {shown.get('source', '')})"),
        (
            "may decide",
            f"{who}, but {approval.requested_by}; {len(approval.votes)} of {approval.quorum} have approved",
        ),
        ("decided by", approval.decided_by or "-"),
        ("task", clean(run.task.text)),
    ]
    if approval.reason:
        facts.append(("reason", approval.reason))
    for name, value in facts:
        print(f"{name:<12}{clean(value, 500)}")
    edited = "  (edited by a person)" if approval.edited_args is not None else ""
    print(f"\n{bold(f'calls {approval.resource} with exactly this')}{edited}")
    print(_arguments(action.args_value()))


@command.command("approve", epilog="\b\nExamples:\n  remit approvals approve 01m8... --as alice\n")
@click.argument("approval_id")
@click.option("--reason", default="", help="Why; it is recorded.")
@as_option
@json_option
@click.pass_obj
def approve(home: Path, approval_id: str, reason: str, as_name: str | None, as_json: bool) -> None:
    """Let the call be done, exactly as `remit approvals show` shows it, once, until it expires."""
    _decide(home, approval_id, person(as_name), _Said(approves=True, reason=reason), as_json=as_json)


@command.command(
    "deny", epilog="\b\nExamples:\n  remit approvals deny 01m8... --as alice --reason 'ask him first'\n"
)
@click.argument("approval_id")
@reason_option
@as_option
@json_option
@click.pass_obj
def deny(home: Path, approval_id: str, reason: str, as_name: str | None, as_json: bool) -> None:
    """Refuse the call. The model is told the reason, and goes on without it."""
    _decide(home, approval_id, person(as_name), _Said(approves=False, reason=reason), as_json=as_json)


@command.command(
    "edit",
    epilog="\b\nExamples:\n"
    "  remit approvals edit 01m8... --args @mail.json --reason 'without the card number' --as alice\n"
    '  remit approvals edit 01m8... --args \'{"to": "a@example.com", "subject": "s", "body": "b"}\' --reason r\n',
)
@click.argument("approval_id")
@click.option(
    "--args", "args_text", required=True, help="All arguments as a JSON object; @FILE reads a file."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("agent-config.yaml"),
    show_default=True,
    help="The agent's governance file, by whose rules the edited call is checked.",
)
@reason_option
@as_option
@json_option
@click.pass_obj
def edit(home: Path, /, approval_id: str, args_text: str, config: Path, **given: Any) -> None:
    """Approve the call with other arguments: those, checked by the same rules, and no others are used."""
    said = _Said(approves=True, reason=given["reason"], args=_parsed(args_text), config=config)
    _decide(home, approval_id, person(given["as_name"]), said, as_json=given["as_json"])


async def find_approval(journal: JournalReads, approval_id: str) -> Approval:
    """The approval of an id, or of the beginning of one. Raises: RemitError `approval.unknown`."""
    found = await journal.approval(approval_id)
    if found is not None:
        return found
    matching = [one for one in await journal.approvals(limit=1000) if one.id.startswith(approval_id)]
    if len(matching) == 1:
        return matching[0]
    if not matching:
        raise RemitError("approval.unknown", f"there is no approval {approval_id[:80]!r}")
    message = f"{approval_id!r} begins the ids of {len(matching)} approvals"
    raise RemitError("approval.unknown", message, remedy="give more of it")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What was typed; `args` and `config` for an edit."""

    approves: bool
    reason: str
    args: Any = None
    config: Path | None = None


def _decide(home: Path, approval_id: str, who: Principal, said: _Said, *, as_json: bool) -> None:
    after, run_id = run_async(_vote(_deployment(home), approval_id, who, said))
    now_us = SystemClock().now_us()
    if as_json:
        print_json(_as_json(after, now_us))
        return
    print(f"{after.id}  {_state(after, now_us)}  by {who}")
    if after.verdict == "pending":
        print(f"  {after.quorum - len(after.votes)} more must approve")
        return
    print(f"  where a `remit worker` is on, the run goes on; else: remit runs resume {run_id}")


async def _vote(
    deployment: Deployment, approval_id: str, who: Principal, said: _Said
) -> tuple[Approval, str]:
    """The approval after the vote, and the run that goes on with it: the first above the one that asked."""
    async with open_writer(deployment) as journal:
        approval = await find_approval(journal, approval_id)
        run = await _run_of(journal, approval)
        edited = None
        if said.config is not None:
            remit = load_remit(said.config)
            rules = Rules(remit, tool_declarations(remit))
            edited = votes.edited(approval, run, said.args)
            votes.check_edit(edited, approval, rules)
        verdict = Verdict(approves=said.approves, reason=said.reason, edited=edited)
        vote, record = votes.vote(approval, run, who, verdict, SystemClock().now_us())
        after = await journal.decide_approval(vote, record)
        run_id = await first_of(journal, run.id)
    if after is None:
        message = "somebody else has decided or changed it in this moment"
        raise RemitError(
            "approval.invalid", message, remedy=f"look again: remit approvals show {approval.id}"
        )
    return after, run_id


async def _run_of(journal: JournalReads, approval: Approval) -> Run:
    record = await journal.run(approval.run_id)
    if record is None:
        raise RemitError("approval.invalid", "the run that asked for it is not in the journal")
    return record.run


async def _list(deployment: Deployment, pending_at_us: int | None, limit: int) -> Sequence[Approval]:
    async with open_reader(deployment) as journal:
        if journal is None:
            return []
        return await journal.approvals(pending_at_us=pending_at_us, limit=limit)


async def _show(deployment: Deployment, approval_id: str) -> tuple[Approval, Run]:
    async with open_reader(deployment) as journal:
        if journal is None:
            raise RemitError("approval.unknown", f"there is no journal in {deployment.home}")
        approval = await find_approval(journal, approval_id)
        return approval, await _run_of(journal, approval)


def _deployment(home: Path) -> Deployment:
    return Deployment(home=home, environment=os.environ)


def _parsed(text: str) -> Any:
    try:
        if text.startswith("@"):
            with Path(text[1:]).open("rb") as file:
                return orjson.loads(file.read(_ARGUMENT_BYTES_MAX))
        return orjson.loads(text)
    except OSError as error:
        raise RemitError("usage.invalid", f"{text[1:]} cannot be read", cause=error.strerror or "") from error
    except orjson.JSONDecodeError as error:
        raise RemitError("usage.invalid", "the arguments are not JSON", cause=str(error)) from error


def _shown(approval: Approval) -> dict[str, Any]:
    """What the gate wrote for a person."""
    shown: dict[str, Any] = orjson.loads(approval.action)
    return shown


def _state(approval: Approval, now_us: int) -> str:
    if approval.used_at_us is not None:
        return "used"
    if approval.verdict != "denied" and approval.expires_at_us <= now_us:
        return "expired"
    if approval.verdict == "pending":
        return f"waits, {len(approval.votes)} of {approval.quorum}" if approval.quorum > 1 else "waits"
    return "approved, edited" if approval.verdict == "approved" and approval.edited_args else approval.verdict


def _arguments(args: Any) -> str:
    """Each argument under its name, as it is, with nothing in it that could move the cursor."""
    if not isinstance(args, dict):
        return f"  {clean(orjson.dumps(args).decode(), 10_000)}"
    lines = []
    for name, value in args.items():
        text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
        first, *rest = clean_text(text).splitlines() or [""]
        lines.append(f"  {clean(name):<12} {first}")
        lines += [f"  {'':<12} {line}" for line in rest]
    return "\n".join(lines)


def _as_json(approval: Approval, now_us: int) -> dict[str, Any]:
    shown = _shown(approval)
    at = audit.timestamp
    return {
        "approval_id": approval.id,
        "state": _state(approval, now_us),
        "verdict": approval.verdict,
        "run_id": approval.run_id,
        "call": approval.action_id.partition(".")[2],
        "agent": shown.get("agent"),
        "tool": approval.resource,
        "rule": approval.rule,
        "source": shown.get("source"),
        "because": shown.get("reason"),
        "requested_by": approval.requested_by,
        "requested_at": at(approval.requested_at_us),
        "expires_at": at(approval.expires_at_us),
        "roles": list(approval.roles),
        "quorum": approval.quorum,
        "votes": list(approval.votes),
        "decided_by": approval.decided_by,
        "decided_at": None if approval.decided_at_us is None else at(approval.decided_at_us),
        "reason": approval.reason,
        "used_at": None if approval.used_at_us is None else at(approval.used_at_us),
        "digest": approval.digest,
        "remit_digest": approval.remit_digest,
    }
