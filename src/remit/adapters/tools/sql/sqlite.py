"""One SELECT on SQLite, for statements that a model wrote.

Nothing is written and nothing outlives the deadline: a file opened read-only, `query_only`, the authorizer, SQLite's
limits, and a progress handler that holds time, steps and memory. Rows are cut by fetching one more than may be
returned, and by bytes.
"""

from __future__ import annotations

import math
import resource
import sqlite3
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from remit.adapters.tools.deadline import Deadline
from remit.adapters.tools.sql.authorizer import LIMITS, Authorizer
from remit.adapters.tools.sql.rows import unique
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


class Statement(NamedTuple):
    """One statement, and the values of its parameters."""

    sql: str
    values: Mapping[str, Any] | tuple[()] = ()


def run(
    connection: sqlite3.Connection,
    statement: Statement,
    authorizer: Authorizer,
    constraints: Constraints,
    deadline: Deadline,
) -> Json:
    """The rows of a statement: `{"columns", "rows", "row_count", "truncated", "classes"}`.

    Rows are objects by column name; `classes` are those of all columns that the statement reads.
    Raises: EffectFailed `data.denied`, `args.invalid`, `tool.timeout`, `tool.failed`.
    """
    bounds = _Bounds(deadline)
    _guard(connection, authorizer, bounds)
    connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, len(statement.values))
    deadline.attach(connection.interrupt)
    try:
        return _fetch(connection, statement, constraints, authorizer)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
        raise _explain(error, authorizer, bounds, deadline) from error
    finally:
        deadline.attach(None)


def _guard(connection: sqlite3.Connection, authorizer: Authorizer, bounds: _Bounds) -> None:
    connection.text_factory = _text
    for pragma in ("query_only = 1", "temp_store = MEMORY", "trusted_schema = 0", "cell_size_check = 1"):
        connection.execute(f"PRAGMA {pragma}")
    for limit, value in LIMITS:
        connection.setlimit(limit, value)
    connection.set_progress_handler(bounds, PERIOD)
    connection.set_authorizer(authorizer)


def _fetch(
    connection: sqlite3.Connection, statement: Statement, constraints: Constraints, authorizer: Authorizer
) -> Json:
    rows_max = ROWS_MAX if constraints.records_max is None else constraints.records_max
    room = constraints.output_bytes_max - _ENVELOPE_BYTES
    cursor = connection.execute(statement.sql, statement.values)
    names = unique([str(column[0]) for column in cursor.description or ()])
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
