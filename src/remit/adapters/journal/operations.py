"""The `Journal` port over statements: what each of its methods does, whichever database runs them.

Reads come to a database through `_read`, writes through `_submit`, which the adapters provide. `_complete_all` is
the handler of completions, `_admit_all` and `_begin_all` those of admissions and of runs that begin; everything
else is an operation of `each`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from remit.adapters.journal import approvals, costs, leases, outbox, reads, runs, waiting
from remit.adapters.journal.admission import resolve
from remit.adapters.journal.sql import Sql
from remit.core.actions import Principal
from remit.core.approvals import Approval, Vote
from remit.core.controls import AgentLoad, Control
from remit.core.labels import DataClass
from remit.core.messages import Attachment
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
    Settled,
)
from remit.ports.runs import ReadyRun, RunEnding, StartRun

T = TypeVar("T")

Operation: TypeAlias = Callable[[Sql], Any]
Handler: TypeAlias = Callable[[Any, list[Any]], list[Any]]
"""Does all operations of one kind, inside a transaction; a result that is a RemitError is that operation's error."""


def each(sql: Sql, operations: list[Operation]) -> list[Any]:
    """Operations that have no statements to share."""
    return [operation(sql) for operation in operations]


def append(sql: Sql, audit: bytes) -> None:
    """Append one audit record."""
    sql.execute(runs.APPEND, (audit,))


class SqlReads(ABC):
    """The reads of the `Journal` port. `stale`: whether an answer of some moments ago does no harm."""

    @abstractmethod
    async def _read(self, query: Callable[[Sql], T], *, stale: bool = False) -> T: ...

    async def run(self, run_id: str) -> RunRecord | None:
        return await self._read(lambda sql: reads.run_record(sql, run_id))

    async def runs(self, *, status: RunStatus | None = None, limit: int = 100) -> Sequence[RunRecord]:
        return await self._read(lambda sql: reads.run_records(sql, status, limit), stale=True)

    async def last_run(self, agent: str, principal: Principal) -> RunRecord | None:
        who = runs.principal_text(principal)
        return await self._read(lambda sql: reads.last_run_record(sql, agent, who))

    async def calls(self, run_id: str) -> Sequence[CallRecord]:
        return await self._read(lambda sql: reads.call_records(sql, run_id))

    async def unresolved(self, limit: int = 100) -> Sequence[CallRecord]:
        return await self._read(lambda sql: reads.unresolved(sql, limit))

    async def approval_for(self, action_digest: str) -> Approval | None:
        return await self._read(lambda sql: approvals.of_action(sql, action_digest))

    async def approval(self, approval_id: str) -> Approval | None:
        return await self._read(lambda sql: approvals.find(sql, approval_id))

    async def approvals(self, *, pending_at_us: int | None = None, limit: int = 100) -> Sequence[Approval]:
        return await self._read(lambda sql: approvals.newest(sql, pending_at_us, limit))

    async def ready_runs(
        self, agent: str, remit_digest: str, at_us: int, *, is_queued: bool | None = None, limit: int = 100
    ) -> Sequence[ReadyRun]:
        return await self._read(
            lambda sql: waiting.ready_runs(sql, agent, remit_digest, at_us, is_queued, limit)
        )

    async def statuses(self, run_ids: Sequence[str]) -> Mapping[str, RunStatus]:
        return await self._read(lambda sql: reads.statuses(sql, run_ids))

    async def refusals(self, run_id: str) -> Mapping[str, bytes]:
        return await self._read(lambda sql: reads.refusals(sql, run_id))

    async def attachments(self, run_id: str) -> Sequence[Attachment]:
        return await self._read(lambda sql: reads.attachments(sql, run_id))

    async def children(self, run_id: str) -> Sequence[RunRecord]:
        return await self._read(lambda sql: reads.children(sql, run_id))

    async def classes(self, run_id: str) -> Sequence[DataClass]:
        return await self._read(lambda sql: reads.classes(sql, run_id))

    async def controls(self) -> Sequence[Control]:
        return await self._read(reads.controls)

    async def agents(self) -> Sequence[AgentLoad]:
        return await self._read(reads.agents)

    async def audit(self, query: AuditQuery) -> Sequence[AuditEntry]:
        return await self._read(lambda sql: reads.audit_entries(sql, query), stale=True)

    async def balances(self, prefix: str = "") -> Sequence[Balance]:
        return await self._read(lambda sql: reads.balances(sql, prefix))

    async def costs(self, query: CostQuery) -> Sequence[CostRow]:
        return await self._read(lambda sql: costs.cost_rows(sql, query), stale=True)

    async def outbox(self, limit: int = 100) -> Sequence[OutboxMessage]:
        return await self._read(lambda sql: outbox.newest(sql, limit), stale=True)


class SqlJournal(SqlReads):
    """The commits of the `Journal` port."""

    _complete_all: Handler
    _admit_all: Handler
    _begin_all: Handler
    _worker: str

    @abstractmethod
    def _now_us(self, sql: Sql) -> int:
        """The time by which leases end."""

    @abstractmethod
    def _submit(self, handler: Handler, operation: Any) -> Future[Any]:
        """Have `handler` do `operation` in the next commit. Raises: RemitError `journal.unavailable`."""

    def admit(self, admission: Admission) -> Future[Admitted | Recorded | Misfit]:
        return self._submit(self._admit_all, admission)

    def complete(self, completion: Completion) -> Future[Settled]:
        return self._submit(self._complete_all, completion)

    def record(self, audit: bytes) -> Future[None]:
        return self._submit(each, lambda sql: append(sql, audit))

    def refuse(self, action_id: str, decision: bytes, audit: bytes) -> Future[None]:
        return self._submit(each, lambda sql: runs.refuse(sql, action_id, decision, audit))

    def resolve(self, completion: Completion) -> Future[bool]:
        return self._submit(each, lambda sql: resolve(sql, completion))

    def create_run(self, start: StartRun) -> Future[bool]:
        return self._submit(each, lambda sql: runs.create(sql, start, self._worker))

    def begin_run(self, run_id: str, max_concurrent_runs: int, at_us: int) -> Future[bool]:
        beginning = runs.Beginning(run_id, max_concurrent_runs, at_us, self._worker)
        return self._submit(self._begin_all, beginning)

    def end_run(self, run_id: str, ending: RunEnding, at_us: int) -> Future[bool]:
        return self._submit(each, lambda sql: runs.end(sql, run_id, ending, at_us, self._worker))

    def cancel_run(self, run_id: str, ending: RunEnding, at_us: int) -> Future[bool]:
        return self._submit(each, lambda sql: runs.end(sql, run_id, ending, at_us))

    def note_queued(self, run_id: str, segment: int, is_queued: bool) -> Future[None]:
        return self._submit(each, lambda sql: waiting.note_queued(sql, run_id, segment, is_queued))

    def interrupt_runs(self, at_us: int) -> Future[tuple[str, ...]]:
        return self._submit(each, lambda sql: leases.interrupt(sql, self._now_us(sql), at_us))

    def hold_lease(self, lease_us: int, *, alone: bool = False) -> Future[bool]:
        return self._submit(
            each, lambda sql: leases.hold_lease(sql, self._worker, self._now_us(sql), lease_us, alone)
        )

    async def held_runs(self) -> Sequence[str]:
        return await self._read(lambda sql: leases.held_runs(sql, self._worker))

    async def workers(self) -> Sequence[str]:
        return await self._read(lambda sql: leases.workers(sql, self._now_us(sql)))

    async def now_us(self) -> int:
        return await self._read(self._now_us)

    def expire_holds(self, at_us: int) -> Future[Settled]:
        return self._submit(each, lambda sql: Settled(alerts=runs.presume(sql, at_us)))

    def register_remit(self, agent: str, digest: str, at_us: int, audit: bytes) -> Future[bool]:
        return self._submit(each, lambda sql: runs.register_remit(sql, (agent, digest, at_us), audit))

    def request_approval(self, approval: Approval, audit: bytes) -> Future[Approval]:
        return self._submit(each, lambda sql: approvals.request(sql, approval, audit))

    def decide_approval(self, vote: Vote, audit: bytes) -> Future[Approval | None]:
        return self._submit(each, lambda sql: approvals.decide(sql, vote, audit))

    def tell_due_approvals(self, at_us: int) -> Future[int]:
        return self._submit(each, lambda sql: approvals.tell_due(sql, at_us))

    def set_control(self, scope: str, paused: bool, reason: str, at_us: int, audit: bytes) -> Future[None]:
        def operation(sql: Sql) -> None:
            runs.set_control(sql, scope, reason if paused else None, at_us)
            append(sql, audit)

        return self._submit(each, operation)

    def subscribe(self, topics: frozenset[str]) -> Future[None]:
        return self._submit(each, lambda sql: outbox.subscribe(sql, topics))

    def claim_messages(self, at_us: int, lease_us: int, limit: int) -> Future[tuple[OutboxMessage, ...]]:
        return self._submit(each, lambda sql: outbox.claim(sql, at_us, lease_us, limit))

    def settle_delivery(self, delivery: Delivery) -> Future[bool]:
        return self._submit(each, lambda sql: outbox.settle(sql, delivery))
