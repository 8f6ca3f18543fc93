"""Statements on PostgreSQL, each on a connection of its own out of a few, ended by the server at its deadline.

A read is on a session that the server was told to keep from writing, under a role that cannot write, which is looked
at when it is opened. Rows are taken one by one, and no more of them than may be returned.
"""

from __future__ import annotations

import datetime
import decimal
import math
import queue
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, cast

import orjson
import psycopg
from psycopg import errors

from remit.adapters.tools.deadline import Deadline
from remit.adapters.tools.sql.rows import unique
from remit.core.canonical import Json
from remit.core.decisions import Constraints
from remit.core.errors import RemitError
from remit.core.labels import DataClass
from remit.ports.effects import EffectFailed

CONNECT_S = 10
ROWS_MAX = 1_000
_ENVELOPE_BYTES = 1_024  # room for column names and the fields around the rows
_IDLE_MAX = 8
# of the role, and of all roles that it may become: what is not inherited is one SET ROLE away
_MAY_WRITE = """
WITH able AS (SELECT * FROM pg_roles WHERE rolname = current_user
    OR (pg_has_role(current_user, oid, 'MEMBER') AND current_setting('is_superuser') = 'off'))
SELECT 'it is a superuser, or may become one' FROM able WHERE rolsuper
UNION SELECT 'it may create roles or databases' FROM able WHERE rolcreaterole OR rolcreatedb
UNION SELECT 'it may replicate, or read what row security hides' FROM able WHERE rolreplication OR rolbypassrls
UNION SELECT 'it is a member of ' || rolname FROM able
    WHERE rolname IN ('pg_write_all_data', 'pg_write_server_files', 'pg_read_server_files', 'pg_execute_server_program',
                      'pg_signal_backend', 'pg_checkpoint', 'pg_maintain', 'pg_create_subscription')
UNION SELECT 'it may create schemas in the database' FROM able
    WHERE has_database_privilege(oid, current_database(), 'CREATE')
UNION SELECT 'it may create tables in the schema ' || nspname FROM able, pg_namespace
    WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
      AND has_schema_privilege(able.oid, pg_namespace.oid, 'CREATE')
UNION (SELECT 'it may change the table ' || pg_class.oid::regclass FROM able, pg_class
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
      AND (has_table_privilege(able.oid, pg_class.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')
           OR has_any_column_privilege(able.oid, pg_class.oid, 'INSERT, UPDATE'))
    ORDER BY 1 LIMIT 5)
UNION (SELECT 'it may count on the sequence ' || pg_class.oid::regclass FROM able, pg_class
    WHERE CASE WHEN relkind = 'S' THEN has_sequence_privilege(able.oid, pg_class.oid, 'USAGE, UPDATE') END
    ORDER BY 1 LIMIT 5)
"""
# a row that is larger than all that may be returned is not even sent
_BOUNDED = """
SELECT * FROM (
{sql}
) AS bounded WHERE CASE WHEN octet_length(bounded::text) > {bytes_max}
    THEN (octet_length(bounded::text) || '{too_large}')::boolean ELSE true END
"""
_TOO_LARGE = " bytes in one row are more than may be returned"
# what complains of a name or of a rule; other complaints repeat what is stored
_TOLD_CLASSES = frozenset({"0A", "23", "25", "42", "P0"})
_UNREADABLE = "SELECT has_column_privilege(%s::regclass, %s, 'SELECT')"


class Postgres:
    """One database under one role. Methods block: call them in a thread."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """`timeout_s`: after which the server ends a statement."""
        self._url = url
        self._timeout_ms = max(int(timeout_s * 1000), 1)
        self._idle: dict[bool, queue.LifoQueue[psycopg.Connection[Any]]] = {
            writes: queue.LifoQueue(_IDLE_MAX) for writes in (False, True)
        }

    def check(self, tables: Mapping[str, Mapping[str, DataClass]], *, may_write: bool) -> None:
        """That the role can read what is declared, and (unless it `may_write`) change nothing.

        Raises: RemitError `toolset.unavailable`.
        """
        try:
            with closing(self._connect(writes=False)) as connection:
                reasons = [] if may_write else [str(row[0]) for row in connection.execute(_MAY_WRITE)]
                for table, columns in tables.items():
                    for column in columns:
                        (readable,) = connection.execute(_UNREADABLE, (table, column)).fetchone() or (False,)
                        if not readable:
                            message = f"the role may not read {table}.{column}"
                            raise RemitError("toolset.unavailable", message, remedy="grant SELECT on it")
        except psycopg.Error as error:
            cause = type(error).__name__ if isinstance(error, psycopg.OperationalError) else _told(error)
            raise RemitError("toolset.unavailable", "the database cannot be used", cause=cause) from None
        if reasons:
            remedy = "connect as a role that owns nothing and has SELECT alone, or declare effect: write"
            raise RemitError(
                "toolset.unavailable", f"the database's role may write: {'; '.join(reasons)}", remedy=remedy
            )

    def read(
        self, sql: str, values: Mapping[str, Any] | None, constraints: Constraints, deadline: Deadline
    ) -> dict[str, Json]:
        """The rows of `sql`: `{"columns", "rows", "row_count", "truncated"}`. Raises: EffectFailed."""
        try:
            try:
                return self._read(sql, values, constraints, deadline)
            except psycopg.OperationalError as error:
                if isinstance(error, errors.QueryCanceled) or _is_limit(error) or deadline.passed:
                    raise
                self.drop_idle()  # the server has ended them: once more, on a new one
                return self._read(sql, values, constraints, deadline)
        except psycopg.Error as error:
            raise _failure(error, deadline) from None

    def _read(
        self, sql: str, values: Mapping[str, Any] | None, constraints: Constraints, deadline: Deadline
    ) -> dict[str, Json]:
        with (
            self._connection(deadline, writes=False) as connection,
            connection.cursor() as cursor,
            # a generator, which cancels the rest of the statement where it is closed before its end
            closing(cast(Generator[Sequence[Any], None, None], cursor.stream(sql, values))) as rows,
        ):
            return _fetched(cursor, rows, constraints)

    def write(
        self, sql: str, values: Mapping[str, Any], constraints: Constraints, deadline: Deadline
    ) -> dict[str, Json]:
        """What `sql` returns, once it is committed, and how many rows it changed.

        Raises: EffectFailed where nothing was changed; any other error where nobody knows.
        """
        with self._connection(deadline, writes=True) as connection, connection.cursor() as cursor:
            try:
                connection.execute("BEGIN")
                cursor.execute(sql, values)
                changed = cursor.rowcount
                result = _fetched(cursor, iter(cursor) if cursor.description else iter(()), constraints)
            except psycopg.Error as error:
                raise _failure(error, deadline) from None
            connection.execute("COMMIT")
        return {**result, "changed": changed}

    def drop_idle(self) -> None:
        """Close the connections that nobody uses."""
        for idle in self._idle.values():
            while True:
                try:
                    idle.get_nowait().close()
                except queue.Empty:
                    break

    @contextmanager
    def _connection(self, deadline: Deadline, *, writes: bool) -> Iterator[psycopg.Connection[Any]]:
        """A connection, which goes back where all went well, and is closed where anything did not."""
        deadline.check()
        try:
            connection = self._idle[writes].get_nowait()
        except queue.Empty:
            connection = self._connect(writes=writes)
        kept = False
        try:
            deadline.attach(lambda: _cancel(connection))
            yield connection
            deadline.attach(None)
            self._idle[writes].put_nowait(connection)
            kept = True
        except queue.Full:
            kept = False  # there are enough of them
        finally:
            deadline.attach(None)
            if not kept:
                connection.close()

    def _connect(self, *, writes: bool) -> psycopg.Connection[Any]:
        options = f"-c statement_timeout={self._timeout_ms} -c default_transaction_read_only={'off' if writes else 'on'}"
        return psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=CONNECT_S,
            options=options,
            application_name="remit",
            prepare_threshold=None,
        )


def bounded(sql: str, constraints: Constraints) -> str:
    """A SELECT of which no row is larger than what may be returned."""
    return _BOUNDED.format(sql=sql, bytes_max=constraints.output_bytes_max, too_large=_TOO_LARGE)


def _cancel(connection: psycopg.Connection[Any]) -> None:
    # it asks the server by a connection of its own, which takes its time
    threading.Thread(target=connection.cancel_safe, kwargs={"timeout": 5.0}, daemon=True).start()


def _fetched(
    cursor: psycopg.Cursor[Any], rows: Iterator[Sequence[Any]], constraints: Constraints
) -> dict[str, Json]:
    most = ROWS_MAX if constraints.records_max is None else constraints.records_max
    room = constraints.output_bytes_max - _ENVELOPE_BYTES
    taken: list[Json] = []
    names: list[str] = []
    truncated = False
    for row in rows:
        names = names or unique([column.name for column in cursor.description or ()])
        record = dict(zip(names, map(_plain, row), strict=True))
        room -= len(orjson.dumps(record, default=str)) + 1
        if len(taken) >= most or room < 0:
            truncated = True
            break
        taken.append(record)
    return {
        "columns": names,
        "rows": taken,
        "row_count": len(taken),
        "truncated": truncated,
    }


def _plain(value: Any) -> Json:
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if abs(value) < 2**63 else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case decimal.Decimal():
            return str(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case bytes() | memoryview():
            return f"x'{bytes(value).hex()}'"
        case list() | tuple():
            return [_plain(one) for one in value]
        case dict():
            return {str(name): _plain(one) for name, one in value.items()}
    return str(value)


def _failure(error: psycopg.Error, deadline: Deadline) -> EffectFailed:
    """What did not happen, and why: a read, or a change that was rolled back."""
    if isinstance(error, errors.QueryCanceled) or deadline.passed:
        return EffectFailed("tool.timeout", "the query ran out of time: ask for less", retryable=True)
    if isinstance(error, psycopg.OperationalError) and not _is_limit(error):
        return EffectFailed("tool.failed", "the database cannot be reached", retryable=True)
    return EffectFailed("tool.failed", f"the query failed: {_told(error)}")


def _is_limit(error: psycopg.Error) -> bool:
    """Whether the statement is more than the server does, and not the server away."""
    return (error.sqlstate or "").startswith("54")


def _told(error: psycopg.Error) -> str:
    text = error.diag.message_primary or ""
    if _TOO_LARGE in text:
        return f"{_TOO_LARGE.strip()}: ask for less"
    if (error.sqlstate or "")[:2] not in _TOLD_CLASSES:
        text = type(error).__name__
    return "".join(one for one in text if one.isprintable())[:300]
