"""The trace store's tables, and how a span becomes a row and back.

Promise: a row holds no id that follows from another (a span's id and its parent's follow from the run's id,
the place and the attempt), no text that is the same for the whole run, and numbers as SQLite's own
variable-length integers. A usual span of the gate takes some 200 bytes so, against 1.5 KB as JSON.
`span` is clustered by run, so a trace is read from neighbouring pages and needs no second index; the run
list reads `run` alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import orjson

from remit.adapters.telemetry.spans import NOTHING, SpanKind, SpanRecord

VERSION: Final = 1

DDL: Final = (
    """CREATE TABLE run (
        key INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        trace_id TEXT NOT NULL,
        tenant TEXT NOT NULL,
        agent TEXT NOT NULL,
        remit_digest TEXT NOT NULL,
        state TEXT NOT NULL,
        code TEXT NOT NULL DEFAULT '',
        started_us INTEGER NOT NULL,
        ended_us INTEGER,
        input_tokens INTEGER NOT NULL DEFAULT 0,
        output_tokens INTEGER NOT NULL DEFAULT 0,
        cache_read_tokens INTEGER NOT NULL DEFAULT 0,
        cache_write_tokens INTEGER NOT NULL DEFAULT 0,
        cost_nano_usd INTEGER NOT NULL DEFAULT 0,
        extra TEXT
    ) STRICT""",
    "CREATE INDEX run_trace ON run (trace_id)",
    """CREATE TABLE span (
        run INTEGER NOT NULL,
        started_us INTEGER NOT NULL,
        place TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        step INTEGER NOT NULL,
        resource TEXT NOT NULL,
        duration_us INTEGER NOT NULL,
        state INTEGER NOT NULL,
        code TEXT,
        effect INTEGER NOT NULL,
        decision_code TEXT,
        rule TEXT,
        source TEXT,
        digest BLOB,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_read_tokens INTEGER NOT NULL,
        cache_write_tokens INTEGER NOT NULL,
        cost_nano_usd INTEGER NOT NULL,
        flags INTEGER NOT NULL,
        extra TEXT,
        PRIMARY KEY (run, started_us, place, attempt)
    ) STRICT, WITHOUT ROWID""",
    f"PRAGMA user_version = {VERSION}",
)

# A run that was taken up, or ended. The first start stays; an end after a wait replaces the wait.
PUT_RUN: Final = """
INSERT INTO run (id, trace_id, tenant, agent, remit_digest, state, code, started_us, ended_us, input_tokens,
    output_tokens, cache_read_tokens, cache_write_tokens, cost_nano_usd, extra)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, code = excluded.code,
    started_us = min(started_us, excluded.started_us), ended_us = excluded.ended_us,
    input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
    cache_read_tokens = excluded.cache_read_tokens, cache_write_tokens = excluded.cache_write_tokens,
    cost_nano_usd = excluded.cost_nano_usd, extra = excluded.extra
RETURNING key"""
# A span whose run's start was lost or belongs to another process's file: the run is known from here on.
PUT_STUB: Final = """
INSERT INTO run (id, trace_id, tenant, agent, remit_digest, state, started_us)
VALUES (?, ?, ?, ?, ?, 'running', ?)
ON CONFLICT (id) DO UPDATE SET id = excluded.id
RETURNING key"""
PUT_SPAN: Final = "INSERT OR REPLACE INTO span VALUES (" + ",".join("?" * 22) + ")"
FIND_RUN: Final = """
SELECT key, id, trace_id, tenant, agent, remit_digest, state, code, started_us, ended_us, input_tokens,
    output_tokens, cache_read_tokens, cache_write_tokens, cost_nano_usd, extra
FROM run WHERE id = :id OR trace_id = :id ORDER BY key"""
LIST_RUNS: Final = FIND_RUN.replace(
    "WHERE id = :id OR trace_id = :id ORDER BY key", "ORDER BY key DESC LIMIT :limit"
)
FIND_SPANS: Final = "SELECT * FROM span WHERE run = ? ORDER BY started_us, place, attempt"
PRUNE: Final = ("DELETE FROM span WHERE run <= ?", "DELETE FROM run WHERE key <= ?")

Row: TypeAlias = tuple[Any, ...]

# The position is what is stored: only ever append.
_KINDS: Final[tuple[SpanKind, ...]] = (
    "run",
    "attempt",
    "model",
    "tool",
    "release",
    "memory_read",
    "memory_write",
)
_STATES: Final = ("done", "refused", "suspended", "failed", "unknown")
_EFFECTS: Final = ("", "allow", "deny", "require_approval")


def create(connection: sqlite3.Connection) -> None:
    """Create the tables where another process has not done so just now."""
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        for statement in DDL:
            connection.execute(statement)
    connection.execute("COMMIT")


def run_row(span: SpanRecord) -> Row:
    """The parameters of `PUT_RUN`."""
    ended_us = None if span.duration_us is None else span.started_us + span.duration_us
    return (
        span.run_id,
        span.trace_id,
        span.tenant,
        span.agent,
        span.remit_digest,
        span.state,
        span.code,
        span.started_us,
        ended_us,
        span.input_tokens,
        span.output_tokens,
        span.cache_read_tokens,
        span.cache_write_tokens,
        span.cost_nano_usd,
        _extra(span.extra),
    )


def stub_row(span: SpanRecord) -> Row:
    """The parameters of `PUT_STUB`."""
    return (span.run_id, span.trace_id, span.tenant, span.agent, span.remit_digest, span.started_us)


def span_row(key: int, span: SpanRecord) -> Row:
    """The parameters of `PUT_SPAN`."""
    return (
        key,
        span.started_us,
        span.place,
        span.attempt,
        _KINDS.index(span.kind),
        span.step,
        span.resource,
        span.duration_us or 0,
        _STATES.index(span.state),
        span.code or None,
        _EFFECTS.index(span.effect),
        # the reason of a refusal is the decision's own code: once is enough
        None if span.decision_code == span.code else span.decision_code,
        span.rule or None,
        span.source or None,
        _pack(span.digest),
        span.input_tokens,
        span.output_tokens,
        span.cache_read_tokens,
        span.cache_write_tokens,
        span.cost_nano_usd,
        span.truncated + 2 * span.replayed,
        _extra(span.extra),
    )


def run_of(row: Row) -> SpanRecord:
    """The run's span, from a row of `FIND_RUN` or `LIST_RUNS`."""
    (_, run_id, trace_id, tenant, agent, remit_digest, state, code, started_us, ended_us, *numbers, extra) = (
        row
    )
    read, written, cache_read, cache_write, cost = numbers
    return SpanRecord(
        kind="run",
        trace_id=trace_id,
        run_id=run_id,
        tenant=tenant,
        agent=agent,
        remit_digest=remit_digest,
        resource=agent,
        place="",
        attempt=0,
        step=0,
        started_us=started_us,
        duration_us=None if ended_us is None else ended_us - started_us,
        state=state,
        code=code,
        input_tokens=read,
        output_tokens=written,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        cost_nano_usd=cost,
        extra=orjson.loads(extra) if extra else NOTHING,
    )


def span_of(run: SpanRecord, row: Row) -> SpanRecord:
    """The span of a row of `FIND_SPANS`, of the run `run`."""
    (_, started_us, place, attempt, kind, step, resource, duration_us, state, code, *rest) = row
    (
        effect,
        decision_code,
        rule,
        source,
        digest,
        read,
        written,
        cache_read,
        cache_write,
        cost,
        flags,
        extra,
    ) = rest
    return SpanRecord(
        kind=_KINDS[kind],
        trace_id=run.trace_id,
        run_id=run.run_id,
        tenant=run.tenant,
        agent=run.agent,
        remit_digest=run.remit_digest,
        resource=resource,
        place=place,
        attempt=attempt,
        step=step,
        started_us=started_us,
        duration_us=duration_us,
        state=_STATES[state],
        code=code or "",
        effect=_EFFECTS[effect],
        decision_code=(code or "") if decision_code is None else decision_code,
        rule=rule or "",
        source=source or "",
        digest=_unpack(digest),
        input_tokens=read,
        output_tokens=written,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        cost_nano_usd=cost,
        truncated=bool(flags & 1),
        replayed=bool(flags & 2),
        extra=orjson.loads(extra) if extra else NOTHING,
    )


def _extra(extra: Mapping[str, Any]) -> str | None:
    return orjson.dumps(dict(extra)).decode() if extra else None


def _pack(digest: str) -> bytes | None:
    # a SHA-256 halves as bytes; anything else is kept as its text, which is told apart by its length
    if len(digest) == 64:
        try:
            return bytes.fromhex(digest)
        except ValueError:
            return digest.encode()
    return digest.encode() or None


def _unpack(stored: bytes | None) -> str:
    if stored is None:
        return ""
    return stored.hex() if len(stored) == 32 else stored.decode()
