"""Sliding rate windows in the journal: never more than the limit, in any span of time, over restarts.

Up to `EXACT_WINDOW_MAX` every event counts at its microsecond. Above that, events count in 60 buckets a
window, and a bucket counts until the last event it can hold has left: it may refuse early, and never late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from remit.adapters.journal.sql import Sql
from remit.ports.journal import Misfit, Window

EXACT_WINDOW_MAX = 1000
BUCKETS = 60

_COUNT = "SELECT coalesce(sum(n), 0), min(at) FROM rate_event WHERE key = ? AND at > ?"
_FORGET = "DELETE FROM rate_event WHERE key = ? AND at <= ?"
_ADD = """
INSERT INTO rate_event (key, at, n) VALUES (?, ?, ?) ON CONFLICT (key, at) DO UPDATE SET n = rate_event.n + excluded.n
"""


@dataclass(slots=True)
class _Counted:
    """How many events of a key are in its window, of them how many new ones, and when the first was."""

    window: Window
    count: int
    added: int
    first_us: int


class Windows:
    """The windows that one transaction touches. Each key is counted once and written once."""

    def __init__(self, connection: Sql, now_us: int) -> None:
        self._connection = connection
        self._now_us = now_us
        self._counted: dict[str, _Counted] = {}

    def misfit(self, windows: Sequence[Window]) -> Misfit | None:
        """Why one of the windows has no room."""
        for window in windows:
            counted = self._counted.get(window.key) or self._count(window)
            if counted.count >= window.limit:
                wait_us = counted.first_us - self._oldest_us(window)
                return Misfit(
                    kind="rate",
                    detail=f"{counted.count} of {window.limit} in the last {window.span_s} s",
                    rule=window.rule,
                    retry_after_s=max(1, -(-wait_us // 1_000_000)),
                )
        return None

    def take(self, windows: Sequence[Window]) -> None:
        """One event more in each of the windows, which `misfit` has found room in."""
        for window in windows:
            counted = self._counted[window.key]
            counted.count += 1
            counted.added += 1

    def write(self) -> None:
        """Forget the events that have left, and write the new ones."""
        for key, counted in self._counted.items():
            if not counted.added:
                continue
            width = width_us(counted.window)
            span_us = counted.window.span_s * 1_000_000
            self._connection.execute(_FORGET, (key, self._now_us - span_us - width))
            self._connection.execute(_ADD, (key, self._now_us // width * width, counted.added))

    def _oldest_us(self, window: Window) -> int:
        return self._now_us - window.span_s * 1_000_000 - (width_us(window) - 1)

    def _count(self, window: Window) -> _Counted:
        count, first = self._connection.execute(_COUNT, (window.key, self._oldest_us(window))).fetchone()
        counted = _Counted(window, count, 0, self._now_us if first is None else first)
        self._counted[window.key] = counted
        return counted


def width_us(window: Window) -> int:
    """How long one bucket of the window is: a microsecond, that is one event, where it is exact."""
    return 1 if window.limit <= EXACT_WINDOW_MAX else window.span_s * 1_000_000 // BUCKETS
