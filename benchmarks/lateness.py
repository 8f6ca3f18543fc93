"""How late the event loop is: what a health endpoint or a stream to a person would feel."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

PERIOD_S = 0.005


class Ticker:
    """Sleeps five milliseconds over and over and notes how much too late it wakes (`late_ms`)."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Ticker:
        self._task = asyncio.get_running_loop().create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if not self.late_ms:
            self.late_ms.append(0.0)

    async def _tick(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(PERIOD_S)
            self.late_ms.append((time.perf_counter() - began - PERIOD_S) * 1e3)
