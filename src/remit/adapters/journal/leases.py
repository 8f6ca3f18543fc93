"""Workers: which of them count as alive, and what becomes of the runs of those that do not. Inside a transaction."""

from __future__ import annotations

from collections.abc import Sequence

from remit.adapters.journal import runs
from remit.adapters.journal.sql import Sql
from remit.core import audit
from remit.core.runs import RunEnd
from remit.ports.runs import INTERRUPTIONS_MAX, RunEnding

_LIVE = "SELECT id FROM worker WHERE lease_until > ?"
ABANDONED_CALLS = f"""
SELECT inflight.seq, held, presumed, scopes FROM inflight JOIN call USING (seq)
JOIN run ON run.id = substr(call.id, 1, instr(call.id, '.') - 1)
WHERE held > 0 AND run.worker NOT IN ({_LIVE})
"""
# who is nobody's in the queue waits for any worker
_ABANDONED_RUNS = f"""
SELECT id, agent, trace_id, worker, status, interruptions FROM run
WHERE status IN ('running', 'queued') AND worker NOT IN ({_LIVE}) AND (status = 'running' OR worker <> '')
ORDER BY id
"""
_HELD_RUNS = "SELECT id FROM run WHERE status IN ('running', 'queued') AND status = 'running' AND worker = ?"
_HOLD_LEASE = """
INSERT INTO worker (id, lease_until) VALUES (?, ?)
ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until
"""
_END_OTHER_LEASES = "UPDATE worker SET lease_until = 0 WHERE id <> ?"
_FORGET_WORKERS = "DELETE FROM worker WHERE lease_until < ?"
_REMEMBER_WORKERS_US = 86_400_000_000
_LEAVE_QUEUED = "UPDATE run SET worker = '', suspended_at = ?, ready_at = ? WHERE id = ? AND status = 'queued' AND worker = ?"
_INTERRUPTED = """
UPDATE run SET interruptions = ?1, ready_at = ready_at + ?2 WHERE id = ?3
"""
_PAUSE_US = 1_000_000


def hold_lease(connection: Sql, worker: str, now_us: int, lease_us: int, alone: bool) -> bool:
    """Let `worker` count as alive for `lease_us`; whether it has been without a break until now."""
    row = connection.execute("SELECT lease_until FROM worker WHERE id = ?", (worker,)).fetchone()
    connection.execute(_HOLD_LEASE, (worker, now_us + lease_us))
    if alone:
        connection.execute(_END_OTHER_LEASES, (worker,))
    return row is not None and row[0] > now_us


def workers(connection: Sql, now_us: int) -> Sequence[str]:
    """The workers that hold a lease."""
    return [name for (name,) in connection.execute(f"{_LIVE} ORDER BY id", (now_us,))]


def held_runs(connection: Sql, worker: str) -> Sequence[str]:
    """The runs that a worker has begun and that have neither ended nor wait."""
    return [run_id for (run_id,) in connection.execute(_HELD_RUNS, (worker,))]


def interrupt(connection: Sql, now_us: int, at_us: int) -> tuple[str, ...]:
    """Let what workers without a lease were running, or had created, wait for another worker; which runs these were.

    Their calls stay open; what these may cost counts as spent. A run that was interrupted before waits longer each
    time, so that what may be killing its workers does so ever less often, and is given up at last.
    """
    connection.execute(_FORGET_WORKERS, (now_us - _REMEMBER_WORKERS_US,))
    runs.presume_rows(connection, connection.execute(ABANDONED_CALLS, (now_us,)), at_us)
    interrupted = []
    rows = connection.execute(_ABANDONED_RUNS, (now_us,)).fetchall()
    for run_id, agent, trace_id, worker, status, interruptions in rows:
        if status == "queued":
            connection.execute(_LEAVE_QUEUED, (at_us, at_us, run_id, worker))
            interrupted.append(str(run_id))
            continue
        count = interruptions + 1
        gives_up = count >= INTERRUPTIONS_MAX
        message = "the process that ran it is no longer heard of"
        if gives_up:
            message = f"{count} processes that ran it died: it may be what kills them"
        end = RunEnd(status="failed" if gives_up else "suspended", code="run.interrupted", message=message)
        fields: audit.Fields = {
            "run": run_id,
            "agent": agent,
            "status": end.status,
            "code": end.code,
            "worker": worker,
            "trace": trace_id,
        }
        ending = RunEnding(end=end, audit=audit.record("run.ended", at_us, fields))
        if runs.end(connection, run_id, ending, at_us, worker):
            pause_us = 0 if count == 1 else _PAUSE_US << (count - 2)
            connection.execute(_INTERRUPTED, (count, pause_us, run_id))
            interrupted.append(str(run_id))
    return tuple(interrupted)
