"""Makes a run of a task, for a process that attends it or for the queue; what is no task is refused before anything begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from remit.core import canonical, ids, uploads
from remit.core.actions import Principal, TaskSource
from remit.core.errors import RemitError
from remit.core.memory import session_list
from remit.core.messages import Attachment
from remit.core.runs import Run
from remit.governance import records
from remit.governance.remit import Remit
from remit.ports.journal import Journal
from remit.ports.runs import Queueing, StartRun
from remit.ports.services import Clock

TASK_BYTES_MAX = 256 * 1024
URGENCY = 500
URGENCY_MAX = 1_000


def new_run(remit: Remit, text: str, principal: Principal, clock: Clock, session: str = "") -> Run:
    """A run of an agent, with an id of its own; of a session, where that is given.

    Raises: RemitError `value.invalid`, `value.too_large`, `usage.invalid`, `memory.not_granted`.
    """
    if session:
        session_list(session)
        if remit.memory is None or not remit.memory.sessions:
            raise RemitError(
                "memory.not_granted",
                f"{remit.agent} is not granted sessions",
                remedy="write `memory: {sessions: true}` into its governance file, or leave the session out",
            )
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise RemitError("value.invalid", "the task holds a lone surrogate") from error
    if len(data) > TASK_BYTES_MAX:
        raise RemitError("value.too_large", f"the task is longer than {TASK_BYTES_MAX} bytes")
    if not text.strip():
        raise RemitError("usage.invalid", "the task is empty", remedy="say what is to be done")
    now_us = clock.now_us()
    run_id = ids.time_ordered(now_us, clock.entropy(10))
    return Run(
        id=run_id,
        tenant=principal.tenant,
        agent=remit.agent,
        remit_digest=remit.digest,
        task=TaskSource(principal=principal, text=text, digest=canonical.digest(data)),
        trace_id=ids.trace_id(run_id),
        created_at_us=now_us,
        deadline_us=now_us + int(remit.run_timeout_s * 1_000_000),
        session=session,
    )


def child_run(remit: Remit, text: str, caller: Run, action_id: str, clock: Clock) -> Run:
    """The run that a call of `caller` starts: for the same principal, in the time that is left, in the same trace.

    The same call starts the same run. Raises: as `new_run`.
    """
    run = new_run(remit, text, caller.principal, clock)
    return replace(
        run,
        id=ids.child_run_id(action_id),
        tenant=caller.tenant,
        trace_id=caller.trace_id,
        deadline_us=min(run.deadline_us, caller.deadline_us),
        parent=action_id,
        depth=caller.depth + 1,
    )


def known_as(run: Run, run_id: str) -> Run:
    """The run under an id that follows from what starts it, so that to start it again is to find it."""
    return replace(run, id=run_id, trace_id=ids.trace_id(run_id))


def start_of(run: Run, attachments: Sequence[Attachment], queueing: Queueing | None = None) -> StartRun:
    """What the journal is told of a new run."""
    record = records.run_created(run, run.created_at_us, uploads.digests(attachments))
    return StartRun(run=run, audit=record, attachments=tuple(attachments), queueing=queueing)


async def enqueue(
    journal: Journal, remit: Remit, run: Run, attachments: Sequence[Attachment] = (), urgency: int = URGENCY
) -> bool:
    """Leave `run` to the workers of its agent; they find it in the journal. False where there is a run of its id.

    Raises: RemitError `queue.full`, `journal.unavailable`, `usage.invalid`.
    """
    if not 0 <= urgency <= URGENCY_MAX:
        raise RemitError("usage.invalid", f"the urgency {urgency} is not between 0 and {URGENCY_MAX}")
    queueing = Queueing(urgency=urgency, max_queued=remit.max_queued_runs)
    return await journal.create_run(start_of(run, attachments, queueing))
