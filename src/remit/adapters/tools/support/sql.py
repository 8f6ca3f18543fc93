"""Read-only SQL over the imported customer data, for statements that a model wrote.

Nothing is written and nothing outlives the deadline: read-only and immutable file, `query_only`, the
authorizer, SQLite's limits, and a progress handler that holds time, steps and memory. Rows are cut by
fetching one more than may be returned, and by bytes.
"""

from __future__ import annotations

import contextlib
import math
import resource
import sqlite3
import sys
from typing import Any

import orjson

from remit.adapters.tools.deadline import Deadline
from remit.adapters.tools.support.imports import CustomerData, digest_of, open_read_only
from remit.adapters.tools.support.sql_guard import LIMITS, Authorizer, check_text
from remit.adapters.tools.support.tables import CUSTOMERS, find_table
from remit.core.canonical import Json
from remit.core.decisions import Constraints
from remit.ports.effects import EffectFailed

ROWS_MAX = 1000
PERIOD = 200  # virtual machine steps between two looks at the bounds
STEPS_MAX = 400_000_000
MEMORY_MAX = 256 * 2**20
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_ENVELOPE_BYTES = 1024  # room for column names and the fields around the rows


class _Bounds:
    """The progress handler: stops a statement at the deadline, at STEPS_MAX, or at MEMORY_MAX more memory.

    Memory is the process's peak, because SQLite's own heap limit would also strike its other users.
    """

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._steps = 0
        self._peak = _peak_bytes()
        self.reason = ""
        self.code = "tool.timeout"

    def __call__(self) -> int:
        self._steps += PERIOD
        if self._deadline.passed:
            self.reason = "the query ran out of time"
        elif self._steps > STEPS_MAX:
            self.reason = "the query takes too many steps"
        elif _peak_bytes() - self._peak > MEMORY_MAX:
            self.reason, self.code = "the query takes too much memory", "tool.failed"
        return 1 if self.reason else 0


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def run_query(data: CustomerData, sql: str, constraints: Constraints, deadline: Deadline) -> Json:
    """The rows of `sql`: `{"columns", "rows", "row_count", "truncated", "classes"}`.

    Rows are objects by column name; `classes` are those of all columns that the statement reads.
    Raises: EffectFailed `data.denied`, `args.invalid`, `tool.timeout`, `tool.failed`.
    """
    check_text(sql)
    deadline.check()
    authorizer, bounds = Authorizer(data.tables, constraints.denied_classes), _Bounds(deadline)
    with contextlib.closing(_open(data)) as connection:
        _guard(connection, authorizer, bounds)
        deadline.attach(connection)
        try:
            return _fetch(connection, sql, constraints, authorizer)
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
            raise _explain(error, authorizer, bounds, deadline) from error
        finally:
            deadline.attach(None)


def read_customer(data: CustomerData, customer_id: str, constraints: Constraints) -> Json:
    """`{"found": true, "customer": {...}}` without the columns of denied classes, or `{"found": false}`.

    Raises: EffectFailed `data.denied`, `tool.failed`.
    """
    if "pii" in constraints.denied_classes:
        raise EffectFailed("data.denied", "customer records are pii: not permitted for this agent")
    table = find_table(data.tables, CUSTOMERS)
    if table is None:
        return {"found": False}
    names = [column.name for column in table.permitted(constraints.denied_classes)]
    columns = ", ".join(f'"{name}"' for name in names)
    try:
        with contextlib.closing(_open(data)) as connection:
            row = connection.execute(
                f'SELECT {columns or "1"} FROM "{table.name}" WHERE "{table.primary_key}" = ?', (customer_id,)
            ).fetchone()
    except sqlite3.Error as error:
        raise EffectFailed("tool.failed", "the customer data cannot be read", retryable=True) from error
    if row is None:
        return {"found": False}
    return {"found": True, "customer": dict(zip(names, row, strict=False))}


def _open(data: CustomerData) -> sqlite3.Connection:
    try:
        connection = open_read_only(data.path)
        try:
            current = digest_of(connection)
        except sqlite3.Error:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise EffectFailed("tool.failed", "the customer data cannot be read", retryable=True) from error
    if current != data.digest:  # another process has imported other columns or classes
        connection.close()
        raise EffectFailed("tool.failed", "the customer data has changed since the start: restart")
    return connection


def _guard(connection: sqlite3.Connection, authorizer: Authorizer, bounds: _Bounds) -> None:
    connection.text_factory = _text
    for pragma in ("query_only = 1", "temp_store = MEMORY", "trusted_schema = 0", "cell_size_check = 1"):
        connection.execute(f"PRAGMA {pragma}")
    for limit, value in LIMITS:
        connection.setlimit(limit, value)
    connection.set_progress_handler(bounds, PERIOD)
    connection.set_authorizer(authorizer)


def _fetch(
    connection: sqlite3.Connection, sql: str, constraints: Constraints, authorizer: Authorizer
) -> Json:
    rows_max = ROWS_MAX if constraints.records_max is None else constraints.records_max
    room = constraints.output_bytes_max - _ENVELOPE_BYTES
    cursor = connection.execute(sql)
    names = _unique([str(column[0]) for column in cursor.description or ()])
    rows: list[dict[str, Json]] = []
    truncated = False
    for row in cursor:
        record = dict(zip(names, map(_plain, row), strict=True))
        room -= len(orjson.dumps(record)) + 1
        if len(rows) >= rows_max or room < 0:
            truncated = True
            break
        rows.append(record)
    return {
        "columns": names,
        "rows": rows,
        "row_count": len(rows),
        "truncated": truncated,
        "classes": list(authorizer.classes_read),
    }


def _unique(names: list[str]) -> list[str]:
    """`names`, where each repetition gets a number, so that no value hides another."""
    taken: set[str] = set()
    unique: list[str] = []
    for name in names:
        short = name[:120]
        candidate, number = short, 2
        while candidate in taken:
            candidate, number = f"{short}_{number}", number + 1
        taken.add(candidate)
        unique.append(candidate)
    return unique


def _plain(value: Any) -> Json:
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, float) and not math.isfinite(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _explain(error: Exception, authorizer: Authorizer, bounds: _Bounds, deadline: Deadline) -> EffectFailed:
    if bounds.reason:
        return EffectFailed(bounds.code, f"{bounds.reason}: ask for less")
    if deadline.passed:
        return EffectFailed("tool.timeout", "the query ran out of time: ask for less", retryable=True)
    if authorizer.refusal is not None:
        return authorizer.refusal
    text = str(error)
    if "one statement" in text:
        return EffectFailed("args.invalid", "only one statement at a time is permitted")
    return EffectFailed("tool.failed", f"the query failed: {text[:300]}")
