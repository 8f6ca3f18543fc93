"""Lets runs go on that waited for a person, or were handed over, once nothing is left to wait for.

A run that waits is a row in the journal: it holds no memory, no slot and no task. What is ready is asked of the
journal, again and again, so that nothing depends on a message that may be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from remit.core.errors import RemitError
from remit.governance.remit import Remit
from remit.ports.journal import JournalReads
from remit.ports.services import Clock
from remit.runtime.runner import Runner, RunResult

Resumed: TypeAlias = Callable[[RunResult], None]
"""Told of each run that went on, once it has ended or waits again. Returns at once and never raises."""


class Resumer:
    """Resumes the ready runs of one agent under one remit."""

    def __init__(self, runner: Runner, remit: Remit, journal: JournalReads, clock: Clock) -> None:
        self._runner = runner
        self._remit = remit
        self._journal = journal
        self._clock = clock
        self._under_way: set[str] = set()
        self._stopping = False

    def stop(self) -> None:
        """Begin no further run."""
        self._stopping = True

    async def resume_ready(self, told: Resumed) -> int:
        """Resume what is ready now, side by side, to its end; how many runs that were.

        Raises: RemitError `journal.unavailable`.
        """
        count = 0
        while not self._stopping and (ready := await self._ready()):
            count += len(ready)
            await asyncio.gather(*(self._resume(run_id, told) for run_id in ready))
        return count

    async def _ready(self) -> list[str]:
        limit = self._remit.max_concurrent_runs
        ready = await self._journal.ready_runs(
            self._remit.agent, self._remit.digest, self._clock.now_us(), limit=limit
        )
        room = max(limit - len(self._under_way), 0)
        found = [one.run_id for one in ready if one.run_id not in self._under_way][:room]
        self._under_way.update(found)
        return found

    async def _resume(self, run_id: str, told: Resumed) -> None:
        try:
            told(await self._runner.resume(run_id))
        except RemitError as error:
            if error.code not in ("run.not_running", "run.no_slot", "journal.unavailable"):
                raise
            # another process was quicker, or it is ready still and is tried again
        finally:
            self._under_way.discard(run_id)
