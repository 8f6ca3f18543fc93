"""The two commits of an effect, as functions of a connection that is inside a transaction.

`admit` checks everything and writes everything, or writes nothing. `complete` begins by deleting the
intent's row, in the transaction that found it: whoever deletes it is the only one who completes the call.
"""

from __future__ import annotations

import sqlite3

import orjson

from remit.adapters.journal import money, runs
from remit.core.errors import RemitError
from remit.core.messages import Usage
from remit.ports.journal import (
    Admission,
    Admitted,
    Completion,
    Misfit,
    Recorded,
    Settled,
    Window,
)

EXACT_WINDOW_MAX = 1000
"""Up to this limit every event is a row and the window is exact; above, 60 buckets a window count for it."""

BUCKETS = 60

_FACTS = """
SELECT (SELECT status FROM run WHERE id = ?),
       (CASE WHEN EXISTS (SELECT 1 FROM control)
             THEN (SELECT scope || ': ' || reason FROM control WHERE scope IN (?, ?, ?) LIMIT 1) END),
       (SELECT seq FROM call WHERE id = ?)
"""
_RECORDED = """
SELECT call.digest, done.state, done.result, done.input_tokens, done.output_tokens,
       done.cache_read_tokens, done.cache_write_tokens, done.cost
FROM call LEFT JOIN done USING (seq) WHERE call.seq = ?
"""
_APPROVAL = """
SELECT action_digest, remit_digest, verdict, expires_at, used_at, run_id FROM approval WHERE id = ?
"""
_INTENT = "SELECT seq, held, presumed, scopes FROM call JOIN inflight USING (seq) WHERE call.id = ?"
_DONE = "INSERT INTO done VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_COUNT = """
INSERT INTO rate_event (key, at, n) VALUES (?, ?, 1) ON CONFLICT (key, at) DO UPDATE SET n = n + 1
"""


def admit(connection: sqlite3.Connection, admission: Admission, now_us: int) -> Admitted | Recorded | Misfit:
    """Record the intent and take what it needs, if everything holds; otherwise change nothing."""
    everything, agent, resource = admission.control_scopes
    status, paused, known = connection.execute(
        _FACTS, (admission.run_id, everything, agent, resource, admission.action_id)
    ).fetchone()
    if known is not None:
        return _known(connection, known, admission, status)
    if status != "running":
        return Misfit(kind="run", detail=f"the run is {status or 'unknown'}, not running")
    if paused is not None:
        return Misfit(kind="paused", detail=f"paused, {paused}")
    misfit = (
        _approval_misfit(connection, admission, now_us)
        or _window_misfit(connection, admission.windows, now_us)
        or money.misfit(connection, admission, now_us)
    )
    if misfit is not None:
        return misfit
    _write(connection, admission, now_us)
    return Admitted()


def _known(
    connection: sqlite3.Connection, seq: int, admission: Admission, status: str | None
) -> Recorded | Misfit:
    digest, state, result, read, written, cache_read, cache_write, cost = connection.execute(
        _RECORDED, (seq,)
    ).fetchone()
    if digest.hex() != admission.action_digest:
        return Misfit(kind="conflict", detail="another action has this id")
    if state is None and status == "running":
        return Misfit(kind="in_flight", detail="this action was begun and has no outcome yet")
    if state is None:
        reason = "it was begun, and its run ended before its outcome was known"
        return Recorded(
            state="unknown", result=orjson.dumps({"reason": reason}), usage=Usage(), cost_nano_usd=0
        )
    usage = Usage(
        input_tokens=read, output_tokens=written, cache_read_tokens=cache_read, cache_write_tokens=cache_write
    )
    return Recorded(state=state, result=result, usage=usage, cost_nano_usd=cost)


def _approval_misfit(connection: sqlite3.Connection, admission: Admission, now_us: int) -> Misfit | None:
    if admission.approval_id is None:
        return None
    row = connection.execute(_APPROVAL, (admission.approval_id,)).fetchone()
    if row is None:
        return Misfit(kind="approval", detail="there is no such approval")
    digest, remit_digest, verdict, expires_at, used_at, run_id = row
    if digest != admission.action_digest or run_id != admission.run_id:
        return Misfit(kind="approval", detail="the approval is for another action")
    if remit_digest != admission.remit_digest:
        return Misfit(kind="approval", detail="the approval was given under another remit")
    if verdict != "approved":
        return Misfit(kind="approval", detail=f"the approval is {verdict}")
    if used_at is not None:
        return Misfit(kind="approval", detail="the approval has been used")
    if expires_at <= now_us:
        return Misfit(kind="approval", detail="the approval has expired")
    return None


def _width_us(window: Window) -> int:
    """How long one bucket of the window is: a microsecond, that is one event, where it is exact."""
    return 1 if window.limit <= EXACT_WINDOW_MAX else window.span_s * 1_000_000 // BUCKETS


def _window_misfit(connection: sqlite3.Connection, windows: tuple[Window, ...], now_us: int) -> Misfit | None:
    for window in windows:
        # a bucket counts until the last event it can hold has left the window: never over the limit
        oldest = now_us - window.span_s * 1_000_000 - (_width_us(window) - 1)
        count, first = connection.execute(
            "SELECT coalesce(sum(n), 0), min(at) FROM rate_event WHERE key = ? AND at > ?",
            (window.key, oldest),
        ).fetchone()
        if count >= window.limit:
            wait_us = window.span_s * 1_000_000 if first is None else first - oldest
            return Misfit(
                kind="rate",
                detail=f"{count} of {window.limit} in the last {window.span_s} s",
                rule=window.rule,
                retry_after_s=max(1, -(-wait_us // 1_000_000)),
            )
    return None


def _write(connection: sqlite3.Connection, admission: Admission, now_us: int) -> None:
    seq = connection.execute("INSERT INTO audit (body) VALUES (?)", (admission.intent,)).lastrowid
    connection.execute(
        "INSERT INTO call VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            seq,
            admission.action_id,
            admission.kind,
            admission.resource,
            bytes.fromhex(admission.action_digest),
            admission.at_us,
            bytes.fromhex(admission.content),
        ),
    )
    connection.execute(
        "INSERT INTO inflight (seq, held, scopes, presumed, expires_at) VALUES (?, ?, ?, 0, ?)",
        (seq, admission.amount_nano_usd, money.take(connection, admission), admission.expires_at_us),
    )
    for window in admission.windows:
        width = _width_us(window)
        connection.execute(
            "DELETE FROM rate_event WHERE key = ? AND at <= ?",
            (window.key, now_us - window.span_s * 1_000_000 - width),
        )
        connection.execute(_COUNT, (window.key, now_us // width * width))
    if admission.approval_id is not None:
        connection.execute("UPDATE approval SET used_at = ? WHERE id = ?", (now_us, admission.approval_id))


def complete(connection: sqlite3.Connection, completion: Completion) -> Settled:
    """Record the outcome, settle the money, notice what thresholds were crossed.

    Raises: RemitError `action.conflict` where the call was not begun, or has its outcome already.
    """
    row = connection.execute(_INTENT, (completion.action_id,)).fetchone()
    if row is None:
        raise RemitError("action.conflict", "the call was never begun, or has its outcome already")
    seq, held, presumed, scopes = row
    connection.execute("DELETE FROM inflight WHERE seq = ?", (seq,))
    usage = completion.usage
    intent = money.Open(seq=seq, held=held, presumed=presumed, scopes=scopes)
    cost, alerts = money.settle(connection, intent, completion)
    connection.execute(
        _DONE,
        (
            seq,
            completion.state,
            completion.at_us,
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            cost,
            completion.exposes,
            completion.result,
        ),
    )
    connection.execute("INSERT INTO audit (body) VALUES (?)", (completion.outcome,))
    ended = False
    if completion.ending is not None:
        run_id = completion.action_id.partition(".")[0]
        ended = runs.end(connection, run_id, completion.ending, completion.at_us)
    return Settled(alerts=alerts, run_ended=ended)
