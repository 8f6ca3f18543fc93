"""Runs and controls: the operations on them, inside a transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from remit.adapters.journal import money, waiting
from remit.adapters.journal.sql import ANSWERED, Rows, Sql
from remit.core import audit
from remit.core.actions import Principal
from remit.core.errors import RemitError
from remit.core.runs import TRANSITIONS, Run, RunEnd
from remit.ports.journal import Alert
from remit.ports.runs import RunEnding, StartRun

_INSERT_RUN = """
INSERT INTO run (id, tenant, agent, remit_digest, principal, task, task_digest, trace_id,
                 status, created_at, deadline, worker, urgency, suspended_at, ready_at, parent, depth,
                 session)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING
"""
APPEND = "INSERT INTO audit (body) VALUES (?)"
OPEN = "SELECT seq, held, presumed, scopes FROM inflight WHERE held > 0 AND expires_at <= ?"
_QUEUED = "SELECT count(*) FROM run WHERE tenant = ? AND agent = ? AND status = 'queued'"
_THERE = "SELECT 1 FROM run WHERE id = ?"
BEGINNING = "SELECT tenant, agent, status, worker, trace_id FROM run WHERE id = ?"
ENDING = "SELECT status, worker FROM run WHERE id = ?"
_PRESUME = "UPDATE inflight SET held = 0, presumed = ? WHERE seq = ?"
_END_RUN = """
UPDATE run SET status = ?, ended_at = ?, suspended_at = ?, ready_at = NULL, answer = ?, code = ?, message = ?
WHERE id = ?
"""
# the time that a run waits for a person, or for any worker, is not its own
_BEGIN_RUN = """
UPDATE run SET status = 'running', started_at = coalesce(started_at, ?1),
               deadline = deadline + ?1 - coalesce(suspended_at, ?1), suspended_at = NULL, ready_at = NULL, is_queued = false, segment = segment + 1,
               worker = ?3
WHERE id = ?2
"""
NO_LONGER = "DELETE FROM inflight WHERE seq = ?"
DONE = "INSERT INTO done VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_LEFT = f"""
SELECT inflight.seq, call.id, call.resource FROM call JOIN inflight USING (seq)
WHERE call.id > ? AND call.id < ? AND {ANSWERED}
"""
_BELOW = """
SELECT id, agent, trace_id FROM run
WHERE parent > ? AND parent < ? AND status IN ('queued', 'running', 'suspended') ORDER BY id
"""
_ATTACH = "INSERT INTO attachment (run_id, place, media_type, name, data) VALUES (?, ?, ?, ?, ?)"
_REFUSED = "INSERT INTO refusal (call_id, decision) VALUES (?, ?) ON CONFLICT (call_id) DO NOTHING"
FOREVER = 2**63 - 1


def principal_text(principal: Principal) -> str:
    """A principal as the journal stores it."""
    return json.dumps(
        {
            "kind": principal.kind,
            "id": principal.id,
            "tenant": principal.tenant,
            "roles": list(principal.roles),
            "on_behalf_of": principal.on_behalf_of,
        }
    )


def create(connection: Sql, start: StartRun, worker: str) -> bool | RemitError:
    """Create a queued run and its audit record; False where there is one of this id, an error where the queue is full."""
    run: Run = start.run
    queueing = start.queueing
    if queueing is not None:
        worker = ""
        (queued,) = connection.execute(_QUEUED, (run.tenant, run.agent)).fetchone()
        if queued >= queueing.max_queued:
            if connection.execute(_THERE, (run.id,)).fetchone() is not None:
                return False
            return RemitError("queue.full", f"{queued} runs of {run.agent} are queued already")
    ready_at = None if queueing is None else run.created_at_us
    created = connection.execute(
        _INSERT_RUN,
        (
            run.id,
            run.tenant,
            run.agent,
            run.remit_digest,
            principal_text(run.principal),
            run.task.text,
            run.task.digest,
            run.trace_id,
            run.created_at_us,
            run.deadline_us,
            worker,
            500 if queueing is None else queueing.urgency,
            ready_at,
            ready_at,
            run.parent,
            run.depth,
            run.session,
        ),
    ).rowcount
    if not created:
        return False
    rows = [
        (run.id, place, one.media_type, one.name, one.data) for place, one in enumerate(start.attachments)
    ]
    connection.executemany(_ATTACH, rows)
    connection.execute(APPEND, (start.audit,))
    return True


def refuse(connection: Sql, action_id: str, decision: bytes, record: bytes) -> None:
    """Keep what is said of a refused call, and its audit record."""
    connection.execute(_REFUSED, (action_id, decision))
    connection.execute(APPEND, (record,))


class Beginning(NamedTuple):
    """A run that `worker` wants to begin, and the most that its agent may have running."""

    run_id: str
    max_concurrent_runs: int
    at_us: int
    worker: str


def begin_all(connection: Sql, beginnings: Sequence[Beginning]) -> list[bool | RemitError]:
    """Begin runs. An error is that of one run alone."""
    return [_begin(connection, *one) for one in beginnings]


def _begin(
    connection: Sql, run_id: str, max_concurrent_runs: int, at_us: int, worker: str
) -> bool | RemitError:
    """Move a queued or suspended run to running, unless its agent has no free slot.

    RemitError `run.unknown` or `run.not_running` where the run cannot begin at all.
    """
    row = connection.execute(BEGINNING, (run_id,)).fetchone()
    if row is None:
        return RemitError("run.unknown", f"there is no run {run_id}")
    tenant, agent, status, had_by, trace_id = row
    if "running" not in TRANSITIONS[status]:
        return RemitError("run.not_running", f"the run is {status}")
    (running,) = connection.execute(
        "SELECT count(*) FROM run WHERE tenant = ? AND agent = ? AND status = 'running'", (tenant, agent)
    ).fetchone()
    if running >= max_concurrent_runs:
        return False
    connection.execute(_BEGIN_RUN, (at_us, run_id, worker))
    if status == "suspended" or had_by != worker:
        fields: audit.Fields = {"run": run_id, "agent": agent, "worker": worker, "trace": trace_id}
        connection.execute(APPEND, (audit.record("run.taken", at_us, fields),))
    return True


def end(connection: Sql, run_id: str, ending: RunEnding, at_us: int, worker: str | None = None) -> bool:
    """Move a run to where it ends or waits, and record it; False where that is no legal transition.

    With a `worker`: False too where the run is another's by now. What that worker left behind may be what it waits for.
    """
    run_end = ending.end
    row = connection.execute(ENDING, (run_id,)).fetchone()
    if row is None:
        return False
    status, has_it = row
    # what a worker left waiting, or lost, is not its to end any more
    is_lost = worker is not None and (worker != has_it or status == "suspended")
    if run_end.status not in TRANSITIONS[status] or is_lost:
        waiting.set_ready(connection, run_id, at_us)
        return False
    waits = run_end.status == "suspended"
    times = (None, at_us) if waits else (at_us, None)
    values = (run_end.status, *times, run_end.answer, run_end.code, run_end.message, run_id)
    connection.execute(_END_RUN, values)
    connection.execute(APPEND, (ending.audit,))
    if waits:
        waiting.set_ready(connection, run_id, at_us)
    else:
        _end_below(connection, run_id, at_us)
        waiting.set_caller_ready(connection, run_id, at_us)
    return True


def _end_below(connection: Sql, run_id: str, at_us: int) -> None:
    """Nobody waits any more for the runs that the calls of a run have started: they end, and so do the calls."""
    below = connection.execute(_BELOW, (f"{run_id}.", f"{run_id}/")).fetchall()
    for child_id, agent, trace_id in below:
        run_end = RunEnd(
            status="cancelled", code="run.cancelled", message=f"run {run_id}, which asked, ended"
        )
        fields: audit.Fields = {
            "run": child_id,
            "agent": agent,
            "status": run_end.status,
            "code": run_end.code,
            "trace": trace_id,
        }
        ending = RunEnding(end=run_end, audit=audit.record("run.ended", at_us, fields))
        end(connection, child_id, ending, at_us)
    for seq, call_id, resource in connection.execute(_LEFT, (f"{run_id}.", f"{run_id}/")).fetchall():
        connection.execute(NO_LONGER, (seq,))
        connection.execute(DONE, (seq, "cancelled", at_us, 0, 0, 0, 0, 0, False, b"", 0, 0, False))
        told: audit.Fields = {
            "run": run_id,
            "call": call_id.partition(".")[2],
            "resource": f"tool:{resource}",
            "outcome": "cancelled",
        }
        connection.execute(APPEND, (audit.record("outcome", at_us, told),))


def presume(connection: Sql, at_us: int) -> tuple[Alert, ...]:
    """Presume spent what is held by the calls that expired by `at_us`."""
    return presume_rows(connection, connection.execute(OPEN, (at_us,)), at_us)


def presume_rows(connection: Sql, rows: Rows, at_us: int) -> tuple[Alert, ...]:
    """Presume spent what is held by these calls: (seq, held, presumed, scopes) each."""
    intents = [money.Open(*row) for row in rows]
    scopes = {scope for intent in intents for scope in money.scopes_of(intent.scopes)}
    ledger = money.Ledger(connection, scopes, at_us)
    alerts: list[Alert] = []
    records: list[tuple[bytes]] = []
    for intent in intents:
        alerts += ledger.presume(intent, at_us, records)
    connection.executemany(_PRESUME, [(intent.held, intent.seq) for intent in intents])
    connection.executemany(APPEND, records)
    ledger.write()
    return tuple(alerts)


def set_control(connection: Sql, scope: str, reason: str | None, at_us: int) -> None:
    """Pause `scope` for `reason`, or resume it where the reason is None."""
    if reason is None:
        connection.execute("DELETE FROM control WHERE scope = ?", (scope,))
        waiting.set_resumed(connection, at_us)
    else:
        connection.execute(
            "INSERT INTO control VALUES (?, ?, ?) ON CONFLICT (scope) DO UPDATE SET reason = excluded.reason",
            (scope, reason, at_us),
        )


def register_remit(connection: Sql, row: tuple[str, str, int], record: bytes) -> bool:
    """Note (agent, digest, time) of a remit; True and recorded where the digest is a new one."""
    changed = connection.execute(
        "INSERT INTO remit VALUES (?, ?, ?) ON CONFLICT (agent) DO UPDATE "
        "SET digest = excluded.digest, at = excluded.at WHERE remit.digest != excluded.digest",
        row,
    ).rowcount
    if changed:
        connection.execute(APPEND, (record,))
    return changed == 1
