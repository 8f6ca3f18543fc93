"""One thread writes; what waits while it writes goes into the next commit together.

A future is set only after the commit that holds its operation is on disk, and it cannot be cancelled:
a task that is cancelled while it waits hears of it once the commit is known. One operation's error
undoes that operation alone. At most one batch is outstanding, and one wake-up of the event loop
acknowledges all of it. Operations of one kind share their statements: their handler gets them together.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

from remit.adapters.journal.operations import Handler
from remit.core.errors import RemitError

Job: TypeAlias = tuple[Handler, Any, "asyncio.Future[Any]"]


class CommitFuture(asyncio.Future[Any]):
    """The future of a commit. What goes to disk cannot be called back, so neither can this."""

    __slots__ = ()

    def cancel(self, msg: Any | None = None) -> bool:
        """Refuse: the waiting task is cancelled when the commit is known."""
        return False


WAKE_MAX = 16
BATCH_MAX = 512
BUSY_TIMEOUT_MS = 10_000


def open_connection(path: Path) -> sqlite3.Connection:
    """A connection for writing: write-ahead log, every commit synced to disk."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 1000")
    return connection


class CommitQueue(ABC):
    """Hands operations to a thread of its own in batches and acknowledges them. Belongs to one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._waiting: list[Job] = []
        self._writing = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._batches: SimpleQueue[list[Job] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="remit-journal", daemon=True)
        self._thread.start()

    def submit(self, handler: Handler, operation: Any) -> asyncio.Future[Any]:
        """Have `handler` do `operation` in the next commit. The future holds its result once that commit is on disk.

        Raises: RemitError `journal.unavailable` after `close`, or in a forked child.
        """
        if self._closed or os.getpid() != self._pid:
            raise RemitError("journal.unavailable", "the journal is closed, or belongs to another process")
        future = CommitFuture(loop=self._loop)
        self._waiting.append((handler, operation, future))
        if not self._writing:
            # hand over at the end of this turn of the loop, so that one turn's operations share a commit
            self._writing = True
            self._idle.clear()
            self._loop.call_soon(self._hand_over)
        return future

    async def close(self) -> None:
        """Finish everything that was accepted, then let go of the database."""
        self._closed = True
        await self._idle.wait()
        if self._thread.is_alive():
            self._batches.put(None)
            await asyncio.to_thread(self._thread.join)
        self._release()

    @abstractmethod
    def _commit(self, batch: list[Job]) -> list[Any]:
        """Do each operation of a batch, atomic and durable; a result that is a RemitError is that one's error."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of the database."""

    def _hand_over(self) -> None:
        batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
        self._batches.put(batch)

    def _acknowledge(self, batch: list[Job], results: list[Any], first: int = 0) -> None:
        """Wake the waiting tasks, some in each turn of the loop: who else waits for the loop gets in between."""
        last = first + WAKE_MAX
        for (_, _, future), result in zip(batch[first:last], results[first:last], strict=True):
            if isinstance(result, RemitError):
                future.set_exception(result)
            else:
                future.set_result(result)
        if last < len(batch):
            self._loop.call_soon(self._acknowledge, batch, results, last)
        elif self._waiting:
            self._hand_over()
        else:
            self._writing = False
            self._idle.set()

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            results = self._commit(batch)
            try:
                self._loop.call_soon_threadsafe(self._acknowledge, batch, results)
            except RuntimeError:
                return  # the loop is closed: nobody is left to hear of it; what is committed stands
            del batch, results  # the next batch may be long in coming


class GroupCommitWriter(CommitQueue):
    """Runs operations on one SQLite database.

    In a batch the handlers have their turn in the order of `handlers`, whatever the order of submission.
    """

    def __init__(self, path: Path, handlers: Sequence[Handler]) -> None:
        self._connection = open_connection(path)
        self._handlers = handlers
        super().__init__()

    def _release(self) -> None:
        self._connection.close()

    def _commit(self, batch: list[Job]) -> list[Any]:
        """Run a batch in one transaction; where one operation fails, each again in one of its own.

        Running an operation again is safe: what it did was rolled back.
        """
        try:
            return self._transact(batch)
        except _OperationFailed as failed:
            if len(batch) == 1:
                return [unavailable(failed.error)]
        except Exception as error:  # the transaction could not begin or commit: no use in trying one by one
            return [unavailable(error)] * len(batch)
        return [result for job in batch for result in self._commit([job])]

    def _transact(self, batch: list[Job]) -> list[Any]:
        connection = self._connection
        results: list[Any] = [None] * len(batch)
        try:
            connection.execute("BEGIN IMMEDIATE")
            for handler in self._handlers:
                places = [place for place, job in enumerate(batch) if job[0] is handler]
                if places:
                    found = _run(handler, connection, [batch[place][1] for place in places])
                    for place, result in zip(places, found, strict=True):
                        results[place] = result
            connection.execute("COMMIT")
            return results
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


class _OperationFailed(Exception):
    """One operation of a batch failed, and with it this try of the whole batch."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _run(handler: Handler, connection: sqlite3.Connection, operations: list[Any]) -> list[Any]:
    try:
        return handler(connection, operations)
    except Exception as error:
        raise _OperationFailed(error) from error


def unavailable(error: Exception) -> RemitError:
    """What the caller is told; an operation's own RemitError is told as it is."""
    if isinstance(error, RemitError):
        return error
    failure = RemitError("journal.unavailable", "the journal could not be written", cause=str(error))
    failure.__cause__ = error
    return failure
