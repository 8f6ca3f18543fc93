"""The `Dispatcher` port in memory, for tests: several workers of one process share a `MemoryQueue`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from remit.core.errors import RemitError
from remit.ports.dispatch import Segment, SegmentHandler
from remit.ports.services import Clock


@dataclass(slots=True)
class _Entry:
    segment: Segment
    order: int
    due_us: int
    worker: str | None = None
    ended_us: int | None = None


@dataclass(slots=True)
class MemoryQueue:
    """What all dispatchers on it share."""

    entries: dict[tuple[str, int], _Entry] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    turn: int = 0

    def take(self, worker: str, now_us: int) -> _Entry | None:
        """The next segment that is due, for `worker`: the tenants by turns, of each its most urgent and oldest."""
        due = [
            entry
            for entry in self.entries.values()
            if entry.worker is None and entry.ended_us is None and entry.due_us <= now_us
        ]
        if not due:
            return None
        tenants = sorted({entry.segment.tenant for entry in due})
        tenant = tenants[self.turn % len(tenants)]
        self.turn += 1
        entry = min(
            (entry for entry in due if entry.segment.tenant == tenant),
            key=lambda entry: (entry.segment.urgency, entry.segment.number == 1, entry.order),
        )
        entry.worker = worker
        return entry


class MemoryDispatcher:
    """One worker's part of a `MemoryQueue`."""

    def __init__(self, queue: MemoryQueue, worker: str, clock: Clock) -> None:
        self._queue = queue
        self._worker = worker
        self._clock = clock
        self._closing = False
        self._taking: asyncio.Task[None] | None = None
        self._working: set[asyncio.Task[None]] = set()

    async def enqueue(self, segment: Segment, *, delay_s: float = 0.0) -> None:
        """Have `segment` handled by some worker, `delay_s` from now at the soonest."""
        if self._closing:
            raise RemitError("dispatch.unavailable", "the dispatcher is closed")
        due_us = self._clock.now_us() + int(delay_s * 1_000_000)
        entries = self._queue.entries
        entries.setdefault(
            (segment.run_id, segment.number), _Entry(segment=segment, order=len(entries), due_us=due_us)
        )
        self._queue.changed.set()

    async def start(self, handler: SegmentHandler, *, slots: int) -> None:
        """Take segments from now on, at most `slots` at a time, and have `handler` work them off."""
        self._taking = asyncio.create_task(self._take(handler, slots))

    async def take_over(self, live: Collection[str]) -> int:
        """Give back to the queue what workers had that are not among `live`."""
        lost = [
            entry
            for entry in self._queue.entries.values()
            if entry.ended_us is None and entry.worker is not None and entry.worker not in live
        ]
        for entry in lost:
            entry.worker = None
        self._queue.changed.set()
        return len(lost)

    async def waiting(self) -> Mapping[str, int]:
        """How many segments wait, by tenant."""
        entries = self._queue.entries.values()
        return Counter(
            entry.segment.tenant for entry in entries if entry.worker is None and entry.ended_us is None
        )

    async def forget(self, older_than_s: float) -> int:
        """Remove the traces of segments that ended so long ago."""
        before = self._clock.now_us() - int(older_than_s * 1_000_000)
        entries = self._queue.entries
        old = [key for key, one in entries.items() if one.ended_us is not None and one.ended_us <= before]
        for key in old:
            del entries[key]
        return len(old)

    async def close(self, grace_s: float) -> None:
        """Take nothing any more; after `grace_s` cancel what is still worked on, which is left to others."""
        self._closing = True
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.wait({self._taking})
        if self._working:
            _, late = await asyncio.wait(self._working, timeout=grace_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _take(self, handler: SegmentHandler, slots: int) -> None:
        while True:
            self._queue.changed.clear()
            while len(self._working) < slots:
                entry = self._queue.take(self._worker, self._clock.now_us())
                if entry is None:
                    break
                task = asyncio.create_task(self._work(handler, entry))
                self._working.add(task)
                task.add_done_callback(self._done)
            try:
                async with asyncio.timeout(0.01):
                    await self._queue.changed.wait()
            except TimeoutError:
                continue  # a delayed segment may be due by now

    async def _work(self, handler: SegmentHandler, entry: _Entry) -> None:
        try:
            await handler(entry.segment)
        finally:
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                entry.ended_us = self._clock.now_us()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            task.exception()  # the segment has ended all the same
        self._queue.changed.set()
