"""The journal on SQLite: the embedded default.

One writer thread commits in groups, every commit synced before it is acknowledged; reads have a
connection of their own and see only what is committed.
"""

from __future__ import annotations

import asyncio
import sqlite3
from asyncio import Future
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from remit.adapters.journal import admission as commits
from remit.adapters.journal import costs, outbox, reads, runs, schema
from remit.adapters.journal.writer import BUSY_TIMEOUT_MS, GroupCommitWriter
from remit.core.approvals import Approval
from remit.core.errors import RemitError
from remit.core.outbox import Delivery, OutboxMessage
from remit.core.runs import RunRecord, RunStatus
from remit.ports.journal import (
    Admission,
    Admitted,
    AuditEntry,
    AuditQuery,
    Balance,
    CallRecord,
    Completion,
    CostQuery,
    CostRow,
    Misfit,
    Recorded,
    RunEnding,
    Settled,
    StartRun,
)
from remit.ports.services import Clock

T = TypeVar("T")


class SqliteReader:
    """The reads of the `Journal` port on one SQLite file, through a connection that cannot write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._reading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="remit-journal-read")
        self._shut = False

    async def run(self, run_id: str) -> RunRecord | None:
        return await self._read(lambda sql: reads.run_record(sql, run_id))

    async def runs(self, *, status: RunStatus | None = None, limit: int = 100) -> Sequence[RunRecord]:
        return await self._read(lambda sql: reads.run_records(sql, status, limit))

    async def calls(self, run_id: str) -> Sequence[CallRecord]:
        return await self._read(lambda sql: reads.call_records(sql, run_id))

    async def approval_for(self, action_digest: str) -> Approval | None:
        return await self._read(lambda sql: runs.approval_for(sql, action_digest))

    async def audit(self, query: AuditQuery) -> Sequence[AuditEntry]:
        return await self._read(lambda sql: reads.audit_entries(sql, query))

    async def balances(self, prefix: str = "") -> Sequence[Balance]:
        return await self._read(lambda sql: reads.balances(sql, prefix))

    async def costs(self, query: CostQuery) -> Sequence[CostRow]:
        return await self._read(lambda sql: costs.cost_rows(sql, query))

    async def outbox(self, limit: int = 100) -> Sequence[OutboxMessage]:
        return await self._read(lambda sql: outbox.newest(sql, limit))

    async def close(self) -> None:
        self._shut = True
        self._reading.shutdown(wait=True)
        if self._connection is not None:
            self._connection.close()

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        def read() -> T:
            if self._connection is None:
                self._connection = sqlite3.connect(
                    f"{self._path.absolute().as_uri()}?mode=ro",
                    uri=True,
                    isolation_level=None,
                    check_same_thread=False,
                )
                self._connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            return query(self._connection)

        if self._shut:
            raise RemitError("journal.unavailable", "the journal is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reading, read)
        except sqlite3.Error as error:
            raise RemitError("journal.unavailable", "the journal cannot be read", cause=str(error)) from error


class SqliteJournal(SqliteReader):
    """The `Journal` port on one SQLite file. Belongs to the event loop it was opened in."""

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(path)

        def admit_all(sql: sqlite3.Connection, admissions: list[Admission]) -> list[commits.Verdict]:
            return commits.admit_all(sql, admissions, clock.now_us())

        self._admit_all = admit_all
        # completions first, so that a run's end comes after the outcomes that were submitted before it
        self._writer = GroupCommitWriter(path, (commits.complete_all, _each, self._admit_all))

    @classmethod
    def open(cls, path: Path, clock: Clock) -> SqliteJournal:
        """Open or create the journal at `path`, its schema brought up to date.

        Raises: RemitError `journal.unavailable`, `journal.schema`.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            schema.migrate(path)
            return cls(path, clock)
        except (OSError, sqlite3.Error) as error:
            raise RemitError("journal.unavailable", f"{path} cannot be opened", cause=str(error)) from error

    def admit(self, admission: Admission) -> Future[Admitted | Recorded | Misfit]:
        return self._writer.submit(self._admit_all, admission)

    def complete(self, completion: Completion) -> Future[Settled]:
        return self._writer.submit(commits.complete_all, completion)

    def record(self, audit: bytes) -> Future[None]:
        return self._writer.submit(_each, lambda sql: _append(sql, audit))

    def create_run(self, start: StartRun) -> Future[None]:
        return self._writer.submit(_each, lambda sql: runs.create(sql, start))

    def begin_run(self, run_id: str, max_concurrent_runs: int, at_us: int) -> Future[bool]:
        return self._writer.submit(_each, lambda sql: runs.begin(sql, run_id, max_concurrent_runs, at_us))

    def end_run(self, run_id: str, ending: RunEnding, at_us: int) -> Future[bool]:
        return self._writer.submit(_each, lambda sql: runs.end(sql, run_id, ending, at_us))

    def interrupt_runs(self, at_us: int) -> Future[tuple[str, ...]]:
        return self._writer.submit(_each, lambda sql: runs.interrupt(sql, at_us))

    def expire_holds(self, at_us: int) -> Future[Settled]:
        return self._writer.submit(_each, lambda sql: Settled(alerts=runs.presume(sql, at_us, at_us)))

    def register_remit(self, agent: str, digest: str, at_us: int, audit: bytes) -> Future[bool]:
        return self._writer.submit(_each, lambda sql: runs.register_remit(sql, (agent, digest, at_us), audit))

    def request_approval(self, approval: Approval, audit: bytes) -> Future[Approval]:
        return self._writer.submit(_each, lambda sql: runs.request_approval(sql, approval, audit))

    def decide_approval(self, approval: Approval, audit: bytes) -> Future[bool]:
        return self._writer.submit(_each, lambda sql: runs.decide_approval(sql, approval, audit))

    def set_control(self, scope: str, paused: bool, reason: str, at_us: int, audit: bytes) -> Future[None]:
        def operation(sql: sqlite3.Connection) -> None:
            runs.set_control(sql, scope, reason if paused else None, at_us)
            _append(sql, audit)

        return self._writer.submit(_each, operation)

    def subscribe(self, topics: frozenset[str]) -> Future[None]:
        return self._writer.submit(_each, lambda sql: outbox.subscribe(sql, topics))

    def claim_messages(self, at_us: int, lease_us: int, limit: int) -> Future[tuple[OutboxMessage, ...]]:
        return self._writer.submit(_each, lambda sql: outbox.claim(sql, at_us, lease_us, limit))

    def settle_delivery(self, delivery: Delivery) -> Future[bool]:
        return self._writer.submit(_each, lambda sql: outbox.settle(sql, delivery))

    async def close(self) -> None:
        await self._writer.close()
        await super().close()


def _each(sql: sqlite3.Connection, operations: list[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
    """Operations that have no statements to share."""
    return [operation(sql) for operation in operations]


def _append(sql: sqlite3.Connection, audit: bytes) -> None:
    sql.execute(runs.APPEND, (audit,))
