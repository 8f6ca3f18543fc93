"""Memory in the schema `remit_memory` of a PostgreSQL database: one connection in one thread, made anew when it is lost.

What changes a scope is done one after the other by an advisory lock, so that its limits are exact over all workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, TypeVar

import orjson
import psycopg
from psycopg import conninfo

from remit.adapters.memory.sql import TABLES, Cursor, SqlMemory
from remit.core.errors import RemitError
from remit.core.memory import Scope

VERSION = 1
SCHEMA = "remit_memory"
_LOCK = 0x72656D6D656D  # "remmem"
_DEFAULTS: Mapping[str, str | int] = MappingProxyType(
    {
        "connect_timeout": 5,
        "application_name": "remit-memory",
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
)
_SETTINGS = (
    f"SET search_path = {SCHEMA}",
    "SET statement_timeout = '10s'",
    "SET lock_timeout = '8s'",
    "SET idle_in_transaction_session_timeout = '5s'",
)
_BY_SCOPE = b"SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
T = TypeVar("T")


class PostgresMemory(SqlMemory):
    """A `Memory` in the database at `url`. Raises: RemitError `usage.invalid` where that is no URL of one."""

    def __init__(self, url: str) -> None:
        try:
            self._parameters = {**_DEFAULTS, **conninfo.conninfo_to_dict(url)}
        except psycopg.ProgrammingError:
            # what it complains of may be a part of the password
            message = "the address of the memory is no PostgreSQL URL"
            raise RemitError(
                "usage.invalid", message, remedy="write postgresql://USER@HOST/DATABASE"
            ) from None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="remit-memory")
        self._connection: psycopg.Connection[Any] | None = None

    async def close(self) -> None:
        """Finish what was begun, then let go of the connection."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def _transaction(self, work: Callable[[Cursor], T], scope: Scope | None = None) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work, scope)

    def _do(self, work: Callable[[Cursor], T], scope: Scope | None) -> T:
        try:
            was_open = self._connection is not None
            try:
                return self._try(work, scope)
            except psycopg.Error:
                if not was_open or self._connection is None or not self._connection.closed:
                    raise
                self._close()  # it was lost, and nothing can be done twice here: once more, on a new one
                return self._try(work, scope)
        except psycopg.Error as error:
            self._close()
            text = " ".join(str(error).split())
            password = self._parameters.get("password")
            cause = text.replace(str(password), "***") if password else text
            raise RemitError(
                "memory.unavailable", "the database of the memory cannot be used", cause=cause
            ) from None

    def _try(self, work: Callable[[Cursor], T], scope: Scope | None) -> T:
        if self._connection is None:
            self._connection = _open(self._parameters)
        connection = self._connection
        with connection.transaction(), connection.cursor() as cursor:
            if scope is None:  # it reads, in several statements, what must be of one moment
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            else:
                cursor.execute(_BY_SCOPE, (orjson.dumps(list(scope)).decode(),))
            return work(_Statements(cursor))

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Statements:
    """Runs the statements that SQLite shares, with the marks of this driver."""

    def __init__(self, cursor: psycopg.Cursor[Any]) -> None:
        self._cursor = cursor

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> _Statements:
        self._cursor.execute(statement.replace("?", "%s").encode(), [_storable(value) for value in values])
        return self

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]], /) -> None:
        for row in rows:
            self.execute(statement, row)

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._cursor.fetchone()

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._cursor.fetchall()


def _storable(value: Any) -> Any:
    """PostgreSQL has no text with a zero character, which stands as U+FFFD. The texts themselves are bytes."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _open(parameters: Mapping[str, Any]) -> psycopg.Connection[Any]:
    connection = psycopg.connect(**parameters, autocommit=True)
    try:
        for setting in _SETTINGS:
            connection.execute(setting.encode())
        row = connection.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.memory_version",)).fetchone()
        version = 0
        if row is not None and row[0] is not None:
            found = connection.execute("SELECT version FROM memory_version").fetchone()
            version = 0 if found is None else found[0]
        if version > VERSION:
            raise RemitError("memory.unavailable", "the memory is of a newer version of remit")
        if version < VERSION:
            _make(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _make(connection: psycopg.Connection[Any]) -> None:
    """The tables, however many workers want them at once."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}".encode())
        for table in TABLES:
            connection.execute(table.format(text="text", integer="bigint", bytes="bytea", strict="").encode())
        connection.execute("CREATE TABLE IF NOT EXISTS memory_version (version integer PRIMARY KEY)")
        connection.execute("INSERT INTO memory_version VALUES (%s) ON CONFLICT DO NOTHING", (VERSION,))
