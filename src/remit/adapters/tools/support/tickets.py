"""Support tickets in SQLite: durable once returned, and one ticket for one idempotency key."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from remit.core.canonical import Json, canonical, digest
from remit.core.errors import RemitError
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.services import Clock

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tickets (
  number INTEGER PRIMARY KEY AUTOINCREMENT, idempotency_key TEXT UNIQUE NOT NULL, args_digest TEXT NOT NULL,
  customer_id TEXT NOT NULL, issue TEXT NOT NULL, priority TEXT NOT NULL, tenant TEXT NOT NULL,
  agent TEXT NOT NULL, run_id TEXT NOT NULL, created_at_us INTEGER NOT NULL) STRICT
"""
_INSERT = """
INSERT INTO tickets (idempotency_key, args_digest, customer_id, issue, priority, tenant, agent, run_id,
  created_at_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class Tickets:
    """The ticket store. Methods block: call them in a thread."""

    def __init__(self, store: Path, clock: Clock) -> None:
        """Raises: RemitError `toolset.unavailable`."""
        self._clock = clock
        self._lock = threading.Lock()
        try:
            store.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                store, timeout=5.0, isolation_level=None, check_same_thread=False
            )
            try:
                self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute(_SCHEMA)
            except sqlite3.Error:
                self._connection.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise RemitError(
                "toolset.unavailable", f"the ticket store {store} cannot be opened", cause=str(error)
            ) from error

    def create(self, customer_id: str, issue: str, priority: str, context: CallContext) -> Json:
        """`{"ticket_id": "T-000001"}`: a new ticket, or the one this call has made before.

        Raises: EffectFailed `action.conflict` where the key stands for other arguments, `tool.failed`.
        """
        args = digest(canonical([customer_id, issue, priority]))
        key = context.idempotency_key
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                raise EffectFailed("tool.failed", "the ticket store is busy", retryable=True) from error
            try:
                number, created = self._find(key, args), False
                if number is None:
                    values = (key, args, customer_id, issue, priority, context.tenant, context.agent)
                    cursor = self._connection.execute(
                        _INSERT, (*values, context.run_id, self._clock.now_us())
                    )
                    number, created = cursor.lastrowid, True
            except sqlite3.Error as error:
                self._undo()
                raise EffectFailed("tool.failed", "the ticket cannot be stored", retryable=True) from error
            except EffectFailed:
                self._undo()
                raise
            if created:
                self._connection.execute("COMMIT")  # where this fails, nobody knows: let it propagate
            else:
                self._undo()
        return {"ticket_id": f"T-{number:06d}"}

    def close(self) -> None:
        """Let go of the store."""
        with self._lock:
            self._connection.close()

    def _find(self, key: str, args: str) -> int | None:
        row = self._connection.execute(
            "SELECT number, args_digest FROM tickets WHERE idempotency_key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        if row[1] != args:
            raise EffectFailed("action.conflict", "this call has made a ticket with other arguments before")
        return int(row[0])

    def _undo(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
