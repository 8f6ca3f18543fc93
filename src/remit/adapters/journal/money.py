"""Money at its scopes: taken before a call, settled after it, presumed spent where nobody can know.

At every scope and moment `spent + held <= cap` of whoever took last; a settlement above its hold is
recorded all the same, because it has been spent. All amounts are nano-USD.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TypeAlias

import orjson

from remit.core import audit
from remit.core.errors import RemitError
from remit.core.money import format_usd
from remit.ports.journal import Admission, Alert, Completion, Hold, Misfit

# one statement for one scope: SQLite runs two of these in less time than one with IN (?, ?)
_TAKEN = "SELECT spent + held FROM balance WHERE scope = ?"
_HOLD = """
INSERT INTO balance (scope, spent, held, presumed) VALUES (?, 0, ?, 0)
ON CONFLICT (scope) DO UPDATE SET held = held + excluded.held
"""
_MOVE = "UPDATE balance SET held = held - ?, spent = spent + ?, presumed = presumed + ? WHERE scope = ?"
_SPENT = "SELECT spent FROM balance WHERE scope = ?"

Scopes: TypeAlias = "list[tuple[str, int, int | None]]"
"""Of one call: scope, its cap, the percentage of it at which an alert is due."""

NO_SCOPES = "[]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """What an intent without an outcome still holds, or is presumed to have spent."""

    seq: int
    held: int
    presumed: int
    scopes: str


def misfit(connection: sqlite3.Connection, admission: Admission, now_us: int) -> Misfit | None:
    """Why the money of an admission cannot be held: the scope that has least left is named."""
    amount = admission.amount_nano_usd
    if amount < 0:
        raise RemitError("value.invalid", "an amount to hold is below zero")
    tightest = None
    for hold in admission.holds:
        row = connection.execute(_TAKEN, (hold.scope,)).fetchone()
        room = hold.cap_nano_usd - (0 if row is None else row[0])
        if tightest is None or room < tightest[1]:
            tightest = (hold, room)
    if tightest is None or amount <= tightest[1]:
        return None
    hold, room = tightest
    return Misfit(
        kind="budget",
        detail=shortage(hold, room, amount),
        rule=hold.rule,
        retry_after_s=hold.resets_in_s(now_us),
        left_nano_usd=room,
    )


def shortage(hold: Hold, room: int, amount: int) -> str:
    """What is left at a scope that has no room, in words."""
    left = format_usd(max(room, 0))
    return f"{left} left of {format_usd(hold.cap_nano_usd)} ({hold.scope}); the call may cost {format_usd(amount)}"


def take(connection: sqlite3.Connection, admission: Admission) -> str:
    """Hold the money of an admission; its scopes as they are kept beside the intent."""
    if not admission.holds:
        return NO_SCOPES
    for hold in admission.holds:
        connection.execute(_HOLD, (hold.scope, admission.amount_nano_usd))
    return orjson.dumps(
        [(hold.scope, hold.cap_nano_usd, hold.alert_percent) for hold in admission.holds]
    ).decode()


def settle(
    connection: sqlite3.Connection, intent: Open, completion: Completion
) -> tuple[int, tuple[Alert, ...]]:
    """Move what a call held (or was presumed to have spent) to what it cost; its cost, and alerts crossed."""
    bound = intent.held + intent.presumed
    cost = bound if completion.presumed else completion.cost_nano_usd
    presumed = bound if completion.presumed else 0
    if intent.scopes == NO_SCOPES:
        return cost, ()
    if cost > bound:
        connection.execute("INSERT INTO audit (body) VALUES (?)", (_overrun_record(completion, cost, bound),))
    moves = (intent.held, cost - intent.presumed, presumed - intent.presumed)
    return cost, _move(connection, intent.scopes, moves, completion.at_us)


def presume(connection: sqlite3.Connection, intent: Open, at_us: int) -> tuple[Alert, ...]:
    """Count what a call holds as spent: nobody has heard of it in time. A late settlement gives it back."""
    connection.execute("UPDATE inflight SET held = 0, presumed = ? WHERE seq = ?", (intent.held, intent.seq))
    return _move(connection, intent.scopes, (intent.held, intent.held, intent.held), at_us)


def _move(
    connection: sqlite3.Connection, scopes: str, moves: tuple[int, int, int], at_us: int
) -> tuple[Alert, ...]:
    """Take (held) off and add (spent, presumed) at every scope; the alerts that this was the first to cross."""
    alerts = []
    listed: Scopes = orjson.loads(scopes)
    for scope, cap, percent in listed:
        connection.execute(_MOVE, (*moves, scope))
        if percent is None:
            continue
        (spent,) = connection.execute(_SPENT, (scope,)).fetchone()
        if spent * 100 < cap * percent:
            continue
        first = connection.execute(
            "INSERT OR IGNORE INTO alert (scope, threshold, at) VALUES (?, ?, ?)", (scope, percent, at_us)
        ).rowcount
        if first:
            alert = Alert(scope=scope, threshold_percent=percent, spent_nano_usd=spent, cap_nano_usd=cap)
            connection.execute("INSERT INTO audit (body) VALUES (?)", (alert_record(alert, at_us),))
            alerts.append(alert)
    return tuple(alerts)


def _overrun_record(completion: Completion, cost: int, bound: int) -> bytes:
    """The audit record of a call that cost more than was held for it: a bound of ours was wrong."""
    run_id, _, call = completion.action_id.partition(".")
    fields: dict[str, str | int | bool | list[str]] = {
        "run": run_id,
        "call": call,
        "cost_nano_usd": cost,
        "held_nano_usd": bound,
    }
    return audit.record("overrun", completion.at_us, fields)


def alert_record(alert: Alert, at_us: int) -> bytes:
    """The audit record of a threshold that was crossed."""
    return audit.record(
        "alert",
        at_us,
        {
            "scope": alert.scope,
            "threshold_percent": alert.threshold_percent,
            "spent_nano_usd": alert.spent_nano_usd,
            "cap_nano_usd": alert.cap_nano_usd,
        },
    )
