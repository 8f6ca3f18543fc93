"""Approvals: the operations on them, inside a transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import orjson

from remit.adapters.journal import outbox, waiting
from remit.adapters.journal.sql import Sql
from remit.core.approvals import (
    APPROVAL_ESCALATED,
    APPROVAL_REMINDER,
    APPROVAL_REQUESTED,
    Approval,
    Vote,
    voted,
)

_APPEND = "INSERT INTO audit (body) VALUES (?)"
# the columns are the fields of `Approval`, in their order
_COLUMNS = """
id, action_id, action_digest, run_id, remit_digest, requested_by, requested_at, expires_at,
resource, action, rule, verdict, decided_by, decided_at, reason, used_at,
roles, quorum, votes, edited_digest, edited_args, remind_at, escalate_at, escalate_to
"""
_INSERT = (
    f"INSERT INTO approval ({_COLUMNS}) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SELECT = f"SELECT {_COLUMNS} FROM approval"
# compare and set: who voted meanwhile has changed the votes, the verdict or the digest
_DECIDE = """
UPDATE approval SET verdict = ?, decided_by = ?, decided_at = ?, reason = ?, votes = ?,
                    edited_digest = ?, edited_args = ?
WHERE id = ? AND verdict = 'pending' AND votes = ? AND coalesce(edited_digest, action_digest) = ?
"""
_LISTS = ("roles", "votes", "escalate_to")
# of two who decide for one run at once, the second sees what the first decided
_LOCK_RUN = "UPDATE run SET status = status WHERE id = ?"
_DUE = f"{_SELECT} WHERE verdict = 'pending' AND expires_at > ?1 AND (remind_at <= ?1 OR escalate_at <= ?1)"


def request(connection: Sql, approval: Approval, record: bytes) -> Approval:
    """Store a pending approval and tell of it, or return the one that stands for the same action."""
    standing = of_action(connection, approval.action_digest)
    if standing is not None:
        return standing
    connection.execute(_INSERT, _row(approval))
    connection.execute(_APPEND, (record,))
    outbox.put(connection, approval.message(APPROVAL_REQUESTED, approval.requested_at_us))
    return approval


def of_action(connection: Sql, action_digest: str) -> Approval | None:
    """The approval of exactly this action."""
    row = connection.execute(f"{_SELECT} WHERE action_digest = ?", (action_digest,)).fetchone()
    return None if row is None else _approval(row)


def find(connection: Sql, approval_id: str) -> Approval | None:
    """The approval of this id."""
    row = connection.execute(f"{_SELECT} WHERE id = ?", (approval_id,)).fetchone()
    return None if row is None else _approval(row)


def newest(connection: Sql, pending_at_us: int | None, limit: int) -> Sequence[Approval]:
    """The newest approvals, newest first; those alone that can be decided at a time, where one is given."""
    if pending_at_us is None:
        rows = connection.execute(f"{_SELECT} ORDER BY seq DESC LIMIT ?", (limit,))
    else:
        where = "WHERE verdict = 'pending' AND expires_at > ?"
        rows = connection.execute(f"{_SELECT} {where} ORDER BY seq DESC LIMIT ?", (pending_at_us, limit))
    return [_approval(row) for row in rows]


def decide(connection: Sql, vote: Vote, record: bytes) -> Approval | None:
    """Count a vote; what it makes of the approval, or None where it does not count."""
    standing = find(connection, vote.approval_id)
    after = None if standing is None else voted(standing, vote)
    if standing is None or after is None:
        return None
    connection.execute(_LOCK_RUN, (standing.run_id,))
    changed = connection.execute(
        _DECIDE,
        (
            after.verdict,
            after.decided_by,
            after.decided_at_us,
            after.reason,
            _text(after.votes),
            after.edited_digest,
            after.edited_args,
            after.id,
            _text(standing.votes),
            standing.digest,
        ),
    ).rowcount
    if changed != 1:
        return None
    connection.execute(_APPEND, (record,))
    waiting.set_ready(connection, standing.run_id, vote.at_us)
    return after


def tell_due(connection: Sql, at_us: int) -> int:
    """Remind of, and escalate, what nobody has decided; how many messages were due. Each is due once."""
    told = 0
    for row in connection.execute(_DUE, (at_us,)).fetchall():
        approval = _approval(row)
        if approval.remind_at_us is not None and approval.remind_at_us <= at_us:
            sql = "UPDATE approval SET remind_at = NULL WHERE id = ? AND remind_at IS NOT NULL"
            if connection.execute(sql, (approval.id,)).rowcount:
                outbox.put(connection, approval.message(APPROVAL_REMINDER, at_us))
                told += 1
        told += _escalate(connection, approval, at_us)
    return told


def _escalate(connection: Sql, approval: Approval, at_us: int) -> int:
    """From now on others may decide it too; 1 where that was due and nobody had done it."""
    if approval.escalate_at_us is None or approval.escalate_at_us > at_us:
        return 0
    sql = "UPDATE approval SET escalate_at = NULL, roles = ? WHERE id = ? AND escalate_at IS NOT NULL"
    # without roles everybody may decide it already
    roles = approval.roles and tuple(dict.fromkeys(approval.roles + approval.escalate_to))
    if not connection.execute(sql, (_text(roles), approval.id)).rowcount:
        return 0
    outbox.put(connection, approval.message(APPROVAL_ESCALATED, at_us))
    return 1


def _text(names: Sequence[str]) -> str:
    return orjson.dumps(list(names)).decode()


def _row(approval: Approval) -> tuple[object, ...]:
    fields = dataclasses.fields(Approval)
    values = ((field.name, getattr(approval, field.name)) for field in fields)
    return tuple(_text(value) if name in _LISTS else value for name, value in values)


def _approval(row: Sequence[object]) -> Approval:
    fields = dict(zip((field.name for field in dataclasses.fields(Approval)), row, strict=True))
    lists = {name: tuple(orjson.loads(str(fields[name]))) for name in _LISTS}
    return Approval(**(fields | lists))  # type: ignore[arg-type]
