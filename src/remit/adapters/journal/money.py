"""Money at its scopes: taken before a call, settled after it, presumed spent where nobody can know.

At every scope and moment `spent + held <= cap` of whoever took last; a settlement above its hold is
recorded all the same, because it has been spent. All amounts are nano-USD.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from remit.adapters.journal import outbox
from remit.adapters.journal.sql import Sql
from remit.core import audit
from remit.core.errors import RemitError
from remit.core.money import format_usd
from remit.ports.journal import Admission, Alert, Completion, Hold, Misfit

READ = "SELECT scope, spent, held, presumed FROM balance WHERE scope IN (SELECT value FROM json_each(?))"
_WRITE = """
INSERT INTO balance (scope, spent, held, presumed) VALUES (?, ?, ?, ?)
ON CONFLICT (scope) DO UPDATE
SET spent = excluded.spent, held = excluded.held, presumed = excluded.presumed
"""
_ALERT = "INSERT INTO alert (scope, threshold, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"

NO_SCOPES = "[]"


class Open(NamedTuple):
    """What an intent without an outcome still holds, or is presumed to have spent."""

    seq: int
    held: int
    presumed: int
    scopes: str


@dataclass(slots=True)
class _Balance:
    spent: int = 0
    held: int = 0
    presumed: int = 0


class Ledger:
    """The balances that one transaction touches: read at once, counted in turn, written at once.

    Raises: RemitError `value.invalid` where a scope has a name that a database does not find again.
    """

    def __init__(self, connection: Sql, scopes: Iterable[str], now_us: int) -> None:
        self._connection = connection
        self._now_us = now_us
        self._balances = {scope: _Balance() for scope in scopes}
        self._changed: set[str] = set()
        if any("\0" in scope for scope in self._balances):
            # SQLite's JSON ends a text there: what the scope has spent would not be found
            raise RemitError("value.invalid", "the name of a money scope holds a NUL character")
        if self._balances:
            asked = (orjson.dumps(list(self._balances)).decode(),)
            for scope, spent, held, presumed in connection.execute(READ, asked):
                self._balances[scope] = _Balance(spent, held, presumed)

    def misfit(self, admission: Admission) -> Misfit | None:
        """Why the money of an admission cannot be held: the scope that has least left is named."""
        amount = admission.amount_nano_usd
        tightest = None
        for hold in admission.holds:
            balance = self._balances[hold.scope]
            room = hold.cap_nano_usd - balance.spent - balance.held
            if tightest is None or room < tightest[1]:
                tightest = (hold, room)
        if tightest is None or amount <= tightest[1]:
            return None
        hold, room = tightest
        return Misfit(
            kind="budget",
            detail=shortage(hold, room, amount),
            rule=hold.rule,
            retry_after_s=hold.resets_in_s(self._now_us),
            left_nano_usd=room,
        )

    def take(self, admission: Admission) -> str:
        """Hold the money of an admission; its scopes as they are kept beside the intent."""
        if not admission.holds:
            return NO_SCOPES
        for hold in admission.holds:
            self._balances[hold.scope].held += admission.amount_nano_usd
            self._changed.add(hold.scope)
        return listed(admission.holds)

    def settle(
        self, intent: Open, completion: Completion, records: list[tuple[bytes]]
    ) -> tuple[int, tuple[Alert, ...]]:
        """Move what a call held (or was presumed to have spent) to what it cost; its cost, and alerts crossed.

        The audit records of what was noticed are added to `records`.
        """
        bound = intent.held + intent.presumed
        cost = bound if completion.presumed else completion.cost_nano_usd
        presumed = bound if completion.presumed else 0
        if intent.scopes == NO_SCOPES:
            return cost, ()
        if cost > bound:
            records.append((_overrun_record(completion, cost, bound),))
        moves = (intent.held, cost - intent.presumed, presumed - intent.presumed)
        return cost, self._move(intent.scopes, moves, completion.at_us, records)

    def presume(self, intent: Open, at_us: int, records: list[tuple[bytes]]) -> tuple[Alert, ...]:
        """Count what a call holds as spent: nobody has heard of it in time. A late settlement gives it back."""
        return self._move(intent.scopes, (intent.held, intent.held, intent.held), at_us, records)

    def write(self) -> None:
        """Write the balances that have changed: a call that was refused leaves no trace."""
        rows = [
            (scope, kept.spent, kept.held, kept.presumed)
            for scope, kept in self._balances.items()
            if scope in self._changed
        ]
        self._connection.executemany(_WRITE, rows)

    def _move(
        self, scopes: str, moves: tuple[int, int, int], at_us: int, records: list[tuple[bytes]]
    ) -> tuple[Alert, ...]:
        """Take (held) off and add (spent, presumed) at every scope; the alerts that this was the first to cross."""
        alerts = []
        held, spent, presumed = moves
        for scope, cap, percent in orjson.loads(scopes):
            balance = self._balances[scope]
            self._changed.add(scope)
            balance.held -= held
            balance.spent += spent
            balance.presumed += presumed
            if percent is None or balance.spent * 100 < cap * percent:
                continue
            if self._connection.execute(_ALERT, (scope, percent, at_us)).rowcount:
                alert = Alert(
                    scope=scope, threshold_percent=percent, spent_nano_usd=balance.spent, cap_nano_usd=cap
                )
                records.append((alert_record(alert, at_us),))
                outbox.put(self._connection, alert.message(at_us))
                alerts.append(alert)
        return tuple(alerts)


def listed(holds: Sequence[Hold]) -> str:
    """The scopes of holds as they are kept beside an intent."""
    scopes = [(hold.scope, hold.cap_nano_usd, hold.alert_percent) for hold in holds]
    return orjson.dumps(scopes).decode()


def scopes_of(scopes: str) -> list[str]:
    """The names of the scopes that are kept beside an intent."""
    return [] if scopes == NO_SCOPES else [scope for scope, _, _ in orjson.loads(scopes)]


def shortage(hold: Hold, room: int, amount: int) -> str:
    """What is left at a scope that has no room, in words."""
    left = format_usd(max(room, 0))
    return f"{left} left of {format_usd(hold.cap_nano_usd)} ({hold.scope}); the call may cost {format_usd(amount)}"


def _overrun_record(completion: Completion, cost: int, bound: int) -> bytes:
    """The audit record of a call that cost more than was held for it: a bound of ours was wrong."""
    run_id, _, call = completion.action_id.partition(".")
    fields: audit.Fields = {
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
