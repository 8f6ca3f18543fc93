"""Values for tests of journals: runs, admissions, completions and approvals with every field set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from remit.core import audit
from remit.core.actions import Principal, TaskSource
from remit.core.approvals import Approval, Vote
from remit.core.messages import Usage
from remit.core.runs import Run, RunEnd, RunStatus
from remit.ports.journal import Admission, Admitted, Completion, Hold, Journal, Misfit, Recorded
from remit.ports.runs import RunEnding, StartRun
from remit.testing.fakes import FakeClock

REMIT = "r" * 64
Z = b'{"at":"2027-01-01T00:00:00.000000Z","kind":"outcome"}'


class JournalPlace(Protocol):
    """One store, and journals on it."""

    clock: FakeClock

    def open(self, worker: str = "") -> Journal: ...


def digest_of(text: str) -> str:
    return text.encode().hex().ljust(64, "0")[:64]


def run_of(run_id: str, agent: str = "a") -> Run:
    principal = Principal(kind="user", id="u", roles=("x",))
    return Run(
        id=run_id,
        tenant="t",
        agent=agent,
        remit_digest=REMIT,
        task=TaskSource(principal=principal, text="do", digest=digest_of("do")),
        trace_id="0" * 32,
        created_at_us=1,
        deadline_us=2,
        session="SUPPORT-77",
    )


def admission_of(action_id: str, clock: FakeClock, **changes: Any) -> Admission:
    """An admission that a running run `r` may have."""
    admission = Admission(
        action_id=action_id,
        action_digest=digest_of(action_id),
        run_id=action_id.partition(".")[0],
        remit_digest=REMIT,
        kind="tool",
        resource="pay",
        at_us=clock.now_us(),
        control_scopes=("all", "agent:t/a", "tool:pay"),
        windows=(),
        holds=(),
        amount_nano_usd=0,
        approval_id=None,
        intent=audit.record("intent", clock.now_us(), {"run": action_id.partition(".")[0]}),
        content=digest_of("what is asked"),
        expires_at_us=clock.now_us() + 90_000_000,
    )
    return admission._replace(**changes)


def completion_of(action_id: str, clock: FakeClock, **changes: Any) -> Completion:
    completion = Completion(
        action_id=action_id,
        state="done",
        result=b'"x"',
        usage=Usage(input_tokens=1, output_tokens=2, cache_read_tokens=3, cache_write_tokens=4),
        cost_nano_usd=0,
        at_us=clock.now_us(),
        outcome=audit.record("outcome", clock.now_us(), {"run": action_id.partition(".")[0]}),
    )
    return completion._replace(**changes)


def approval_of(action_id: str, clock: FakeClock, **changes: Any) -> Approval:
    approval = Approval(
        id=f"approval-{action_id}",
        action_id=action_id,
        action_digest=digest_of(action_id),
        run_id=action_id.partition(".")[0],
        remit_digest=REMIT,
        requested_by="user:u",
        requested_at_us=clock.now_us(),
        expires_at_us=clock.now_us() + 60_000_000,
        resource="pay",
        action=b"{}",
        rule="approvals.0",
    )
    return replace(approval, **changes)


def vote_on(approval: Approval, **changes: Any) -> Vote:
    """A vote for what is asked, by somebody else."""
    vote = Vote(
        approval_id=approval.id,
        approves=True,
        by="user:p",
        at_us=approval.requested_at_us,
        digest=approval.digest,
        reason="ok",
    )
    return replace(vote, **changes)


def ending_of(status: RunStatus) -> RunEnding:
    return RunEnding(end=RunEnd(status=status, answer="a", code="c", message="m"), audit=Z)


async def started(place: JournalPlace, run_id: str = "r") -> Journal:
    """A journal in which a run is running."""
    journal = place.open()
    await journal.create_run(StartRun(run=run_of(run_id), audit=Z))
    assert await journal.begin_run(run_id, 1000, place.clock.now_us())
    return journal


def hold_of(cap: int, scope: str = "day:x", percent: int | None = None) -> Hold:
    return Hold(scope=scope, cap_nano_usd=cap, rule="caps", alert_percent=percent)


def kind_of(verdict: Admitted | Recorded | Misfit) -> str:
    return verdict.kind if isinstance(verdict, Misfit) else type(verdict).__name__
