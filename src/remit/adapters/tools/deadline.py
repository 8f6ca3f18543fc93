"""A deadline that blocking work in a thread keeps asking, and that cancellation brings forward to now."""

from __future__ import annotations

import sqlite3
import threading

from remit.ports.effects import EffectFailed
from remit.ports.services import Clock


class Deadline:
    """Shared by the event loop, which may cancel, and one worker thread, which asks.

    Cancelling also interrupts the SQLite connection that the thread has attached.
    """

    __slots__ = ("_cancelled", "_clock", "_connection", "_end_ns", "_lock")

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._end_ns = clock.monotonic_ns() + int(timeout_s * 1e9)
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    @property
    def passed(self) -> bool:
        """Whether the work has to stop."""
        return self._cancelled.is_set() or self._clock.monotonic_ns() >= self._end_ns

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; 0.0 once it has passed."""
        if self._cancelled.is_set():
            return 0.0
        return max(self._end_ns - self._clock.monotonic_ns(), 0) / 1e9

    def check(self) -> None:
        """Return while there is time. Raises: EffectFailed `tool.timeout`."""
        if self.passed:
            raise EffectFailed("tool.timeout", "the tool ran out of time", retryable=True)

    def attach(self, connection: sqlite3.Connection | None) -> None:
        """Name the connection that a cancellation interrupts; None before it is closed."""
        with self._lock:
            self._connection = connection

    def cancel(self) -> None:
        """Bring the deadline forward to now, from any thread."""
        self._cancelled.set()
        with self._lock:
            if self._connection is not None:
                self._connection.interrupt()
