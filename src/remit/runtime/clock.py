"""The real clock, and the system's randomness."""

from __future__ import annotations

import asyncio
import os
import time


class SystemClock:
    """The `Clock` port on the operating system."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def entropy(self, size: int) -> bytes:
        return os.urandom(size)
