"""Runs and controls: the operations on them, inside a transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from remit.adapters.journal import approvals, money
from remit.adapters.journal.sql import Rows, Sql
from remit.core import audit
from remit.core.actions import Principal
from remit.core.errors import RemitError
from remit.core.runs import TRANSITIONS, Run, RunEnd, RunStatus
from remit.ports.journal import Alert, RunEnding, StartRun

_INSERT_RUN = """
INSERT INTO run (id, tenant, agent, remit_digest, principal, task, task_digest, trace_id,
                 status, created_at, deadline, worker)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?)
"""
APPEND = "INSERT INTO audit (body) VALUES (?)"
OPEN = "SELECT seq, held, presumed, scopes FROM inflight WHERE held > 0 AND expires_at <= ?"
_LIVE = "SELECT id FROM worker WHERE lease_until > ?"
ABANDONED_CALLS = f"""
SELECT inflight.seq, held, presumed, scopes FROM inflight JOIN call USING (seq)
JOIN run ON run.id = substr(call.id, 1, instr(call.id, '.') - 1)
WHERE held > 0 AND run.worker NOT IN ({_LIVE})
"""
_ABANDONED_RUNS = f"""
SELECT id, agent, trace_id, status FROM run
WHERE status IN ('running', 'queued') AND worker NOT IN ({_LIVE})
"""
_HOLD_LEASE = """
INSERT INTO worker (id, lease_until) VALUES (?, ?)
ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until
"""
_FORGET_WORKERS = "DELETE FROM worker WHERE lease_until < ?"
_REMEMBER_WORKERS_US = 86_400_000_000
BEGINNING = "SELECT tenant, agent, status FROM run WHERE id = ?"
ENDING = "SELECT status FROM run WHERE id = ?"
_PRESUME = "UPDATE inflight SET held = 0, presumed = ? WHERE seq = ?"
_END_RUN = """
UPDATE run SET status = ?, ended_at = ?, suspended_at = ?, answer = ?, code = ?, message = ? WHERE id = ?
"""
# the time that a run waits for a person is not its own
_BEGIN_RUN = """
UPDATE run SET status = 'running', started_at = coalesce(started_at, ?1),
               deadline = deadline + ?1 - coalesce(suspended_at, ?1), suspended_at = NULL, ready_at = NULL, worker = ?3
WHERE id = ?2
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


def create(connection: Sql, start: StartRun, worker: str) -> None:
    """Create a queued run and its audit record."""
    run: Run = start.run
    connection.execute(
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
        ),
    )
    rows = [
        (run.id, place, one.media_type, one.name, one.data) for place, one in enumerate(start.attachments)
    ]
    connection.executemany(_ATTACH, rows)
    connection.execute(APPEND, (start.audit,))


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
    tenant, agent, status = row
    if "running" not in TRANSITIONS[status]:
        return RemitError("run.not_running", f"the run is {status}")
    (running,) = connection.execute(
        "SELECT count(*) FROM run WHERE tenant = ? AND agent = ? AND status = 'running'", (tenant, agent)
    ).fetchone()
    if running >= max_concurrent_runs:
        return False
    connection.execute(_BEGIN_RUN, (at_us, run_id, worker))
    return True


def end(connection: Sql, run_id: str, ending: RunEnding, at_us: int) -> bool:
    """Move a run to where it ends or waits, and record it; False where that is no legal transition."""
    run_end = ending.end
    row = connection.execute(ENDING, (run_id,)).fetchone()
    if row is None or run_end.status not in TRANSITIONS[row[0]]:
        return False
    waits = run_end.status == "suspended"
    times = (None, at_us) if waits else (at_us, None)
    values = (run_end.status, *times, run_end.answer, run_end.code, run_end.message, run_id)
    connection.execute(_END_RUN, values)
    connection.execute(APPEND, (ending.audit,))
    if waits:
        approvals.set_ready(connection, run_id, at_us)
    return True


def presume(connection: Sql, at_us: int) -> tuple[Alert, ...]:
    """Presume spent what is held by the calls that expired by `at_us`."""
    return _presume(connection, connection.execute(OPEN, (at_us,)), at_us)


def _presume(connection: Sql, rows: Rows, at_us: int) -> tuple[Alert, ...]:
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


def hold_lease(connection: Sql, worker: str, now_us: int, lease_us: int) -> bool:
    """Let `worker` count as alive for `lease_us`; False where it had one that ended before it was renewed."""
    row = connection.execute("SELECT lease_until FROM worker WHERE id = ?", (worker,)).fetchone()
    connection.execute(_HOLD_LEASE, (worker, now_us + lease_us))
    return row is None or row[0] > now_us


def interrupt(connection: Sql, now_us: int, at_us: int) -> tuple[str, ...]:
    """End what workers without a lease left running or queued.

    The calls of these runs stay open; what they may cost counts as spent.
    """
    connection.execute(_FORGET_WORKERS, (now_us - _REMEMBER_WORKERS_US,))
    _presume(connection, connection.execute(ABANDONED_CALLS, (now_us,)), at_us)
    message = "the process that ran it ended"
    interrupted = []
    for run_id, agent, trace_id, was in connection.execute(_ABANDONED_RUNS, (now_us,)).fetchall():
        status: RunStatus = "failed" if was == "running" else "cancelled"
        run_end = RunEnd(status=status, code="run.interrupted", message=message)
        body = audit.record(
            "run.ended",
            at_us,
            {"run": run_id, "agent": agent, "status": status, "code": "run.interrupted", "trace": trace_id},
        )
        if end(connection, run_id, RunEnding(end=run_end, audit=body), at_us):
            interrupted.append(str(run_id))
    return tuple(interrupted)


def set_control(connection: Sql, scope: str, reason: str | None, at_us: int) -> None:
    """Pause `scope` for `reason`, or resume it where the reason is None."""
    if reason is None:
        connection.execute("DELETE FROM control WHERE scope = ?", (scope,))
        approvals.set_resumed(connection, at_us)
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
