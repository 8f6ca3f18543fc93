"""Ends runs from outside: those that somebody has ended in the journal, and those that are to be handed over.

A run that is ended so ends at once, its tool too, and what was under way is on record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from remit.governance.deadlines import Deadline
from remit.ports.journal import Journal
from remit.ports.services import Clock

POLL_S = 0.2
"""So long a run may go on after somebody in another process has cancelled it."""


class Stops:
    """The runs of one process that can be ended from outside."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._stops: dict[str, Deadline] = {}
        self._due: set[Deadline] = set()
        self._lost: set[str] = set()
        self._is_handing_over = False

    @contextmanager
    def of(self, run_id: str) -> Iterator[Deadline]:
        """A block of the run's: TimeoutError comes out of it where the run is to end, and `expired` is True."""
        stop = self._stops[run_id] = Deadline(self._due)
        try:
            with stop:
                if self._is_handing_over:  # it was between two blocks when the others were ended
                    asyncio.get_running_loop().call_soon(self._end, stop)
                yield stop
        finally:
            del self._stops[run_id]

    def hand_over(self) -> None:
        """End all runs where they are, and each that begins, so that they can go on in another process."""
        self._is_handing_over = True
        self.lose_all()

    def lose_all(self) -> None:
        """End all runs where they are: they may be another process's by now."""
        for run_id, stop in tuple(self._stops.items()):
            self._lost.add(run_id)
            self._end(stop)

    def hands_over(self, run_id: str) -> bool:
        """Whether the run is ended so that it can go on elsewhere."""
        return self._is_handing_over or run_id in self._lost

    def forget(self, run_id: str) -> None:
        """The run has left this process; it may come back."""
        self._lost.discard(run_id)

    async def poll(self) -> None:
        """End the runs that are no longer running, by the journal. Raises: RemitError `journal.unavailable`."""
        if not self._stops:
            return
        statuses = await self._journal.statuses(tuple(self._stops))
        for run_id, stop in tuple(self._stops.items()):
            if statuses.get(run_id) == "cancelled":
                self._end(stop)

    def _end(self, stop: Deadline) -> None:
        if stop in self._due and not stop.expired:
            stop.expire()
