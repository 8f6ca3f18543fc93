"""Takes runs from the queue and brings each to its end or its next pause; what waits in the journal gets into the queue.

The journal says what waits, the queue which worker takes it. All of it looks at states, again and again, and waits for
no event: a message that is lost, or a worker that dies, costs time and no run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from remit.core.errors import RemitError
from remit.governance.remit import Remit
from remit.ports.dispatch import Dispatcher, Segment
from remit.ports.journal import Journal
from remit.ports.runs import ReadyRun
from remit.ports.services import Clock
from remit.runtime.runner import Runner, RunResult
from remit.runtime.starter import Starter

FEED_S = 0.1
"""So often the journal is asked for runs that are not in the queue."""

START_S = 1.0
"""So often the schedules are looked at."""

TAKE_OVER_S = 5.0
RETRY_S = 0.5
SLOT_S = 1.0
"""So long a run waits for a slot here: then it is another tenant's turn in its place."""

FORGET_S = 3_600.0
FORGET_AFTER_S = 7 * 86_400.0
_AT_ONCE = 100
_QUEUED_MAX = 1_000_000

Told: TypeAlias = Callable[[RunResult], None]
"""Told of each run that ended or waits again. Returns at once and never raises."""

Notice: TypeAlias = Callable[[str], None]

_NOT_OURS = frozenset({"run.not_running", "run.unknown", "run.no_slot"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerParts:
    """What a worker works with. `name`: under which it holds its lease."""

    name: str
    runner: Runner
    remit: Remit
    journal: Journal
    dispatcher: Dispatcher
    clock: Clock
    told: Told
    notice: Notice
    starter: Starter | None = None


class Worker:
    """Works for one agent under one remit."""

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin no further run."""
        self._stopping.set()

    async def work(self, grace_s: float) -> None:
        """Take runs until `stop`; then wait up to `grace_s` for those under way, and leave the rest to others.

        Raises: RemitError `dispatch.unavailable` where it cannot begin; what fails later is noticed and tried again.
        """
        parts = self._parts
        await self._put_back()
        await parts.dispatcher.start(self._handle, slots=parts.remit.max_concurrent_runs)
        tending = [
            asyncio.create_task(self._repeat(self._feed, FEED_S)),
            asyncio.create_task(self._repeat(self._take_over, TAKE_OVER_S)),
            asyncio.create_task(self._repeat(self._forget, FORGET_S)),
        ]
        if parts.starter is not None and parts.remit.schedules:
            tending.append(asyncio.create_task(self._repeat(parts.starter.start_due, START_S)))
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            # a task that ends before its time has broken, and is heard of
            await asyncio.wait({stopped, *tending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            for task in tending:
                task.cancel()
            ended = await asyncio.gather(*tending, return_exceptions=True)
            await parts.dispatcher.close(grace_s)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _put_back(self) -> None:
        """What the journal believes to be in the queue is put there once more: the queue may be a new one."""
        for one in await self._ready(is_queued=True, limit=_QUEUED_MAX):
            await self._parts.dispatcher.enqueue(_segment(one, one.segment, self._parts.remit.agent))

    async def _feed(self) -> None:
        parts = self._parts
        while ready := await self._ready(is_queued=False, limit=_AT_ONCE):
            for one in ready:
                # first into the queue, where a second one with this number is the first
                await parts.dispatcher.enqueue(_segment(one, one.segment + 1, parts.remit.agent))
                await parts.journal.note_queued(one.run_id, one.segment + 1, True)

    async def _ready(self, *, is_queued: bool, limit: int) -> list[ReadyRun]:
        parts = self._parts
        remit, now_us = parts.remit, parts.clock.now_us()
        return list(
            await parts.journal.ready_runs(
                remit.agent, remit.digest, now_us, is_queued=is_queued, limit=limit
            )
        )

    async def _take_over(self) -> None:
        parts = self._parts
        await parts.dispatcher.take_over({parts.name, *await parts.journal.workers()})

    async def _forget(self) -> None:
        await self._parts.dispatcher.forget(FORGET_AFTER_S)

    async def _repeat(self, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        troubled = False
        while True:
            try:
                await work()
            except RemitError as error:
                if not error.kind.retryable:
                    raise
                if not troubled:
                    self._parts.notice(f"{error}; it is tried again")
                troubled = True
            else:
                troubled = False
            await self._parts.clock.sleep(every_s)

    async def _handle(self, segment: Segment) -> None:
        """Work a segment off: it ends once its run has ended, waits, is another's, or is back in the journal's hands."""
        parts = self._parts
        while not self._stopping.is_set():
            if (idle_s := parts.runner.idle_s()) > 0:
                # a provider's outage must not burn up the queue, nor a worker that was cut off
                await parts.clock.sleep(min(idle_s, RETRY_S))
                continue
            try:
                parts.told(await parts.runner.resume(segment.run_id, patience_s=SLOT_S))
                return
            except RemitError as error:
                if error.code in _NOT_OURS:
                    break  # if it waits all the same, this process was just letting go of it
                if not error.kind.retryable:
                    parts.notice(f"run {segment.run_id}: {error}")
                    break
            except Exception as error:  # the edge of the worker: the run has failed with it, and others go on
                parts.notice(f"run {segment.run_id} broke with {type(error).__name__}")
                break
            await parts.clock.sleep(RETRY_S)
        await self._give_back(segment)

    async def _give_back(self, segment: Segment) -> None:
        """Where the run still waits, the next round puts it into the queue again. Until that is noted, the segment goes on."""
        while True:
            try:
                await self._parts.journal.note_queued(segment.run_id, segment.number, False)
                return
            except RemitError as error:
                if not error.kind.retryable:
                    raise
            await self._parts.clock.sleep(RETRY_S)


def _segment(one: ReadyRun, number: int, agent: str) -> Segment:
    return Segment(run_id=one.run_id, number=number, tenant=one.tenant, agent=agent, urgency=one.urgency)
