"""The outbox: messages that a commit leaves for the outside, claimed under a lease, inside a transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from remit.adapters.journal.sql import Sql
from remit.core.outbox import Delivery, OutboxMessage

# the columns are the fields of `OutboxMessage`, in their order
_COLUMNS = "id, topic, body, created_at, due_at, state, attempts, ended_at, error"
_PUT = f"""
INSERT INTO outbox ({_COLUMNS})
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE EXISTS (SELECT 1 FROM outbox_topic WHERE topic = ?2)
ON CONFLICT DO NOTHING
"""
CLAIM = f"""
UPDATE outbox SET attempts = attempts + 1, due_at = ?2
WHERE seq IN (SELECT seq FROM outbox WHERE state = 'waiting' AND due_at <= ?1 ORDER BY due_at, seq LIMIT ?3)
RETURNING {_COLUMNS}
"""
# that a message was delivered stands, whoever has claimed it since; anything else is for who holds the lease
_SETTLE = """
UPDATE outbox SET state = ?2, due_at = ?3, ended_at = ?4, error = ?5
WHERE id = ?1 AND state = 'waiting' AND (attempts = ?6 OR ?2 = 'delivered')
"""
_NEWEST = f"SELECT {_COLUMNS} FROM outbox ORDER BY seq DESC LIMIT ?"


def subscribe(connection: Sql, topics: frozenset[str]) -> None:
    """Keep messages of `topics` from now on, and of no others. Writes nothing where that is so already."""
    kept = {topic for (topic,) in connection.execute("SELECT topic FROM outbox_topic")}
    connection.executemany("DELETE FROM outbox_topic WHERE topic = ?", [(one,) for one in kept - topics])
    connection.executemany(
        "INSERT INTO outbox_topic VALUES (?) ON CONFLICT DO NOTHING",
        [(one,) for one in sorted(topics - kept)],
    )


def put(connection: Sql, message: OutboxMessage) -> None:
    """Leave `message` for delivery, where its topic is wanted."""
    connection.execute(_PUT, dataclasses.astuple(message))


def claim(connection: Sql, at_us: int, lease_us: int, limit: int) -> tuple[OutboxMessage, ...]:
    """The messages that are due, which nobody else gets before the lease ends."""
    rows = connection.execute(CLAIM, (at_us, at_us + lease_us, limit)).fetchall()
    return tuple(_message(row) for row in rows)


def settle(connection: Sql, delivery: Delivery) -> bool:
    """Note what became of a try; False where the message has ended, or somebody else has claimed it since."""
    ended_at = None if delivery.state == "waiting" else delivery.at_us
    values = (delivery.id, delivery.state, delivery.due_at_us, ended_at, delivery.error, delivery.attempt)
    return connection.execute(_SETTLE, values).rowcount == 1


def newest(connection: Sql, limit: int) -> Sequence[OutboxMessage]:
    """The newest messages, newest first."""
    return [_message(row) for row in connection.execute(_NEWEST, (limit,))]


def _message(row: tuple[object, ...]) -> OutboxMessage:
    names = (field.name for field in dataclasses.fields(OutboxMessage))
    return OutboxMessage(**dict(zip(names, row, strict=True)))  # type: ignore[arg-type]
