"""A deadline that blocking work in a thread keeps asking, and that cancellation brings forward to now."""

from __future__ import annotations

import threading
from collections.abc import Callable

from remit.ports.effects import EffectFailed
from remit.ports.services import Clock


class Deadline:
    """Shared by the event loop, which may cancel, and one worker thread, which asks.

    Cancelling also interrupts what the thread is waiting for, if it has said how.
    """

    __slots__ = ("_cancelled", "_clock", "_end_ns", "_interrupt", "_lock")

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._end_ns = clock.monotonic_ns() + int(timeout_s * 1e9)
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._interrupt: Callable[[], None] | None = None

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

    def attach(self, interrupt: Callable[[], None] | None) -> None:
        """Say how a cancellation interrupts the work, at once and from any thread; None once there is nothing to interrupt."""
        with self._lock:
            self._interrupt = interrupt

    def cancel(self) -> None:
        """Bring the deadline forward to now, from any thread."""
        self._cancelled.set()
        with self._lock:
            if self._interrupt is not None:
                self._interrupt()
