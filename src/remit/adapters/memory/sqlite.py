"""Memory in a file of SQLite: one connection in one thread, and what was erased is overwritten on the disk."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from remit.adapters.memory.sql import TABLES, Cursor, SqlMemory
from remit.core.errors import RemitError
from remit.core.memory import Scope

VERSION = 1
_WAIT_S = 5.0
T = TypeVar("T")


class SqliteMemory(SqlMemory):
    """A `Memory` in the file at `path`. Make it with `open`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="remit-memory")
        self._connection: sqlite3.Connection | None = None

    async def close(self) -> None:
        """Finish what was begun, then let go of the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def erase(self, scope: Scope, name: str, seqs: Collection[int], at_us: int) -> int:
        count = await super().erase(scope, name, seqs, at_us)
        # what the log still has of it is overwritten too
        await asyncio.get_running_loop().run_in_executor(self._thread, self._checkpoint)
        return count

    async def _transaction(self, work: Callable[[Cursor], T], scope: Scope | None = None) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._do, work, scope is not None
        )

    def _do(self, work: Callable[[Cursor], T], writes: bool) -> T:
        try:
            if self._connection is None:
                self._connection = _open(self._path)
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            try:
                done = work(connection.cursor())
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
            return done
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _checkpoint(self) -> None:
        try:
            if self._connection is not None:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: sqlite3.Error) -> RemitError:
        self._close()
        return RemitError("memory.unavailable", f"{self._path} cannot be used", cause=str(error))

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # what people said is for its owner
    connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise RemitError("memory.unavailable", f"{path} is of a newer version of remit")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        if version < VERSION:
            connection.execute("BEGIN IMMEDIATE")
            for table in TABLES:
                connection.execute(
                    table.format(text="TEXT", integer="INTEGER", bytes="BLOB", strict=" STRICT")
                )
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection
