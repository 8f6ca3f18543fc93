"""What the journal in memory keeps, and its reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson

from remit.core import audit as records
from remit.core import days, ids
from remit.core.actions import Principal
from remit.core.approvals import Approval
from remit.core.controls import AgentLoad, Control
from remit.core.labels import DATA_CLASSES, DataClass
from remit.core.messages import Attachment, Usage
from remit.core.outbox import OutboxMessage
from remit.core.outcomes import OutcomeState
from remit.core.runs import WITHOUT_ANSWER, Run, RunEnd, RunRecord, RunStatus
from remit.ports.journal import (
    Admission,
    AuditEntry,
    AuditQuery,
    Balance,
    CallRecord,
    Completion,
    CostDimension,
    CostQuery,
    CostRow,
)
from remit.ports.runs import ReadyRun

NO_COSTS = CostRow(
    group=(),
    calls=0,
    usage=Usage(),
    cost_nano_usd=0,
    saved_nano_usd=0,
    wasted_nano_usd=0,
    presumed_nano_usd=0,
    held_nano_usd=0,
    repeats=0,
    repeated_nano_usd=0,
    assumed_calls=0,
)


@dataclass(slots=True, kw_only=True)
class StoredCall:
    """One admission, what is still held for it, and its completion once there is one."""

    seq: int
    admission: Admission
    held: int
    presumed: int = 0
    completion: Completion | None = None
    cost: int = 0

    @property
    def state(self) -> OutcomeState | None:
        return None if self.completion is None else self.completion.state


@dataclass(slots=True, kw_only=True)
class StoredRun:
    run: Run
    worker: str = ""
    status: RunStatus = "queued"
    started_at_us: int | None = None
    ended_at_us: int | None = None
    end: RunEnd | None = None
    suspended_at_us: int | None = None
    ready_at_us: int | None = None
    urgency: int = 500
    segment: int = 0
    is_queued: bool = False
    interruptions: int = 0
    attachments: tuple[Attachment, ...] = ()


@dataclass(slots=True, kw_only=True)
class MemoryStore:
    """What a journal keeps."""

    audit: list[bytes] = field(default_factory=list)
    calls: dict[str, StoredCall] = field(default_factory=dict)
    balances: dict[str, Balance] = field(default_factory=dict)
    events: dict[str, list[int]] = field(default_factory=dict)
    approvals: dict[str, Approval] = field(default_factory=dict)
    controls: dict[str, Control] = field(default_factory=dict)
    refusals: dict[str, bytes] = field(default_factory=dict)
    remits: dict[str, str] = field(default_factory=dict)
    alerts: set[tuple[str, int]] = field(default_factory=set)
    runs: dict[str, StoredRun] = field(default_factory=dict)
    leases: dict[str, int] = field(default_factory=dict)
    topics: frozenset[str] = frozenset()
    outbox: dict[str, OutboxMessage] = field(default_factory=dict)


class MemoryReads:
    """The reads of the `Journal` port on a `MemoryStore`."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    async def run(self, run_id: str) -> RunRecord | None:
        stored = self.store.runs.get(run_id)
        return None if stored is None else self._run_record(stored)

    async def runs(self, *, status: RunStatus | None = None, limit: int = 100) -> Sequence[RunRecord]:
        newest = reversed(self.store.runs.values())
        found = [self._run_record(one) for one in newest if status in (None, one.status)]
        return found[:limit]

    async def last_run(self, agent: str, principal: Principal) -> RunRecord | None:
        newest = reversed(self.store.runs.values())
        found = (one for one in newest if (one.run.agent, one.run.principal) == (agent, principal))
        return next((self._run_record(one) for one in found), None)

    async def calls(self, run_id: str) -> Sequence[CallRecord]:
        return [_call_record(call) for call in self._calls_of(run_id)]

    async def unresolved(self, limit: int = 100) -> Sequence[CallRecord]:
        found = [
            _call_record(call)
            for call in reversed(self.store.calls.values())
            if call.admission.kind == "tool"
            and call.state in (None, "unknown")
            and self.store.runs[call.admission.run_id].status != "running"
            and not self._is_answered(call)
        ]
        return found[:limit]

    async def approval_for(self, action_digest: str) -> Approval | None:
        return self.store.approvals.get(action_digest)

    async def approval(self, approval_id: str) -> Approval | None:
        return next((one for one in self.store.approvals.values() if one.id == approval_id), None)

    async def approvals(self, *, pending_at_us: int | None = None, limit: int = 100) -> Sequence[Approval]:
        newest = reversed(self.store.approvals.values())
        return [one for one in newest if pending_at_us is None or one.is_pending(pending_at_us)][:limit]

    async def ready_runs(
        self, agent: str, remit_digest: str, at_us: int, *, is_queued: bool | None = None, limit: int = 100
    ) -> Sequence[ReadyRun]:
        ready = [
            (one.ready_at_us, one)
            for one in self.store.runs.values()
            if (one.run.agent, one.run.remit_digest) == (agent, remit_digest)
            and one.ready_at_us is not None
            and one.ready_at_us <= at_us
            and is_queued in (None, one.is_queued)
            and one.run.parent is None
        ]
        oldest = sorted(ready, key=lambda pair: pair[0])[:limit]
        return [
            ReadyRun(run_id=one.run.id, tenant=one.run.tenant, urgency=one.urgency, segment=one.segment)
            for _, one in oldest
        ]

    async def statuses(self, run_ids: Sequence[str]) -> Mapping[str, RunStatus]:
        return {run_id: self.store.runs[run_id].status for run_id in run_ids if run_id in self.store.runs}

    async def refusals(self, run_id: str) -> Mapping[str, bytes]:
        return {key: value for key, value in self.store.refusals.items() if key.startswith(f"{run_id}.")}

    async def attachments(self, run_id: str) -> Sequence[Attachment]:
        return self.store.runs[run_id].attachments

    async def children(self, run_id: str) -> Sequence[RunRecord]:
        return [self._run_record(one) for one in self._below(run_id)]

    async def classes(self, run_id: str) -> Sequence[DataClass]:
        results = [
            orjson.loads(call.completion.result)
            for call in self._calls_of(run_id)
            if call.admission.kind in ("tool", "memory_read")
            and call.completion is not None
            and call.state == "done"
        ]
        return [name for name in DATA_CLASSES if any(name in result["classes"] for result in results)]

    def _below(self, run_id: str) -> list[StoredRun]:
        return [one for one in self.store.runs.values() if one.run.caller_id == run_id]

    def _is_answered(self, call: StoredCall) -> bool:
        """Whether a run that it has started, or a call that was made within it, says what became of it."""
        call_id = call.admission.action_id
        made = (*self.store.calls, *(one.action_id for one in self.store.approvals.values()))
        return any(one.run.parent == call_id for one in self.store.runs.values()) or any(
            ids.above(one) == call_id for one in made
        )

    async def controls(self) -> Sequence[Control]:
        return [self.store.controls[scope] for scope in sorted(self.store.controls)]

    async def agents(self) -> Sequence[AgentLoad]:
        loads: dict[tuple[str, str], dict[str, int]] = {}
        for one in self.store.runs.values():
            load = loads.setdefault((one.run.tenant, one.run.agent), {})
            load[one.status] = load.get(one.status, 0) + 1
        return [
            AgentLoad(
                tenant=tenant,
                agent=agent,
                queued=load.get("queued", 0),
                running=load.get("running", 0),
                suspended=load.get("suspended", 0),
            )
            for (tenant, agent), load in sorted(loads.items())
        ]

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

    async def costs(self, query: CostQuery) -> Sequence[CostRow]:
        return cost_rows(self.store, query)

    async def outbox(self, limit: int = 100) -> Sequence[OutboxMessage]:
        return list(reversed(self.store.outbox.values()))[:limit]

    def _calls_of(self, run_id: str) -> list[StoredCall]:
        return [call for call in self.store.calls.values() if call.admission.run_id == run_id]

    def _run_record(self, stored: StoredRun) -> RunRecord:
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
            cost_nano_usd=sum(call.cost for call in calls),
            exposed_by=(
                *stored.run.principal.strangers,
                *(
                    call.admission.action_id
                    for call, completion in ended
                    if completion.exposes and call.seq < last_model
                ),
            ),
            interruptions=stored.interruptions,
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


def cost_rows(store: MemoryStore, query: CostQuery) -> list[CostRow]:
    """What `JournalReads.costs` promises, call by call."""
    groups: dict[tuple[str | None, ...], CostRow] = {}
    asked: set[tuple[str, str, str, str]] = set()
    until_us = query.until_us
    for call in store.calls.values():
        admission, completion = call.admission, call.completion
        if admission.at_us < query.since_us or (until_us is not None and admission.at_us >= until_us):
            continue
        if call.state == "cancelled" or not (admission.kind == "model" or call.cost or call.held):
            continue
        group = tuple(_dimension(store, call, dimension, query.timezone) for dimension in query.by)
        ended = completion is not None or call.presumed > 0
        content = (admission.run_id, admission.kind, admission.resource, admission.content)
        repeats = ended and content in asked
        if ended:
            asked.add(content)
        wasted = call.state != "done" or store.runs[admission.run_id].status in WITHOUT_ANSWER
        row = groups.get(group) or NO_COSTS
        groups[group] = replace(
            row,
            group=group,
            calls=row.calls + ended,
            usage=row.usage + (Usage() if completion is None else completion.usage),
            cost_nano_usd=row.cost_nano_usd + call.cost,
            saved_nano_usd=row.saved_nano_usd + (0 if completion is None else completion.saved_nano_usd),
            wasted_nano_usd=row.wasted_nano_usd + (call.cost if wasted else 0),
            presumed_nano_usd=row.presumed_nano_usd + call.presumed,
            held_nano_usd=row.held_nano_usd + call.held,
            repeats=row.repeats + repeats,
            repeated_nano_usd=row.repeated_nano_usd + (call.cost if repeats else 0),
            assumed_calls=row.assumed_calls + (completion is not None and completion.assumed),
        )
    shown = [row for row in groups.values() if row.calls or row.held_nano_usd]
    return sorted(shown, key=lambda row: [(value is not None, value or "") for value in row.group])


def _dimension(store: MemoryStore, call: StoredCall, dimension: CostDimension, timezone: str) -> str | None:
    admission = call.admission
    run = store.runs[admission.run_id].run
    match dimension:
        case "day":
            return days.local_day(timezone, admission.at_us)
        case "tenant":
            return run.tenant
        case "agent":
            return run.agent
        case "run":
            return run.id
    return admission.resource if admission.kind == dimension else None
