"""Runs of the journal in memory: who has them, and which of them wait for a worker."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from dataclasses import replace

from remit.core import audit as records
from remit.core.errors import RemitError
from remit.core.messages import Usage
from remit.core.runs import TRANSITIONS, Run, RunEnd, RunStatus
from remit.ports.journal import Admission, Completion, Settled
from remit.ports.runs import INTERRUPTIONS_MAX, RunEnding, StartRun
from remit.ports.services import Clock
from remit.testing.memory_approvals import MemoryApprovals
from remit.testing.memory_store import StoredRun


class MemoryRuns(MemoryApprovals):
    """The part of `MemoryJournal` that is about runs and workers."""

    _clock: Clock
    _worker: str

    def _presume(self, is_lost: Callable[[Admission], bool], at_us: int) -> Settled:
        raise NotImplementedError

    def create_run(self, start: StartRun) -> Future[bool]:
        def operation() -> bool:
            run, queueing = start.run, start.queueing
            if run.id in self.store.runs:
                return False
            stored = StoredRun(run=run, worker=self._worker, attachments=start.attachments)
            if queueing is not None:
                queued = sum(one.status == "queued" for one in self._runs_of(run))
                if queued >= queueing.max_queued:
                    raise RemitError("queue.full", f"{queued} runs of {run.agent} are queued already")
                stored.worker, stored.urgency = "", queueing.urgency
                stored.suspended_at_us = stored.ready_at_us = run.created_at_us
            self.store.runs[run.id] = stored
            self.store.audit.append(start.audit)
            return True

        return self._submit(operation)

    def _runs_of(self, run: Run) -> list[StoredRun]:
        of_agent = (run.tenant, run.agent)
        return [one for one in self.store.runs.values() if (one.run.tenant, one.run.agent) == of_agent]

    def begin_run(self, run_id: str, max_concurrent_runs: int, at_us: int) -> Future[bool]:
        def operation() -> bool:
            stored = self.store.runs.get(run_id)
            if stored is None:
                raise RemitError("run.unknown", f"there is no run {run_id}")
            if "running" not in TRANSITIONS[stored.status]:
                raise RemitError("run.not_running", f"the run is {stored.status}")
            running = sum(one.status == "running" for one in self._runs_of(stored.run))
            if running >= max_concurrent_runs:
                return False
            if stored.status == "suspended" or stored.worker != self._worker:
                fields: records.Fields = {"run": run_id, "worker": self._worker}
                self.store.audit.append(records.record("run.taken", at_us, fields))
            stored.status, stored.worker = "running", self._worker
            if stored.suspended_at_us is not None:
                waited_us = at_us - stored.suspended_at_us
                stored.run = replace(stored.run, deadline_us=stored.run.deadline_us + waited_us)
            stored.suspended_at_us = stored.ready_at_us = None
            stored.is_queued = False
            stored.segment += 1
            stored.started_at_us = at_us if stored.started_at_us is None else stored.started_at_us
            return True

        return self._submit(operation)

    def end_run(self, run_id: str, ending: RunEnding, at_us: int) -> Future[bool]:
        return self._submit(lambda: self._end(run_id, ending, at_us, self._worker))

    def cancel_run(self, run_id: str, ending: RunEnding, at_us: int) -> Future[bool]:
        return self._submit(lambda: self._end(run_id, ending, at_us))

    def _end(self, run_id: str, ending: RunEnding, at_us: int, worker: str | None = None) -> bool:
        stored = self.store.runs.get(run_id)
        if stored is None:
            return False
        is_lost = worker is not None and (worker != stored.worker or stored.status == "suspended")
        if ending.end.status not in TRANSITIONS[stored.status] or is_lost:
            self._set_ready(run_id, at_us)
            return False
        stored.status = ending.end.status
        stored.end = ending.end
        waits = ending.end.status == "suspended"
        stored.ended_at_us, stored.suspended_at_us = (None, at_us) if waits else (at_us, None)
        stored.ready_at_us = None
        self.store.audit.append(ending.audit)
        if waits:
            self._set_ready(run_id, at_us)
            return True
        for below in self._below(run_id):
            end = RunEnd(status="cancelled", code="run.cancelled", message="the run that asked ended")
            fields: records.Fields = {"run": below.run.id, "code": end.code}
            cancelled = RunEnding(end=end, audit=records.record("run.ended", at_us, fields))
            self._end(below.run.id, cancelled, at_us)
        for call in self._calls_of(run_id):
            if call.completion is None and self._is_answered(call):
                call.completion = Completion(
                    action_id=call.admission.action_id,
                    state="cancelled",
                    result=b"",
                    usage=Usage(),
                    cost_nano_usd=0,
                    at_us=at_us,
                    outcome=records.record("outcome", at_us, {"run": run_id, "outcome": "cancelled"}),
                )
                self.store.audit.append(call.completion.outcome)
        self._set_caller_ready(stored.run, at_us)
        return True

    def note_queued(self, run_id: str, segment: int, is_queued: bool) -> Future[None]:
        def operation() -> None:
            stored = self.store.runs[run_id]
            if stored.ready_at_us is not None and stored.segment < (segment if is_queued else segment + 1):
                stored.segment, stored.is_queued = segment, is_queued

        return self._submit(operation)

    def interrupt_runs(self, at_us: int) -> Future[tuple[str, ...]]:
        def operation() -> tuple[str, ...]:
            live, runs = self._live(), self.store.runs
            self._presume(lambda one: runs[one.run_id].worker not in live, at_us)
            lost = [one for one in runs.values() if one.worker not in live]
            left = [one for one in lost if one.status == "running" or (one.status == "queued" and one.worker)]
            for stored in left:
                self._interrupt(stored, at_us)
            return tuple(stored.run.id for stored in left)

        return self._submit(operation)

    def _interrupt(self, stored: StoredRun, at_us: int) -> None:
        if stored.status == "queued":
            stored.worker = ""
            stored.suspended_at_us = stored.ready_at_us = at_us
            return
        stored.interruptions += 1
        status: RunStatus = "failed" if stored.interruptions >= INTERRUPTIONS_MAX else "suspended"
        end = RunEnd(status=status, code="run.interrupted", message="the process that ran it is gone")
        fields: records.Fields = {"run": stored.run.id, "code": end.code, "worker": stored.worker}
        ending = RunEnding(end=end, audit=records.record("run.ended", at_us, fields))
        self._end(stored.run.id, ending, at_us)
        if stored.ready_at_us is not None and stored.interruptions > 1:
            stored.ready_at_us += 1_000_000 << (stored.interruptions - 2)

    def _live(self) -> list[str]:
        now_us = self._clock.now_us()
        return sorted(name for name, until_us in self.store.leases.items() if until_us > now_us)

    async def held_runs(self) -> Sequence[str]:
        runs = self.store.runs.values()
        return [one.run.id for one in runs if one.status == "running" and one.worker == self._worker]

    async def workers(self) -> Sequence[str]:
        return self._live()

    async def now_us(self) -> int:
        return self._clock.now_us()

    def hold_lease(self, lease_us: int, *, alone: bool = False) -> Future[bool]:
        def operation() -> bool:
            now_us = self._clock.now_us()
            until_us = self.store.leases.get(self._worker)
            if alone:
                self.store.leases = dict.fromkeys(self.store.leases, 0)
            self.store.leases[self._worker] = now_us + lease_us
            return until_us is not None and until_us > now_us

        return self._submit(operation)
