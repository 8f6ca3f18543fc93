"""The journal on PostgreSQL: the same promises as SQLite's, for many workers on one database.

Writes are one connection's, in batches (`writer`); reads have a connection of their own, which cannot write, and
those of which the answer may be some moments old can go to a replica.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import orjson
import psycopg

from remit.adapters.journal import admission as commits
from remit.adapters.journal import runs
from remit.adapters.journal.operations import Handler, SqlJournal, SqlReads, each
from remit.adapters.journal.postgres import dialect, schema
from remit.adapters.journal.postgres.connection import Address, PostgresSql
from remit.adapters.journal.postgres.writer import PostgresWriter
from remit.adapters.journal.schema import check_readable
from remit.adapters.journal.sql import Sql
from remit.core.errors import RemitError
from remit.ports.journal import Admission, Completion, Settled
from remit.ports.services import Clock

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresOptions:
    """Where the journal is. `url` and `replica_url` hold passwords and are never shown.

    `worker` is the name under which the process holds its lease: no other's.
    `clock`: the time by which windows are counted and approvals end; None for the database's, which all workers
    share. Only a simulation brings its own.
    """

    url: str = field(repr=False)
    replica_url: str | None = field(default=None, repr=False)
    worker: str = ""
    clock: Clock | None = None


class _Reading:
    """One connection for reading, opened when it is needed, and again when it was lost."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="remit-journal-read")
        self._connection: psycopg.Connection[Any] | None = None
        self._sql: PostgresSql | None = None

    async def read(self, query: Callable[[Sql], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._twice, query)
        except psycopg.Error as error:
            cause = self._address.told(error)
            raise RemitError("journal.unavailable", "the journal cannot be read", cause=cause) from error

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        if self._connection is not None:
            self._connection.close()

    def _twice(self, query: Callable[[Sql], T]) -> T:
        try:
            return query(self._opened())
        except psycopg.OperationalError:
            if self._connection is not None and not self._connection.closed:
                raise
        return query(self._opened())  # a read can be repeated

    def _opened(self) -> PostgresSql:
        if self._sql is None or self._connection is None or self._connection.closed:
            self._connection = self._address.connect()
            self._connection.execute("SET default_transaction_read_only = on")
            self._sql = PostgresSql(self._connection)
        return self._sql


class PostgresReader(SqlReads):
    """The reads of the `Journal` port on one PostgreSQL database."""

    def __init__(self, options: PostgresOptions) -> None:
        self._address = Address.of(options.url)
        self._primary = _Reading(self._address)
        replica_url = options.replica_url
        self._replica = self._primary if replica_url is None else _Reading(Address.of(replica_url))
        self._shut = False

    @classmethod
    def open(cls, options: PostgresOptions) -> Self | None:
        """Open the journal for reading; None where there is none yet.

        Raises: RemitError `journal.unavailable`, `journal.schema`, `usage.invalid`.
        """
        address = Address.of(options.url)
        try:
            with address.connect() as connection:
                current = schema.version(connection)
        except psycopg.Error as error:
            raise _not_opened(address, error) from error
        check_readable(current, schema.HEAD)
        return None if current is None else cls(options)

    async def close(self) -> None:
        self._shut = True
        for reading in {self._primary, self._replica}:
            await asyncio.to_thread(reading.close)

    async def _read(self, query: Callable[[Sql], T], *, stale: bool = False) -> T:
        if self._shut:
            raise RemitError("journal.unavailable", "the journal is closed")
        return await (self._replica if stale else self._primary).read(query)


class PostgresJournal(PostgresReader, SqlJournal):
    """The `Journal` port on one PostgreSQL database. Belongs to the event loop it was opened in."""

    def __init__(self, options: PostgresOptions) -> None:
        super().__init__(options)
        clock = options.clock
        self._worker = options.worker
        self._clock = clock

        def told_us() -> int | None:
            return None if clock is None else clock.now_us()

        def admit_all(sql: Sql, admissions: list[Admission]) -> list[commits.Verdict]:
            scopes = _listed({hold.scope for one in admissions for hold in one.holds})
            sql.execute(dialect.LOCK_SCOPES, scopes)
            sql.execute(
                dialect.LOCK_WINDOWS, _listed({window.key for one in admissions for window in one.windows})
            )
            verdicts = commits.admit_all(sql, admissions, self._now_us(sql), self._worker, _numbers)
            sql.execute(dialect.UNLOCK_SCOPES, scopes)
            return verdicts

        def complete_all(sql: Sql, completions: list[Completion]) -> list[Settled | RemitError]:
            return commits.complete_all(sql, completions, self._worker)

        self._complete_all, self._admit_all = complete_all, admit_all
        self._begin_all = _begin_all
        self._writer = PostgresWriter(
            self._address, (complete_all, each, _begin_all, admit_all), options.worker, told_us
        )

    @classmethod
    def open(cls, options: PostgresOptions) -> Self:
        """Open or create the journal, its schema brought up to date.

        Raises: RemitError `journal.unavailable`, `journal.schema`, `usage.invalid`.
        """
        address = Address.of(options.url)
        try:
            schema.migrate(address)
            return cls(options)
        except psycopg.Error as error:
            raise _not_opened(address, error) from error

    async def close(self) -> None:
        await self._writer.close()
        await super().close()

    def _now_us(self, sql: Sql) -> int:
        if self._clock is not None:
            return self._clock.now_us()
        (now_us,) = sql.execute(dialect.NOW).fetchone()
        return int(now_us)

    def _submit(self, handler: Handler, operation: Any) -> Future[Any]:
        return self._writer.submit(handler, operation)


def _not_opened(address: Address, error: psycopg.Error) -> RemitError:
    return RemitError("journal.unavailable", "the database cannot be opened", cause=address.told(error))


def _begin_all(sql: Sql, beginnings: list[runs.Beginning]) -> list[bool | RemitError]:
    """Begin runs while nobody else begins one of the same agents."""
    sql.execute(dialect.LOCK_AGENTS, _listed({one.run_id for one in beginnings}))
    return runs.begin_all(sql, beginnings)


def _numbers(sql: Sql, count: int) -> list[int]:
    return [number for (number,) in sql.execute(dialect.NUMBERS, (count,))]


def _listed(names: set[str]) -> tuple[str]:
    return (orjson.dumps(sorted(names)).decode(),)
