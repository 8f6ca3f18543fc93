"""What people and programs read from the journal; nothing here writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from remit.adapters.journal.sql import ANSWERED, Sql
from remit.core import audit
from remit.core.actions import Principal, TaskSource
from remit.core.controls import AgentLoad, Control
from remit.core.labels import DATA_CLASSES, DataClass
from remit.core.messages import Attachment, Usage
from remit.core.runs import Run, RunEnd, RunRecord, RunStatus
from remit.ports.journal import AuditEntry, AuditQuery, Balance, CallRecord

_RUN = """
SELECT id, tenant, agent, remit_digest, principal, task, task_digest, trace_id, created_at, deadline,
       parent, depth, session, status, started_at, ended_at, answer, code, message, interruptions
FROM run
"""
_STATUSES = "SELECT id, status FROM run WHERE id IN (SELECT value FROM json_each(?))"
_CALLS = """
SELECT call.id, call.kind, call.resource, call.digest, call.at, inflight.held,
       done.state, done.at, done.input_tokens, done.output_tokens, done.cache_read_tokens,
       done.cache_write_tokens, done.cost
FROM call LEFT JOIN done USING (seq) LEFT JOIN inflight USING (seq)
"""
# a run's id is what stands before the first point of a call's
_UNRESOLVED = f"""
WHERE call.seq IN (
    SELECT seq FROM done WHERE state = 'unknown'
    UNION ALL SELECT seq FROM inflight
) AND call.kind = 'tool' AND NOT EXISTS (
    SELECT 1 FROM run WHERE status = 'running' AND call.id > run.id || '.' AND call.id < run.id || '/'
) AND NOT {ANSWERED}
"""
_TOTALS = """
SELECT count(*) FILTER (WHERE call.kind = 'model' AND done.seq IS NOT NULL), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
       coalesce(sum(cache_read_tokens), 0), coalesce(sum(cache_write_tokens), 0),
       coalesce(sum(coalesce(cost, inflight.presumed)), 0)
FROM call LEFT JOIN done USING (seq) LEFT JOIN inflight USING (seq) WHERE call.id > ? AND call.id < ?
"""
_EXPOSED_BY = """
SELECT id FROM call JOIN done USING (seq)
WHERE id > ?1 AND id < ?2 AND exposes
  AND seq < (SELECT max(seq) FROM call WHERE id > ?1 AND id < ?2 AND kind = 'model')
ORDER BY seq
"""
_CLASSES = """
SELECT DISTINCT json_extract(result, '$.classes') FROM call JOIN done USING (seq)
WHERE call.id > ? AND call.id < ? AND call.kind IN ('tool', 'memory_read') AND state = 'done'
"""
_AGENTS = """
SELECT tenant, agent, count(*) FILTER (WHERE status = 'queued'), count(*) FILTER (WHERE status = 'running'),
       count(*) FILTER (WHERE status = 'suspended')
FROM run GROUP BY tenant, agent ORDER BY tenant, agent
"""


def _span(run_id: str) -> tuple[str, str]:
    """The bounds of the ids of a run's calls: `{run}.` and the character after the point."""
    return f"{run_id}.", f"{run_id}/"


def run_record(connection: Sql, run_id: str) -> RunRecord | None:
    """One run, or None."""
    row = connection.execute(f"{_RUN} WHERE id = ?", (run_id,)).fetchone()
    return None if row is None else _record(connection, row)


def run_records(connection: Sql, status: RunStatus | None, limit: int) -> Sequence[RunRecord]:
    """The newest `limit` runs (of one status), newest first."""
    where = "" if status is None else "WHERE status = ?"
    values: tuple[object, ...] = (limit,) if status is None else (status, limit)
    rows = connection.execute(f"{_RUN} {where} ORDER BY seq DESC LIMIT ?", values).fetchall()
    return [_record(connection, row) for row in rows]


def last_run_record(connection: Sql, agent: str, principal: str) -> RunRecord | None:
    """The newest run of an agent that a principal has asked for."""
    where = "WHERE agent = ? AND principal = ? ORDER BY seq DESC LIMIT 1"
    row = connection.execute(f"{_RUN} {where}", (agent, principal)).fetchone()
    return None if row is None else _record(connection, row)


def children(connection: Sql, run_id: str) -> Sequence[RunRecord]:
    """The runs that the calls of a run have started, oldest first."""
    where = "WHERE parent > ? AND parent < ? ORDER BY seq"
    rows = connection.execute(f"{_RUN} {where}", _span(run_id)).fetchall()
    return [_record(connection, row) for row in rows]


def classes(connection: Sql, run_id: str) -> Sequence[DataClass]:
    """The classes of what the tools of a run, and its session, have returned."""
    found = {name for (labels,) in connection.execute(_CLASSES, _span(run_id)) for name in json.loads(labels)}
    return [name for name in DATA_CLASSES if name in found]


def _record(connection: Sql, row: tuple[object, ...]) -> RunRecord:
    (run_id, tenant, agent, remit_digest, principal, task, task_digest, trace_id, created_at, deadline) = row[
        :10
    ]
    parent, depth, session, status, started_at, ended_at, answer, code, message, interruptions = row[10:]
    fields = json.loads(str(principal))
    who = Principal(**{**fields, "roles": tuple(fields["roles"])})
    run = Run(
        id=str(run_id),
        tenant=str(tenant),
        agent=str(agent),
        remit_digest=str(remit_digest),
        task=TaskSource(principal=who, text=str(task), digest=str(task_digest)),
        trace_id=str(trace_id),
        created_at_us=created_at,  # type: ignore[arg-type]
        deadline_us=deadline,  # type: ignore[arg-type]
        parent=parent,  # type: ignore[arg-type]
        depth=depth,  # type: ignore[arg-type]
        session=str(session),
    )
    bounds = _span(run.id)
    steps, read, written, cache_read, cache_write, cost = connection.execute(_TOTALS, bounds).fetchone()
    end = None
    if status not in ("queued", "running"):
        end = RunEnd(
            status=status,  # type: ignore[arg-type]
            answer=str(answer or ""),
            code=str(code or ""),
            message=str(message or ""),
        )
    return RunRecord(
        run=run,
        status=status,  # type: ignore[arg-type]
        started_at_us=started_at,  # type: ignore[arg-type]
        ended_at_us=ended_at,  # type: ignore[arg-type]
        end=end,
        steps=steps,
        usage=Usage(
            input_tokens=read,
            output_tokens=written,
            cache_read_tokens=cache_read,
            cache_write_tokens=cache_write,
        ),
        cost_nano_usd=cost,
        exposed_by=(
            *who.strangers,
            *(call_id for (call_id,) in connection.execute(_EXPOSED_BY, bounds)),
        ),
        interruptions=interruptions,  # type: ignore[arg-type]
    )


def call_records(connection: Sql, run_id: str) -> Sequence[CallRecord]:
    """The calls of a run in the order in which they were admitted."""
    where = "WHERE call.id > ? AND call.id < ? ORDER BY call.seq"
    return [_call(row) for row in connection.execute(f"{_CALLS} {where}", _span(run_id))]


def unresolved(connection: Sql, limit: int) -> Sequence[CallRecord]:
    """The calls of which nobody knows whether they happened, newest first."""
    rows = connection.execute(f"{_CALLS} {_UNRESOLVED} ORDER BY call.seq DESC LIMIT ?", (limit,))
    return [_call(row) for row in rows]


def _call(row: Sequence[Any]) -> CallRecord:
    call_id, kind, resource, digest, at, held, state, ended_at, *tokens, cost = row
    read, written, cache_read, cache_write = (count or 0 for count in tokens)
    return CallRecord(
        action_id=call_id,
        run_id=call_id.partition(".")[0],
        kind=kind,
        resource=resource,
        digest=digest.hex(),
        started_at_us=at,
        ended_at_us=ended_at,
        state=state or "started",
        usage=Usage(
            input_tokens=read,
            output_tokens=written,
            cache_read_tokens=cache_read,
            cache_write_tokens=cache_write,
        ),
        cost_nano_usd=cost or 0,
        held_nano_usd=held or 0,
    )


def audit_entries(connection: Sql, query: AuditQuery) -> Sequence[AuditEntry]:
    """The newest `query.limit` records that match, oldest first."""
    conditions, values = ["1 = 1"], []
    if query.run_id is not None:
        conditions.append("json_extract(body, '$.run') = ?")
        values.append(query.run_id)
    if query.kind is not None:
        conditions.append("json_extract(body, '$.kind') = ?")
        values.append(query.kind)
    if query.since_us is not None:
        conditions.append("json_extract(body, '$.at') >= ?")
        values.append(audit.timestamp(query.since_us))
    table = "inflight JOIN audit USING (seq)" if query.open_only else "audit"
    rows = connection.execute(
        f"SELECT seq, body FROM {table} WHERE {' AND '.join(conditions)} ORDER BY seq DESC LIMIT ?",
        (*values, query.limit),
    ).fetchall()
    return [AuditEntry(seq=seq, body=body) for seq, body in reversed(rows)]


def balances(connection: Sql, prefix: str) -> Sequence[Balance]:
    """The balances of the scopes that begin with `prefix`."""
    rows = connection.execute(
        "SELECT scope, spent, held, presumed FROM balance WHERE substr(scope, 1, ?) = ? ORDER BY scope",
        (len(prefix), prefix),
    )
    return [
        Balance(scope=scope, spent_nano_usd=spent, held_nano_usd=held, presumed_nano_usd=presumed)
        for scope, spent, held, presumed in rows
    ]


def statuses(connection: Sql, run_ids: Sequence[str]) -> Mapping[str, RunStatus]:
    """The status of each of the runs that there are."""
    if not run_ids:
        return {}
    rows = connection.execute(_STATUSES, (json.dumps(list(run_ids)),))
    return dict(rows.fetchall())


def refusals(connection: Sql, run_id: str) -> Mapping[str, bytes]:
    """What was said of each call of a run that was refused."""
    rows = connection.execute(
        "SELECT call_id, decision FROM refusal WHERE call_id > ? AND call_id < ?", _span(run_id)
    )
    return {call_id: bytes(decision) for call_id, decision in rows}


def attachments(connection: Sql, run_id: str) -> Sequence[Attachment]:
    """What was attached to a run's task, in its order."""
    rows = connection.execute(
        "SELECT media_type, name, data FROM attachment WHERE run_id = ? ORDER BY place", (run_id,)
    )
    return [Attachment(media_type=media_type, name=name, data=data) for media_type, name, data in rows]


def controls(connection: Sql) -> Sequence[Control]:
    """Everything that is paused."""
    rows = connection.execute("SELECT scope, reason, at FROM control ORDER BY scope")
    return [Control(scope=scope, reason=reason, at_us=at) for scope, reason, at in rows]


def agents(connection: Sql) -> Sequence[AgentLoad]:
    """How many runs of each agent are under way, and of each that has no more."""
    rows = connection.execute(_AGENTS)
    return [
        AgentLoad(tenant=tenant, agent=agent, queued=queued, running=running, suspended=suspended)
        for tenant, agent, queued, running, suspended in rows
    ]
