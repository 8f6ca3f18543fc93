"""The `Journal` port in memory: what the port promises, in plain Python, for tests without a disk.

A `MemoryStore` outlives the journals that are opened on it, as a file outlives processes. Windows are
exact at every limit. It passes the same conformance suite as the real journals.
"""

from __future__ import annotations

import asyncio
import json
from asyncio import Future
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from remit.adapters.journal.writer import CommitFuture
from remit.core import audit as records
from remit.core.approvals import Approval
from remit.core.errors import RemitError
from remit.core.messages import Usage
from remit.core.outcomes import OutcomeState
from remit.core.runs import TRANSITIONS, Run, RunEnd, RunRecord, RunStatus
from remit.ports.journal import (
    Admission,
    Admitted,
    Alert,
    AuditEntry,
    AuditQuery,
    Balance,
    CallRecord,
    Completion,
    CostRow,
    Misfit,
    Recorded,
    RunEnding,
    Settled,
    StartRun,
)
from remit.ports.services import Clock


@dataclass(slots=True, kw_only=True)
class StoredCall:
    """One admission, what is still held for it, and its completion once there is one."""

    seq: int
    admission: Admission
    held: int
    completion: Completion | None = None
    cost: int = 0

    @property
    def state(self) -> OutcomeState | None:
        return None if self.completion is None else self.completion.state


@dataclass(slots=True, kw_only=True)
class _StoredRun:
    run: Run
    status: RunStatus = "queued"
    started_at_us: int | None = None
    ended_at_us: int | None = None
    end: RunEnd | None = None


@dataclass(slots=True, kw_only=True)
class MemoryStore:
    """What a journal keeps."""

    audit: list[bytes] = field(default_factory=list)
    calls: dict[str, StoredCall] = field(default_factory=dict)
    balances: dict[str, Balance] = field(default_factory=dict)
    events: dict[str, list[int]] = field(default_factory=dict)
    approvals: dict[str, Approval] = field(default_factory=dict)
    controls: dict[str, str] = field(default_factory=dict)
    remits: dict[str, str] = field(default_factory=dict)
    alerts: set[tuple[str, int]] = field(default_factory=set)
    runs: dict[str, _StoredRun] = field(default_factory=dict)


class MemoryJournal:
    """The `Journal` port on a `MemoryStore`. Belongs to the event loop it is used in."""

    def __init__(self, clock: Clock, store: MemoryStore | None = None) -> None:
        self.store = store if store is not None else MemoryStore()
        self._clock = clock
        self._accepted = 0
        self._closed = False

    # the two commits of an effect

    def admit(self, admission: Admission) -> Future[Admitted | Recorded | Misfit]:
        return self._submit(lambda: self._admit(admission))

    def _admit(self, admission: Admission) -> Admitted | Recorded | Misfit:
        store, now_us = self.store, self._clock.now_us()
        run = store.runs.get(admission.run_id)
        status = None if run is None else run.status
        known = store.calls.get(admission.action_id)
        if known is not None:
            return _known(known, admission, status)
        if status != "running":
            return Misfit(kind="run", detail=f"the run is {status or 'unknown'}, not running")
        for scope in admission.control_scopes:
            if scope in store.controls:
                return Misfit(kind="paused", detail=f"paused, {scope}: {store.controls[scope]}")
        if admission.amount_nano_usd < 0:
            raise RemitError("value.invalid", "an amount to hold is below zero")
        misfit = self._approval_misfit(admission, now_us) or self._room_misfit(admission, now_us)
        if misfit is not None:
            return misfit
        store.audit.append(admission.intent)
        store.calls[admission.action_id] = StoredCall(
            seq=len(store.audit), admission=admission, held=admission.amount_nano_usd
        )
        for hold in admission.holds:
            self._move(hold.scope, held=admission.amount_nano_usd)
        for window in admission.windows:
            store.events.setdefault(window.key, []).append(now_us)
        if admission.approval_id is not None:
            approval = next(one for one in store.approvals.values() if one.id == admission.approval_id)
            store.approvals[approval.action_digest] = replace(approval, used_at_us=now_us)
        return Admitted()

    def _approval_misfit(self, admission: Admission, now_us: int) -> Misfit | None:
        if admission.approval_id is None:
            return None
        found = [one for one in self.store.approvals.values() if one.id == admission.approval_id]
        if not found:
            return Misfit(kind="approval", detail="there is no such approval")
        approval = found[0]
        wrong = {
            "it is for another action": approval.action_digest != admission.action_digest
            or approval.run_id != admission.run_id,
            "it was given under another remit": approval.remit_digest != admission.remit_digest,
            f"it is {approval.verdict}": approval.verdict != "approved",
            "it has been used": approval.used_at_us is not None,
            "it has expired": approval.expires_at_us <= now_us,
        }
        detail = next((reason for reason, holds in wrong.items() if holds), None)
        return None if detail is None else Misfit(kind="approval", detail=detail)

    def _room_misfit(self, admission: Admission, now_us: int) -> Misfit | None:
        for window in admission.windows:
            oldest = now_us - window.span_s * 1_000_000
            live = [at for at in self.store.events.get(window.key, []) if at > oldest]
            if len(live) >= window.limit:
                wait_us = min(live) - oldest if live else window.span_s * 1_000_000
                return Misfit(
                    kind="rate",
                    detail=f"{len(live)} of {window.limit} in the last {window.span_s} s",
                    rule=window.rule,
                    retry_after_s=max(1, -(-wait_us // 1_000_000)),
                )
        for hold in admission.holds:
            balance = self.store.balances.get(hold.scope)
            taken = 0 if balance is None else balance.spent_nano_usd + balance.held_nano_usd
            if taken + admission.amount_nano_usd > hold.cap_nano_usd:
                detail = f"{taken} of {hold.cap_nano_usd} taken ({hold.scope})"
                return Misfit(kind="budget", detail=detail, rule=hold.rule)
        return None

    def complete(self, completion: Completion) -> Future[Settled]:
        return self._submit(lambda: self._complete(completion))

    def _complete(self, completion: Completion) -> Settled:
        store = self.store
        call = store.calls.get(completion.action_id)
        if call is None or call.completion is not None:
            raise RemitError("action.conflict", "the call was never begun, or has its outcome already")
        held, call.held = call.held, 0
        call.completion = completion
        call.cost = held if completion.presumed else completion.cost_nano_usd
        store.audit.append(completion.outcome)
        alerts = []
        if held or completion.cost_nano_usd:
            for hold in call.admission.holds:
                presumed = held if completion.presumed else 0
                spent = self._move(hold.scope, held=-held, spent=call.cost, presumed=presumed)
                percent = hold.alert_percent
                if percent is None or spent * 100 < hold.cap_nano_usd * percent:
                    continue
                if (hold.scope, percent) not in store.alerts:
                    store.alerts.add((hold.scope, percent))
                    alerts.append(
                        Alert(
                            scope=hold.scope,
                            threshold_percent=percent,
                            spent_nano_usd=spent,
                            cap_nano_usd=hold.cap_nano_usd,
                        )
                    )
                    fields: dict[str, str | int | bool | list[str]] = {"scope": hold.scope}
                    store.audit.append(records.record("alert", completion.at_us, fields))
        ended = False
        if completion.ending is not None:
            ended = self._end(call.admission.run_id, completion.ending, completion.at_us)
        return Settled(alerts=tuple(alerts), run_ended=ended)

    def _move(self, scope: str, *, held: int = 0, spent: int = 0, presumed: int = 0) -> int:
        old = self.store.balances.get(scope) or Balance(
            scope=scope, spent_nano_usd=0, held_nano_usd=0, presumed_nano_usd=0
        )
        self.store.balances[scope] = Balance(
            scope=scope,
            spent_nano_usd=old.spent_nano_usd + spent,
            held_nano_usd=old.held_nano_usd + held,
            presumed_nano_usd=old.presumed_nano_usd + presumed,
        )
        return old.spent_nano_usd + spent

    def record(self, audit: bytes) -> Future[None]:
        return self._submit(lambda: self.store.audit.append(audit))

    # runs

    def create_run(self, start: StartRun) -> Future[None]:
        def operation() -> None:
            if start.run.id in self.store.runs:
                raise RemitError("journal.unavailable", "there is a run of this id")
            self.store.runs[start.run.id] = _StoredRun(run=start.run)
            self.store.audit.append(start.audit)

        return self._submit(operation)

    def begin_run(self, run_id: str, max_concurrent_runs: int, at_us: int) -> Future[bool]:
        def operation() -> bool:
            stored = self.store.runs.get(run_id)
            if stored is None:
                raise RemitError("run.unknown", f"there is no run {run_id}")
            if "running" not in TRANSITIONS[stored.status]:
                raise RemitError("run.not_running", f"the run is {stored.status}")
            of_agent = (stored.run.tenant, stored.run.agent)
            others = [one for one in self.store.runs.values() if (one.run.tenant, one.run.agent) == of_agent]
            if sum(one.status == "running" for one in others) >= max_concurrent_runs:
                return False
            stored.status = "running"
            stored.started_at_us = at_us if stored.started_at_us is None else stored.started_at_us
            return True

        return self._submit(operation)

    def end_run(self, run_id: str, ending: RunEnding, at_us: int) -> Future[bool]:
        return self._submit(lambda: self._end(run_id, ending, at_us))

    def _end(self, run_id: str, ending: RunEnding, at_us: int) -> bool:
        stored = self.store.runs.get(run_id)
        if stored is None or ending.end.status not in TRANSITIONS[stored.status]:
            return False
        stored.status = ending.end.status
        stored.end = ending.end
        stored.ended_at_us = None if ending.end.status == "suspended" else at_us
        self.store.audit.append(ending.audit)
        return True

    def interrupt_runs(self, at_us: int) -> Future[tuple[str, ...]]:
        def operation() -> tuple[str, ...]:
            for call in self.store.calls.values():
                if call.completion is None and call.held:
                    for hold in call.admission.holds:
                        self._move(hold.scope, held=-call.held, spent=call.held, presumed=call.held)
                    call.held = 0
            running = [one.run for one in self.store.runs.values() if one.status == "running"]
            for run in running:
                end = RunEnd(status="failed", code="run.interrupted", message="the process that ran it ended")
                fields: dict[str, str | int | bool | list[str]] = {"run": run.id, "code": end.code}
                ending = RunEnding(end=end, audit=records.record("run.ended", at_us, fields))
                self._end(run.id, ending, at_us)
            return tuple(run.id for run in running)

        return self._submit(operation)

    # remits, approvals and controls

    def register_remit(self, agent: str, digest: str, at_us: int, audit: bytes) -> Future[bool]:
        def operation() -> bool:
            if self.store.remits.get(agent) == digest:
                return False
            self.store.remits[agent] = digest
            self.store.audit.append(audit)
            return True

        return self._submit(operation)

    def request_approval(self, approval: Approval, audit: bytes) -> Future[Approval]:
        def operation() -> Approval:
            if approval.action_digest not in self.store.approvals:
                self.store.approvals[approval.action_digest] = approval
                self.store.audit.append(audit)
            return self.store.approvals[approval.action_digest]

        return self._submit(operation)

    def decide_approval(self, approval: Approval, audit: bytes) -> Future[bool]:
        def operation() -> bool:
            standing = next((one for one in self.store.approvals.values() if one.id == approval.id), None)
            if standing is None or standing.verdict != "pending":
                return False
            self.store.approvals[standing.action_digest] = replace(
                standing,
                verdict=approval.verdict,
                decided_by=approval.decided_by,
                decided_at_us=approval.decided_at_us,
                reason=approval.reason,
            )
            self.store.audit.append(audit)
            return True

        return self._submit(operation)

    def set_control(self, scope: str, paused: bool, reason: str, at_us: int, audit: bytes) -> Future[None]:
        def operation() -> None:
            if paused:
                self.store.controls[scope] = reason
            else:
                self.store.controls.pop(scope, None)
            self.store.audit.append(audit)

        return self._submit(operation)

    async def close(self) -> None:
        self._closed = True
        while self._accepted:  # noqa: ASYNC110  a commit takes one turn of the loop
            await asyncio.sleep(0)

    # reads

    async def run(self, run_id: str) -> RunRecord | None:
        stored = self.store.runs.get(run_id)
        return None if stored is None else self._run_record(stored)

    async def runs(self, *, status: RunStatus | None = None, limit: int = 100) -> Sequence[RunRecord]:
        newest = reversed(self.store.runs.values())
        found = [self._run_record(one) for one in newest if status in (None, one.status)]
        return found[:limit]

    async def calls(self, run_id: str) -> Sequence[CallRecord]:
        return [_call_record(call) for call in self._calls_of(run_id)]

    async def approval_for(self, action_digest: str) -> Approval | None:
        return self.store.approvals.get(action_digest)

    async def audit(self, query: AuditQuery) -> Sequence[AuditEntry]:
        is_open = {call.seq for call in self.store.calls.values() if call.completion is None}
        since = "" if query.since_us is None else records.timestamp(query.since_us)
        found = []
        for seq, body in enumerate(self.store.audit, start=1):
            fields = orjson.loads(body)
            if (
                query.run_id in (None, fields.get("run"))
                and query.kind in (None, fields["kind"])
                and fields["at"] >= since
                and (not query.open_only or seq in is_open)
            ):
                found.append(AuditEntry(seq=seq, body=body))
        return found[-query.limit :] if query.limit else []

    async def balances(self, prefix: str = "") -> Sequence[Balance]:
        return [self.store.balances[name] for name in sorted(self.store.balances) if name.startswith(prefix)]

    async def costs(self, since_us: int = 0) -> Sequence[CostRow]:
        rows: dict[tuple[str, str, str], CostRow] = {}
        for call in self.store.calls.values():
            admission, completion = call.admission, call.completion
            if completion is None or admission.kind != "model" or admission.at_us < since_us:
                continue
            day = datetime.fromtimestamp(admission.at_us // 1_000_000, UTC).strftime("%Y-%m-%d")
            key = (day, self.store.runs[admission.run_id].run.agent, admission.resource)
            row = rows.get(key) or CostRow(
                day=key[0],
                agent=key[1],
                model=key[2],
                calls=0,
                usage=Usage(),
                cost_nano_usd=0,
                wasted_nano_usd=0,
            )
            rows[key] = replace(
                row,
                calls=row.calls + 1,
                usage=row.usage + completion.usage,
                cost_nano_usd=row.cost_nano_usd + call.cost,
                wasted_nano_usd=row.wasted_nano_usd + (0 if completion.state == "done" else call.cost),
            )
        return [rows[key] for key in sorted(rows)]

    def _calls_of(self, run_id: str) -> list[StoredCall]:
        return [call for call in self.store.calls.values() if call.admission.run_id == run_id]

    def _run_record(self, stored: _StoredRun) -> RunRecord:
        calls = self._calls_of(stored.run.id)
        ended = [(call, call.completion) for call in calls if call.completion is not None]
        last_model = max((call.seq for call in calls if call.admission.kind == "model"), default=0)
        usage = Usage()
        for _, completion in ended:
            usage += completion.usage
        return RunRecord(
            run=stored.run,
            status=stored.status,
            started_at_us=stored.started_at_us,
            ended_at_us=stored.ended_at_us,
            end=stored.end,
            steps=sum(call.admission.kind == "model" for call, _ in ended),
            usage=usage,
            cost_nano_usd=sum(call.cost for call, _ in ended),
            exposed_by=tuple(
                call.admission.action_id
                for call, completion in ended
                if completion.exposes and call.seq < last_model
            ),
        )

    def _submit(self, operation: Callable[[], Any]) -> Future[Any]:
        if self._closed:
            raise RemitError("journal.unavailable", "the journal is closed")
        loop = asyncio.get_running_loop()
        future = CommitFuture(loop=loop)
        self._accepted += 1
        loop.call_soon(self._commit, operation, future)
        return future

    def _commit(self, operation: Callable[[], Any], future: Future[Any]) -> None:
        self._accepted -= 1
        try:
            future.set_result(operation())
        except RemitError as error:
            future.set_exception(error)


def _known(call: StoredCall, admission: Admission, status: RunStatus | None) -> Recorded | Misfit:
    if call.admission.action_digest != admission.action_digest:
        return Misfit(kind="conflict", detail="another action has this id")
    completion = call.completion
    if completion is None:
        if status == "running":
            return Misfit(kind="in_flight", detail="this action was begun and has no outcome yet")
        reason = json.dumps({"reason": "it was begun, and its run ended before its outcome was known"})
        return Recorded(state="unknown", result=reason.encode(), usage=Usage(), cost_nano_usd=0)
    return Recorded(
        state=completion.state, result=completion.result, usage=completion.usage, cost_nano_usd=call.cost
    )


def _call_record(call: StoredCall) -> CallRecord:
    admission, completion = call.admission, call.completion
    return CallRecord(
        action_id=admission.action_id,
        run_id=admission.run_id,
        kind=admission.kind,
        resource=admission.resource,
        digest=admission.action_digest,
        started_at_us=admission.at_us,
        ended_at_us=None if completion is None else completion.at_us,
        state="started" if completion is None else completion.state,
        usage=Usage() if completion is None else completion.usage,
        cost_nano_usd=call.cost,
        held_nano_usd=call.held,
    )
