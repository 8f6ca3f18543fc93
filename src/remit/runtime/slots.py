"""The right to run: first come, first served within this process; the journal's count over all processes decides."""

from __future__ import annotations

import asyncio

from remit.core.runs import Run
from remit.ports.journal import Journal
from remit.ports.services import Clock

_POLL_FIRST_S = 0.02
_POLL_MAX_S = 1.0


class Slots:
    """One agent's slots, `limit` over all processes."""

    def __init__(self, journal: Journal, clock: Clock, limit: int) -> None:
        self._journal = journal
        self._clock = clock
        self._limit = limit
        self._here = asyncio.Semaphore(limit)

    async def take(self, run: Run) -> bool:
        """Whether the run is running now, and holds a slot; False where none became free before its deadline.

        Raises: RemitError `run.not_running`, `run.unknown`, `journal.unavailable`.
        """
        try:
            if not self._here.locked():
                await self._here.acquire()  # at once: no timer is needed
            else:
                async with asyncio.timeout(left_s(run, self._clock)):
                    await self._here.acquire()
        except TimeoutError:
            return False
        begun = False
        try:
            begun = await self._begin(run)
        finally:
            if not begun:
                self._here.release()
        return begun

    def release(self) -> None:
        """Give the slot back."""
        self._here.release()

    async def _begin(self, run: Run) -> bool:
        wait_s = _POLL_FIRST_S
        while not await self._journal.begin_run(run.id, self._limit, self._clock.now_us()):
            if left_s(run, self._clock) <= 0:
                return False
            await self._clock.sleep(wait_s)
            wait_s = min(wait_s * 2, _POLL_MAX_S)
        return True


def left_s(run: Run, clock: Clock) -> float:
    """Seconds until the run's deadline, 0 after it."""
    return max((run.deadline_us - clock.now_us()) / 1_000_000, 0.0)
