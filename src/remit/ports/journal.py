"""The journal: one atomic store of runs, calls, money, windows, approvals and audit records.

Every method is one atomic, durable commit, or a read. A commit's method returns a future that is set
once the commit is on disk, and that cannot be cancelled: a task that is cancelled while it waits for the
future is cancelled when the commit is known. What every effect makes anew is a named tuple, which costs a third of
a frozen dataclass.
Raises (all methods): RemitError `journal.unavailable`: nothing was written.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

from remit.core.approvals import Approval, Vote
from remit.core.audit import AuditKind
from remit.core.controls import AgentLoad, Control
from remit.core.messages import Usage
from remit.core.money import usd_text
from remit.core.outbox import BUDGET_ALERTS, Delivery, OutboxMessage, message_of
from remit.core.outcomes import OutcomeState
from remit.ports.runs import RunCommits, RunEnding, RunReads


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A sliding rate window: at most `limit` admissions of `key` in any `span_s` seconds."""

    key: str
    limit: int
    span_s: int
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Money to hold at one scope: `spent + held + amount <= cap`, all in nano-USD.

    `alert_percent` is the share of the cap at which an alert is due, None for no alert. `resets_at_us` is when
    the scope's period ends, None where it has none.
    """

    scope: str
    cap_nano_usd: int
    rule: str
    alert_percent: int | None = None
    resets_at_us: int | None = None

    def resets_in_s(self, now_us: int) -> int | None:
        """Seconds until the scope has its whole cap again, rounded up; None where it never has."""
        if self.resets_at_us is None:
            return None
        return max(1, -(-(self.resets_at_us - now_us) // 1_000_000))


class Admission(NamedTuple):
    """Everything that must be true together before an effect may happen.

    `control_scopes`: none of them may be paused. `approval_id`: an approval of exactly this digest under
    this remit, to be used up. `intent`: the audit record of the admission. `content`: the digest of what is
    asked, whatever its place, so that repeated calls are found. `expires_at_us`: when nobody can still expect
    an outcome, and the money held counts as spent. `again`: what was begun and has no outcome is begun again, because it
    may be; what it took is taken already.
    """

    action_id: str
    action_digest: str
    run_id: str
    remit_digest: str
    kind: str
    resource: str
    at_us: int
    control_scopes: tuple[str, ...]
    windows: tuple[Window, ...]
    holds: tuple[Hold, ...]
    amount_nano_usd: int
    approval_id: str | None
    intent: bytes
    content: str
    expires_at_us: int
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """The intent is on disk, the money held. Now, and only now, the effect may happen, once."""


MisfitKind: TypeAlias = Literal["rate", "budget", "paused", "approval", "run", "conflict", "in_flight"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """Nothing was written, because one condition did not hold.

    `rule` is the rule of the window or hold that has no room; `retry_after_s` when it will have some;
    `left_nano_usd` what every scope of the admission still has room for.
    """

    kind: MisfitKind
    detail: str
    rule: str = ""
    retry_after_s: int | None = None
    left_nano_usd: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """This very action came to its outcome before; nothing was written."""

    state: OutcomeState
    result: bytes
    usage: Usage
    cost_nano_usd: int


class Completion(NamedTuple):
    """The outcome of an admitted call.

    `cost_nano_usd` moves from held to spent at every scope of the admission; the rest of the hold is
    freed. `presumed`: nobody could confirm the cost, so the whole hold counts as spent. `saved_nano_usd`, `assumed`:
    as in `Charge`. `result` is what a replay returns. `outcome`: the audit record. `exposes`: an untrusted result that the model will see.
    `ending`: the run ends with this very commit.
    """

    action_id: str
    state: OutcomeState
    result: bytes
    usage: Usage
    cost_nano_usd: int
    at_us: int
    outcome: bytes
    exposes: bool = False
    presumed: bool = False
    saved_nano_usd: int = 0
    assumed: bool = False
    ending: RunEnding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A threshold of a cap that this commit was the first to cross."""

    scope: str
    threshold_percent: int
    spent_nano_usd: int
    cap_nano_usd: int

    def message(self, at_us: int) -> OutboxMessage:
        """What the outside is told of it."""
        data: dict[str, str | int] = {
            "scope": self.scope,
            "threshold_percent": self.threshold_percent,
            "spent_nano_usd": self.spent_nano_usd,
            "spent_usd": usd_text(self.spent_nano_usd),
            "cap_nano_usd": self.cap_nano_usd,
            "cap_usd": usd_text(self.cap_nano_usd),
        }
        return message_of(BUDGET_ALERTS, at_us, data)


class Settled(NamedTuple):
    """The outcome is on disk. `alerts` were crossed by this commit and by no other.

    `run_ended` is False where the run had been ended otherwise before.
    """

    alerts: tuple[Alert, ...] = ()
    run_ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """A record as stored, and its place in the log."""

    seq: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which audit records to read. `open_only`: intents without an outcome. Newest `limit`, oldest first."""

    run_id: str | None = None
    kind: AuditKind | None = None
    since_us: int | None = None
    open_only: bool = False
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One governed call: its admission, and its outcome if it has one (`state` is `started` until then)."""

    action_id: str
    run_id: str
    kind: str
    resource: str
    digest: str
    started_at_us: int
    ended_at_us: int | None
    state: OutcomeState | Literal["started"]
    usage: Usage
    cost_nano_usd: int
    held_nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """The money of one scope, in nano-USD. `presumed` is the part of `spent` that nobody could confirm."""

    scope: str
    spent_nano_usd: int
    held_nano_usd: int
    presumed_nano_usd: int


CostDimension: TypeAlias = Literal["day", "tenant", "agent", "run", "model", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostQuery:
    """Which calls to add up, by the time of their admission, and by what. Days are those of `timezone`."""

    by: tuple[CostDimension, ...] = ()
    since_us: int = 0
    until_us: int | None = None
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """What the calls of one group cost, in nano-USD: all model calls, and the tool calls that cost something.

    `group`: the values of the query's `by`, None where one does not apply (the model of a tool call).
    `saved`: what the prompt cache saved of the plain input price; below zero where writing it cost more.
    `wasted`: of calls that gave no result, and of runs that ended without an answer. `presumed`: the part that
    nobody could confirm. `held`: for calls under way; no part of the cost, nor of `calls`. `repeats`: calls whose
    content the same run had asked before. `assumed_calls`: of unknown service tier or place, charged at the worst.
    """

    group: tuple[str | None, ...]
    calls: int
    usage: Usage
    cost_nano_usd: int
    saved_nano_usd: int
    wasted_nano_usd: int
    presumed_nano_usd: int
    held_nano_usd: int
    repeats: int
    repeated_nano_usd: int
    assumed_calls: int


class JournalReads(RunReads, Protocol):
    """What can be read from a journal, also while another process writes it."""

    async def calls(self, run_id: str) -> Sequence[CallRecord]: ...
    async def unresolved(self, limit: int = 100) -> Sequence[CallRecord]:
        """The calls of which nobody knows whether they happened: unknown, or begun by a run that is not running.

        A call that has started a run is none of them: that run's record says what became of it.
        """
        ...

    async def approval_for(self, action_digest: str) -> Approval | None: ...
    async def approval(self, approval_id: str) -> Approval | None: ...
    async def approvals(self, *, pending_at_us: int | None = None, limit: int = 100) -> Sequence[Approval]:
        """The newest, newest first; where a time is given, those that can be decided then."""
        ...

    async def refusals(self, run_id: str) -> Mapping[str, bytes]:
        """What `refuse` kept of the run's calls, by action id."""
        ...

    async def controls(self) -> Sequence[Control]: ...
    async def agents(self) -> Sequence[AgentLoad]: ...
    async def audit(self, query: AuditQuery) -> Sequence[AuditEntry]: ...
    async def balances(self, prefix: str = "") -> Sequence[Balance]: ...
    async def costs(self, query: CostQuery) -> Sequence[CostRow]: ...
    async def outbox(self, limit: int = 100) -> Sequence[OutboxMessage]: ...


class Journal(JournalReads, RunCommits, Protocol):
    """The decision's memory. One implementation is chosen for a deployment; none keeps state elsewhere."""

    # the two commits of an effect
    def admit(self, admission: Admission) -> Future[Admitted | Recorded | Misfit]: ...
    def complete(self, completion: Completion) -> Future[Settled]: ...
    def record(self, audit: bytes) -> Future[None]:
        """Append one audit record that belongs to no other commit, such as a refusal."""
        ...

    def refuse(self, action_id: str, decision: bytes, audit: bytes) -> Future[None]:
        """Append the record of a refused call, and keep the decision: a run that goes on is told the same again."""
        ...

    def resolve(self, completion: Completion) -> Future[bool]:
        """Give an unresolved call the outcome that a person has found; False where it is not unresolved.

        `completion.outcome` is the audit record of it. What an unknown call cost stays as it was recorded.
        """
        ...

    def expire_holds(self, at_us: int) -> Future[Settled]:
        """Presume spent what expired calls still hold. A late completion gives the difference back."""
        ...

    # remits, approvals and controls
    def register_remit(self, agent: str, digest: str, at_us: int, audit: bytes) -> Future[bool]:
        """Note the remit an agent is under; True, and `audit` is appended, where it is another than before."""
        ...

    def request_approval(self, approval: Approval, audit: bytes) -> Future[Approval]:
        """Store `approval`, or return the one that stands for the same action digest already."""
        ...

    def decide_approval(self, vote: Vote, audit: bytes) -> Future[Approval | None]:
        """Count a vote, by `core.approvals.voted`; the approval after it, or None where it does not count.

        Once nothing is left to decide of a suspended run, the run is ready.
        """
        ...

    def tell_due_approvals(self, at_us: int) -> Future[int]:
        """Leave reminders and escalations that are due in the outbox, each once; how many there were."""
        ...

    def set_control(
        self, scope: str, paused: bool, reason: str, at_us: int, audit: bytes
    ) -> Future[None]: ...

    # the outbox: what commits leave for the outside
    def subscribe(self, topics: frozenset[str]) -> Future[None]:
        """Keep messages of `topics` from now on, and of no others. What is kept already stays."""
        ...

    def claim_messages(self, at_us: int, lease_us: int, limit: int) -> Future[tuple[OutboxMessage, ...]]:
        """Take the messages that are due; nobody else is given them before the lease ends."""
        ...

    def settle_delivery(self, delivery: Delivery) -> Future[bool]:
        """Note what became of a try; False where the message has ended, or was claimed by another since."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, then let go of the store."""
        ...
