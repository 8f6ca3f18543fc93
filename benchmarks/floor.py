"""The least that a governed call must do: two synced group commits of one INSERT each, and nothing else.

Written apart from Remit's own writer, so that a slow writer cannot hide behind its floor.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

ROW = b"x" * 400
_Batch = list["asyncio.Future[None]"]


class CommitFloor:
    """Commits rows in groups: whoever waits while a commit is under way shares the next one."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: _Batch = []
        self._busy = False
        self._batches: SimpleQueue[_Batch | None] = SimpleQueue()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("CREATE TABLE row (seq INTEGER PRIMARY KEY, body BLOB)")
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def __enter__(self) -> CommitFloor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batches.put(None)
        self._thread.join()
        self._connection.close()

    async def call(self) -> None:
        """The two commits of one call."""
        await self._commit()
        await self._commit()

    def _commit(self) -> asyncio.Future[None]:
        future = self._loop.create_future()
        self._waiting.append(future)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._hand_over)
        return future

    def _hand_over(self) -> None:
        batch, self._waiting = self._waiting, []
        self._batches.put(batch)

    def _written(self, batch: _Batch) -> None:
        for future in batch:
            future.set_result(None)
        self._busy = bool(self._waiting)
        if self._busy:
            self._hand_over()

    def _write(self) -> None:
        while (batch := self._batches.get()) is not None:
            self._connection.execute("BEGIN IMMEDIATE")
            for _ in batch:
                self._connection.execute("INSERT INTO row (body) VALUES (?)", (ROW,))
            self._connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(self._written, batch)
