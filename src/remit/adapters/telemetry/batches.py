"""A bounded queue in front of one writer thread.

Promise: `put` returns at once, never raises and never waits for the writer. What does not fit, and what
could not be written, is lost and counted. The thread sleeps without a timer while nothing comes; while
something comes it rests for one interval between two writes, or until enough for a batch has gathered.
After a fork the child has no writer thread: it makes its own queue.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """`capacity` items may wait; a write follows the one before after `interval_s` seconds, or `enough` items."""

    capacity: int = 20_000
    enough: int = 256
    interval_s: float = 0.25
    close_timeout_s: float = 10.0


class Batches(Generic[T]):
    """Hands what was put to `write`, in order, as lists, from one thread of its own.

    `lost(count)` is told what was dropped; `notice(text)` is told the first of a row of failed writes.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[list[T]], None],
        *,
        lost: Callable[[int], None],
        notice: Callable[[str], None],
        options: BatchOptions,
    ) -> None:
        self._name = name
        self._write = write
        self._lost = lost
        self._notice = notice
        self._options = options
        self._capacity = options.capacity
        self._items: deque[T] = deque()
        self._flushes: deque[threading.Event] = deque()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._awake = False
        self._failing = False
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"remit-{name}", daemon=True)
        self._thread.start()
        # A daemon thread dies with the interpreter: what still waits is written just before.
        atexit.register(self.close)

    def put(self, item: T) -> None:
        """Queue `item`, or drop and count it where the queue is full or closed."""
        if len(self._items) >= self._capacity or self._closed:
            self._lost(1)
            return
        self._items.append(item)
        # The thread clears the flag before its last look at the queue, so no item is left asleep.
        if not self._awake:
            self._awake = True
            self._wake.set()
        elif len(self._items) == self._options.enough:
            self._hurry.set()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until all that was put before is written or lost; False where that took too long."""
        if self._closed:
            return True
        done = threading.Event()
        self._flushes.append(done)
        self._hurry.set()
        self._wake.set()
        return done.wait(timeout_s)

    def close(self) -> None:
        """Write what waits, then end the thread. May be called twice."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        self._hurry.set()
        self._wake.set()
        self._thread.join(self._options.close_timeout_s)
        if self._items:
            self._lost(len(self._items))
            self._items.clear()

    def _work(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while True:
                self._drain()
                if self._closed and not self._items:
                    self._drain()  # whoever began to wait for a flush meanwhile
                    return
                if self._hurry.wait(self._options.interval_s):
                    self._hurry.clear()
                if not self._items:
                    self._awake = False
                    if not self._items:
                        break
                    self._awake = True

    def _drain(self) -> None:
        # The flushes first: what was put before one of them is then certainly in the batch.
        flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
        batch = [self._items.popleft() for _ in range(len(self._items))]
        if batch:
            self._write_batch(batch)
        for flush in flushes:
            flush.set()

    def _write_batch(self, batch: list[T]) -> None:
        try:
            self._write(batch)
        except Exception as error:  # noqa: BLE001 - whatever a sink does, its thread lives on; it is counted
            self._lost(len(batch))
            if not self._failing:
                self._notice(f"telemetry: {self._name} cannot be written, and is lost: {error}")
            self._failing = True
        else:
            self._failing = False
