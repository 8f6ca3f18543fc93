"""The real clock, and the system's randomness."""

from __future__ import annotations

import asyncio
import os
import time

# of the clocks that nobody sets, the one that goes on while the machine sleeps: a lease ends then as well
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The `Clock` port on the operating system."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_ns(self) -> int:
        return time.clock_gettime_ns(_STEADY)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def entropy(self, size: int) -> bytes:
        return os.urandom(size)


class SharedClock(SystemClock):
    """The clock that several machines have in common: told the time now and then, it goes on from there by itself.

    Until it is told, it is the system's; from then on nobody who sets that one has any influence.
    """

    def __init__(self) -> None:
        self._ahead_ns: int | None = None

    def now_us(self) -> int:
        if self._ahead_ns is None:
            return super().now_us()
        return (self.monotonic_ns() + self._ahead_ns) // 1000

    def agree(self, now_us: int, asked_ns: int) -> None:
        """It was `now_us` at some moment between `asked_ns` of the steady clock and this one."""
        self._ahead_ns = now_us * 1000 - (asked_ns + self.monotonic_ns()) // 2
