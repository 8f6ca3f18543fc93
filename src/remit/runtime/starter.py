"""Starts the runs of an agent's schedules: each tick once, over all workers and through their deaths.

No worker knows what another has started, nor what it started itself: the id of a run follows from its tick, so the
journal takes the first and drops the others, and its newest run says which ticks were missed.
"""

from __future__ import annotations

import hashlib

from remit.core import ids
from remit.core.errors import RemitError
from remit.governance.pauses import agent_scopes
from remit.governance.remit import Remit
from remit.governance.schedules import Schedule, due, ticks
from remit.ports.journal import Journal
from remit.ports.services import Clock
from remit.runtime import intake

_NEVER_US = 2**62


def tick_run_id(schedule: Schedule, tenant: str, agent: str, tick_us: int) -> str:
    """The id of the run that a tick starts: whose time is the tick's, and which no other schedule has."""
    name = f"{tenant}/{agent}/{schedule.name}"
    return ids.time_ordered(tick_us, hashlib.sha256(name.encode()).digest())


class Starter:
    """Leaves the runs that are due to the workers of one agent, in the name of a tenant."""

    def __init__(self, journal: Journal, remit: Remit, clock: Clock, tenant: str) -> None:
        self._journal = journal
        self._remit = remit
        self._clock = clock
        self._tenant = tenant
        self._next_us: dict[str, int] = {}

    async def start_due(self) -> None:
        """Start what is due. What cannot be started now is tried with the next call, and keeps no other waiting.

        Raises: RemitError `queue.full`, `journal.unavailable`.
        """
        failure: RemitError | None = None
        for schedule in self._remit.schedules:
            now_us = self._clock.now_us()
            if now_us < self._next_us.get(schedule.name, 0):
                continue
            try:
                if await self._is_paused():
                    continue
                await self._start(schedule, now_us)
            except RemitError as error:
                failure = error
                continue
            self._next_us[schedule.name] = next(ticks(schedule, now_us), _NEVER_US)
        if failure is not None:
            raise failure

    async def _is_paused(self) -> bool:
        """Whether ticks are missed because somebody has paused the agent."""
        paused = {one.scope for one in await self._journal.controls()}
        return not paused.isdisjoint(agent_scopes(self._tenant, self._remit.agent))

    async def _start(self, schedule: Schedule, now_us: int) -> None:
        remit, principal = self._remit, schedule.principal(self._tenant)
        last = await self._journal.last_run(remit.agent, principal)
        last_us = None if last is None else ids.moment_us(last.run.id)
        tick_us = due(schedule, last_us, now_us)
        if tick_us is None:
            return
        run = intake.new_run(remit, schedule.task, principal, self._clock)
        run = intake.known_as(run, tick_run_id(schedule, self._tenant, remit.agent, tick_us))
        await intake.enqueue(self._journal, remit, run, urgency=schedule.urgency)
