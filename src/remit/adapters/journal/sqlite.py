"""The journal on SQLite: the embedded default.

One writer thread commits in groups, every commit synced before it is acknowledged; reads have a
connection of their own and see only what is committed.
"""

from __future__ import annotations

import asyncio
import sqlite3
from asyncio import Future
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from remit.adapters.journal import admission as commits
from remit.adapters.journal import runs, schema
from remit.adapters.journal.operations import Handler, SqlJournal, SqlReads, each
from remit.adapters.journal.sql import Sql
from remit.adapters.journal.writer import BUSY_TIMEOUT_MS, GroupCommitWriter
from remit.core.days import local_day
from remit.core.errors import RemitError
from remit.ports.journal import Admission, Completion, Settled
from remit.ports.services import Clock

T = TypeVar("T")


class SqliteReader(SqlReads):
    """The reads of the `Journal` port on one SQLite file, through a connection that cannot write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._reading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="remit-journal-read")
        self._shut = False

    async def close(self) -> None:
        self._shut = True
        self._reading.shutdown(wait=True)
        if self._connection is not None:
            self._connection.close()

    async def _read(self, query: Callable[[Sql], T], *, stale: bool = False) -> T:
        def read() -> T:
            if self._connection is None:
                self._connection = _open_for_reading(self._path)
            return query(self._connection)

        if self._shut:
            raise RemitError("journal.unavailable", "the journal is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reading, read)
        except sqlite3.Error as error:
            raise RemitError("journal.unavailable", "the journal cannot be read", cause=str(error)) from error


class SqliteJournal(SqliteReader, SqlJournal):
    """The `Journal` port on one SQLite file. Belongs to the event loop it was opened in.

    `worker` is the name under which it holds a lease, where several processes share the file.
    """

    def __init__(self, path: Path, clock: Clock, worker: str = "") -> None:
        super().__init__(path)
        self._clock = clock
        self._worker = worker

        def admit_all(sql: Sql, admissions: list[Admission]) -> list[commits.Verdict]:
            return commits.admit_all(sql, admissions, clock.now_us(), worker)

        def complete_all(sql: Sql, completions: list[Completion]) -> list[Settled | RemitError]:
            return commits.complete_all(sql, completions, worker)

        self._complete_all, self._admit_all = complete_all, admit_all
        self._begin_all = runs.begin_all
        # completions first, so that a run's end comes after the outcomes that were submitted before it
        self._writer = GroupCommitWriter(path, (complete_all, each, runs.begin_all, admit_all))

    @classmethod
    def open(cls, path: Path, clock: Clock, worker: str = "") -> SqliteJournal:
        """Open or create the journal at `path`, its schema brought up to date.

        Raises: RemitError `journal.unavailable`, `journal.schema`.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            schema.migrate(path)
            return cls(path, clock, worker)
        except (OSError, sqlite3.Error) as error:
            raise RemitError("journal.unavailable", f"{path} cannot be opened", cause=str(error)) from error

    async def close(self) -> None:
        await self._writer.close()
        await super().close()

    def _now_us(self, sql: Sql) -> int:
        return self._clock.now_us()

    def _submit(self, handler: Handler, operation: Any) -> Future[Any]:
        return self._writer.submit(handler, operation)


def _open_for_reading(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.create_function("local_day", 2, lambda at, zone: local_day(zone, at), deterministic=True)
    return connection
