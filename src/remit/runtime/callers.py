"""Calls of an agent's tools by callers who come and go: who asks is known, what a session is to them is not.

All that a caller asks for within the time of one run is one run, whatever connections it comes by, so that what a run
may do at most is no more for who connects anew. A call that waits for a person is found again by its own words: in
the next run of the caller, and by the next process.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from remit.core import ids
from remit.core.actions import Principal
from remit.core.approvals import Approval
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.outcomes import Outcome
from remit.core.runs import RunEnd
from remit.ports.journal import Journal
from remit.ports.services import Clock
from remit.runtime.direct import DirectCalls, DirectRun, Waiting

RECOVERED_MAX = 1_000
TEND_S = 5.0
_DONE = RunEnd(status="succeeded")
_WAITS = RunEnd(status="suspended", code="approval.required", message="a call waits for a person")


class _Stretch:
    """A run, how many of its calls are under way, and whether it is running."""

    __slots__ = ("active", "is_open", "run")

    def __init__(self, run: DirectRun, *, is_open: bool) -> None:
        self.run = run
        self.active = 0
        self.is_open = is_open


class Callers:
    """Makes the calls of many principals, each within a run of its own. To be closed."""

    def __init__(self, direct: DirectCalls, journal: Journal, clock: Clock, purpose: str) -> None:
        """`purpose` is recorded as the task of each run."""
        self._direct = direct
        self._journal = journal
        self._clock = clock
        self._purpose = purpose
        self._choosing = asyncio.Lock()
        self._current: dict[Principal, _Stretch] = {}
        self._parked: dict[Principal, list[_Stretch]] = {}

    async def recover(self) -> None:
        """Find the calls that wait for a person since an earlier process. Raises: RemitError `journal.unavailable`."""
        now_us, digest = self._clock.now_us(), self._direct.rules.remit.digest
        waiting: dict[str, Waiting] = {}
        for approval in await self._journal.approvals(limit=RECOVERED_MAX):
            of_ours = approval.remit_digest == digest and approval.used_at_us is None
            if of_ours and approval.expires_at_us > now_us:
                calls = waiting.setdefault(approval.run_id, {})
                calls[ids.step_of(approval.action_id)] = await self._digest(approval)
        for run_id, calls in waiting.items():
            record = await self._journal.run(run_id)
            if record is not None and record.status == "suspended":
                stretch = _Stretch(self._direct.known(record.run, calls), is_open=False)
                self._parked.setdefault(record.run.principal, []).append(stretch)

    async def _digest(self, approval: Approval) -> str:
        """That of the call which the caller made: the one that a person decides, or the one within which that is."""
        above = ids.above(approval.action_id)
        if not above:
            return approval.digest
        calls = await self._journal.calls(approval.run_id)
        return next((call.digest for call in calls if call.action_id == above), "")

    async def call(self, principal: Principal, tool: str, args: Json) -> Outcome:
        """What became of the call. Raises: RemitError where no run could be begun for it: nothing was done."""
        async with self._choosing:
            stretch, step = await self._chosen(principal, tool, args)
            stretch.active += 1
        try:
            return await stretch.run.call(tool, args, step=step)
        finally:
            stretch.active -= 1
            if stretch.active == 0 and self._current.get(principal) is not stretch:
                with suppress(RemitError):  # the call has its outcome; the run is found by its row
                    await self._leave(principal, stretch)

    async def tend(self) -> None:
        """End the runs whose time is over, so that their slots are free, until this is cancelled."""
        while True:
            await self._clock.sleep(TEND_S)
            async with self._choosing:
                for principal in [one for one, stretch in self._current.items() if self._is_over(stretch)]:
                    with suppress(RemitError):  # as above
                        await self._retire(principal)

    async def close(self) -> None:
        """End all runs; those in which a call waits for a person wait with it. Raises: RemitError."""
        for principal in list(self._current):
            await self._retire(principal)

    async def _chosen(self, principal: Principal, tool: str, args: Json) -> tuple[_Stretch, int | None]:
        """The run for a call, and its place there where it waited."""
        for parked in tuple(self._parked.get(principal, ())):
            step = parked.run.claim(tool, args)
            if step is not None and (parked.is_open or await self._reopened(principal, parked)):
                return parked, step
        current = self._current.get(principal)
        step = None if current is None else current.run.claim(tool, args)
        if current is not None and (step is not None or not self._is_over(current)):
            return current, step
        if current is not None:
            await self._retire(principal)
        current = _Stretch(await self._direct.begin(principal, self._purpose), is_open=True)
        self._current[principal] = current
        return current, None

    async def _reopened(self, principal: Principal, parked: _Stretch) -> bool:
        try:
            await parked.run.go_on()
        except RemitError as error:
            if error.code not in ("run.not_running", "run.unknown"):
                raise
            self._parked[principal].remove(parked)  # somebody has ended it meanwhile
            return False
        parked.is_open = True
        return True

    def _is_over(self, stretch: _Stretch) -> bool:
        return self._clock.now_us() >= stretch.run.run.deadline_us

    async def _retire(self, principal: Principal) -> None:
        """From now on the caller has another run; this one ends with its last call, and waits for what waits."""
        stretch = self._current.pop(principal)
        self._parked.setdefault(principal, []).append(stretch)
        if stretch.active == 0:
            await self._leave(principal, stretch)

    async def _leave(self, principal: Principal, stretch: _Stretch) -> None:
        stretch.is_open = False
        waits = stretch.run.waits
        if not waits:
            self._parked[principal].remove(stretch)
            if not self._parked[principal]:
                del self._parked[principal]
        await stretch.run.end(_WAITS if waits else _DONE)
