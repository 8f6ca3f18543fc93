"""Runs that wait for a worker: when they may go on, and whether they are in the queue. Inside a transaction."""

from __future__ import annotations

from collections.abc import Sequence

from remit.adapters.journal.sql import ANSWERED, Sql
from remit.ports.runs import ReadyRun

# what became of a call that is open, the next worker of a run that was lost or handed over is to find
_READY = f"""
UPDATE run SET ready_at = CASE
    WHEN code = 'agent.paused' AND ready_at IS NULL AND NOT EXISTS (SELECT 1 FROM control) THEN ?4
    WHEN code NOT IN ('approval.required', 'effect.unknown', 'run.waits', 'run.handed_over', 'run.interrupted') THEN ready_at
    WHEN EXISTS (
        SELECT 1 FROM call LEFT JOIN done USING (seq)
        WHERE call.id > ?2 AND call.id < ?3 AND call.kind = 'tool'
          AND (state = 'unknown' OR (done.seq IS NULL AND code NOT IN ('run.handed_over', 'run.interrupted')))
          AND NOT {ANSWERED}
    ) THEN NULL
    WHEN EXISTS (
        SELECT 1 FROM run AS child WHERE child.parent > ?2 AND child.parent < ?3
          AND (child.status = 'running' OR (child.status = 'suspended' AND child.ready_at IS NULL))
    ) THEN NULL
    ELSE coalesce((
        SELECT max(at) FROM (
            SELECT expires_at AS at FROM approval WHERE run_id = ?1 AND verdict = 'pending'
            UNION ALL SELECT child.ready_at FROM run AS child
            WHERE child.parent > ?2 AND child.parent < ?3 AND child.status = 'suspended'
        ) AS awaited
    ), ?4)
END
WHERE id = ?1 AND status = 'suspended'
"""
# a run that another has started goes on with the call that started it
_READY_RUNS = """
SELECT id, tenant, urgency, segment FROM run
WHERE ready_at IS NOT NULL AND ready_at <= ? AND agent = ? AND remit_digest = ? AND parent IS NULL {}
ORDER BY ready_at LIMIT ?
"""
_CALLER = "SELECT substr(parent, 1, instr(parent, '.') - 1) FROM run WHERE id = ? AND parent IS NOT NULL"
_LOCK = "UPDATE run SET status = status WHERE id = ?"
_RESUMED = "UPDATE run SET ready_at = ? WHERE status = 'suspended' AND code = 'agent.paused'"
_RESUMED_BELOW = """
SELECT id FROM run WHERE status = 'suspended' AND code = 'agent.paused' AND parent IS NOT NULL ORDER BY id
"""
_NOTE_QUEUED = """
UPDATE run SET segment = ?1, is_queued = ?2 WHERE id = ?3 AND ready_at IS NOT NULL AND segment < ?4
"""


def set_ready(connection: Sql, run_id: str, at_us: int) -> None:
    """When a suspended run may go on: now, once its last approval has expired, or once a person has said so.

    So may the runs above it that wait for it, once all they wait for has ended or may go on.
    """
    connection.execute(_READY, (run_id, f"{run_id}.", f"{run_id}/", at_us))
    set_caller_ready(connection, run_id, at_us)


def set_caller_ready(connection: Sql, run_id: str, at_us: int) -> None:
    """What became of a run may be what the run above it waits for."""
    caller = connection.execute(_CALLER, (run_id,)).fetchone()
    if caller is not None:
        # who suspends it at this moment is waited for, or would not be seen
        connection.execute(_LOCK, caller)
        set_ready(connection, caller[0], at_us)


def set_resumed(connection: Sql, at_us: int) -> None:
    """Something is no longer paused: what was stopped by a pause may try again."""
    connection.execute(_RESUMED, (at_us,))
    for (run_id,) in connection.execute(_RESUMED_BELOW).fetchall():
        set_caller_ready(connection, run_id, at_us)


def ready_runs(
    connection: Sql, agent: str, remit_digest: str, at_us: int, is_queued: bool | None, limit: int
) -> Sequence[ReadyRun]:
    """The runs of an agent, under a remit, that may go on; those that have waited longest first."""
    condition = {None: "", True: "AND is_queued", False: "AND NOT is_queued"}[is_queued]
    rows = connection.execute(_READY_RUNS.format(condition), (at_us, agent, remit_digest, limit))
    return [
        ReadyRun(run_id=run_id, tenant=tenant, urgency=urgency, segment=segment)
        for run_id, tenant, urgency, segment in rows
    ]


def note_queued(connection: Sql, run_id: str, segment: int, is_queued: bool) -> None:
    """Note that a run's segment is in the queue, or is lost; what is said of an older one changes nothing."""
    # a number is used once: neither one that was begun nor one that was lost is noted again
    connection.execute(_NOTE_QUEUED, (segment, is_queued, run_id, segment if is_queued else segment + 1))
