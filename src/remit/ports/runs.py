"""Runs in the journal: their beginning and their end, who has them, and which of them wait for a worker.

A run belongs to the worker that began it. A worker that was silent for longer than its lease has lost its runs: they
wait for another, and nothing it still wants to do for them is admitted.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from remit.core.actions import Principal
from remit.core.labels import DataClass
from remit.core.messages import Attachment
from remit.core.runs import Run, RunEnd, RunRecord, RunStatus

INTERRUPTIONS_MAX = 5
"""A run whose worker died so often is given up: it may be what kills them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queueing:
    """How a run that no process attends is queued.

    `urgency`: of one tenant's runs the lower is taken first, 0 to 1,000. `max_queued`: refused where the agent has so
    many queued runs of the tenant already; several that come at one moment may exceed it by as many.
    """

    urgency: int
    max_queued: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRun:
    """Create `run` as queued. `audit`: the record run.created. `attachments`: kept, so that the run can go on.

    `queueing`: any worker may take it; without, it is the creating process's own.
    """

    run: Run
    audit: bytes
    attachments: tuple[Attachment, ...] = ()
    queueing: Queueing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnding:
    """How a run ends or why it waits, and the audit record of it."""

    end: RunEnd
    audit: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyRun:
    """A run that waits for nothing but a worker. `segment`: the number of its last one that was put into the queue."""

    run_id: str
    tenant: str
    urgency: int
    segment: int


class RunReads(Protocol):
    """What can be read of runs."""

    async def run(self, run_id: str) -> RunRecord | None: ...
    async def runs(self, *, status: RunStatus | None = None, limit: int = 100) -> Sequence[RunRecord]: ...
    async def last_run(self, agent: str, principal: Principal) -> RunRecord | None:
        """The newest run of an agent that exactly this principal, with its tenant and roles, has asked for."""
        ...

    async def statuses(self, run_ids: Sequence[str]) -> Mapping[str, RunStatus]: ...
    async def attachments(self, run_id: str) -> Sequence[Attachment]: ...
    async def children(self, run_id: str) -> Sequence[RunRecord]:
        """The runs that the calls of a run have started, oldest first."""
        ...

    async def classes(self, run_id: str) -> Sequence[DataClass]:
        """The classes of the data that the tools of a run have returned to it, by their labels."""
        ...

    async def ready_runs(
        self, agent: str, remit_digest: str, at_us: int, *, is_queued: bool | None = None, limit: int = 100
    ) -> Sequence[ReadyRun]:
        """The runs of an agent, under a remit, that may begin or go on; those that have waited longest first.

        A run that another has started is not among them: it goes on with the call that started it.

        `is_queued`: only those that are in the queue already, or only those that are not.
        """
        ...


class RunCommits(Protocol):
    """What is written of runs."""

    def create_run(self, start: StartRun) -> Future[bool]:
        """Create a run; False, and nothing is written, where there is one of this id. Raises: RemitError `queue.full`."""
        ...

    def begin_run(self, run_id: str, max_concurrent_runs: int, at_us: int) -> Future[bool]:
        """Move a queued or suspended run to running, as this worker's; False where the agent has that many running.

        The deadline of a run moves by the time that it waited for a person or for any worker.
        Raises: RemitError `run.unknown`, `run.not_running`.
        """
        ...

    def end_run(self, run_id: str, ending: RunEnding, at_us: int) -> Future[bool]:
        """Move a run of this worker's to `ending.end.status`; False where it is another's, or may not go there.

        Where it ends, the runs that its calls have started and that have not ended are cancelled. A run that waits for
        such runs (`run.waits`) is ready once all of them have ended or are ready.
        """
        ...

    def cancel_run(self, run_id: str, ending: RunEnding, at_us: int) -> Future[bool]:
        """End a run, whoever has it, and all below it; False where it has ended."""
        ...

    def note_queued(self, run_id: str, segment: int, is_queued: bool) -> Future[None]:
        """Note that the segment of a run that waits is in the queue, or that the queue has lost it."""
        ...

    def interrupt_runs(self, at_us: int) -> Future[tuple[str, ...]]:
        """Let the runs of workers without a lease wait for another worker; which these were.

        Money held for their calls is presumed spent. A run that is interrupted for the
        `INTERRUPTIONS_MAX`th time fails.
        """
        ...

    def hold_lease(self, lease_us: int, *, alone: bool = False) -> Future[bool]:
        """Have this worker count as alive for `lease_us` from now; `alone`: and no other.

        Whether it counted as alive until now. False where it is new, or was silent for longer than its lease, so
        that its runs may have been interrupted.
        """
        ...

    async def held_runs(self) -> Sequence[str]:
        """The runs that this worker has begun and that have neither ended nor wait."""
        ...

    async def workers(self) -> Sequence[str]:
        """The workers that hold a lease."""
        ...

    async def now_us(self) -> int:
        """The time that all workers on this journal have in common."""
        ...
