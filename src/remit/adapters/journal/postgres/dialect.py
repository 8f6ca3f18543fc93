"""The journal's statements in PostgreSQL's words: placeholders, JSON, and the locks that SQLite needs none of.

Where many connections write, what is read in order to be changed is locked first, always in the same order. So the
statements that begin a change lock what they read, and those that follow see it as it is then: READ COMMITTED.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import count
from types import MappingProxyType

from remit.adapters.journal import admission, leases, money, outbox, runs

_ASKED = "(SELECT json_array_elements_text(CAST({} AS json)))"

INSTEAD: Mapping[str, str] = MappingProxyType(
    {
        # the rows of a union are of one type
        admission.FACTS: admission.FACTS.replace("1, id, seq", "1, id, CAST(seq AS text)"),
        admission.INTENTS: f"{admission.INTENTS} ORDER BY seq FOR UPDATE OF inflight",
        admission.APPROVAL: f"{admission.APPROVAL} FOR UPDATE",
        # below zero: a row that `LOCK_SCOPES` has put there to hold the place
        money.READ: money.READ.replace(", presumed", ", greatest(presumed, 0)")
        + " ORDER BY scope FOR NO KEY UPDATE",
        # what somebody is completing just now needs no presumption
        runs.OPEN: f"{runs.OPEN} ORDER BY seq FOR UPDATE SKIP LOCKED",
        leases.ABANDONED_CALLS: f"{leases.ABANDONED_CALLS} ORDER BY seq FOR UPDATE OF inflight SKIP LOCKED",
        runs.BEGINNING: f"{runs.BEGINNING} FOR NO KEY UPDATE",
        runs.ENDING: f"{runs.ENDING} FOR NO KEY UPDATE",
        outbox.CLAIM: outbox.CLAIM.replace("LIMIT ?3", "LIMIT ?3 FOR UPDATE SKIP LOCKED"),
    }
)

# a row that is there is locked, though it is not updated
LOCK_SCOPES = f"""
INSERT INTO balance (scope, spent, held, presumed)
SELECT scope, 0, 0, -1 FROM {_ASKED.format("?")} AS asked (scope) ORDER BY scope
ON CONFLICT (scope) DO UPDATE SET held = balance.held WHERE false
"""
UNLOCK_SCOPES = "DELETE FROM balance WHERE presumed < 0 AND scope IN (SELECT value FROM json_each(?))"
LOCK_WINDOWS = f"""
SELECT pg_advisory_xact_lock(lock) FROM (
    SELECT DISTINCT window_lock(key) AS lock FROM {_ASKED.format("?")} AS asked (key) ORDER BY 1
) AS locks
"""
LOCK_AGENTS = """
SELECT pg_advisory_xact_lock(lock) FROM (
    SELECT DISTINCT agent_lock(tenant || '/' || agent) AS lock FROM run
    WHERE id IN (SELECT value FROM json_each(?)) ORDER BY 1
) AS locks
"""
NOW = "SELECT database_us()"
NUMBERS = "SELECT nextval('audit_seq') FROM generate_series(1, CAST(? AS int))"
MARK = "SELECT mark_batch(?, ?, '{}')"
COMMIT_BATCH = b"SELECT commit_batch($1::bigint, $2::bigint, $3::bigint, $4::jsonb, $5::bytea[], $6::bytea[], $7::bytea[], $8::bytea[])"

_VALUE = re.compile(r"\?(\d*)")
_LISTED = re.compile(r"\(SELECT value FROM json_each\((\?\d*)\)\)")
_FIELD = re.compile(r"json_extract\((\w+), '\$\.(\w+)'\)")


def translated(statement: str) -> bytes:
    """The statement as PostgreSQL is told it."""
    text = INSTEAD.get(statement, statement).replace("instr(", "strpos(")
    text = _LISTED.sub(lambda found: _ASKED.format(found[1]), text)
    text = _FIELD.sub(r"(convert_from(\1, 'UTF8')::json ->> '\2')", text)
    places = count(1)
    return _VALUE.sub(lambda found: f"${found[1] or next(places)}", text).encode()
