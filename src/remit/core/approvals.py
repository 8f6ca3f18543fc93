"""An approval is bound to one action's digest under one remit, expires, and is used once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from remit.core.outbox import OutboxMessage, message_of

ApprovalVerdict: TypeAlias = Literal["pending", "approved", "denied"]

APPROVAL_REQUESTED = "approval.requested"
APPROVAL_REMINDER = "approval.reminder"
APPROVAL_ESCALATED = "approval.escalated"
APPROVAL_TOPICS = frozenset({APPROVAL_REQUESTED, APPROVAL_REMINDER, APPROVAL_ESCALATED})
"""The topics of what the outside is told of approvals, each once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Times are microseconds since 1970 in UTC. `action` is the JSON a person is shown.

    `requested_by`: on whose behalf, who cannot decide it. `roles`: any of them may decide, everybody where there are
    none; `escalate_to` may as well, from `escalate_at_us` on. `votes`: who has approved it as it now stands; with
    `quorum` of them it is approved. `edited_digest`, `edited_args`: the action that takes the place of what was
    asked. `remind_at_us`, `escalate_at_us`: when somebody is to be told.
    """

    id: str
    action_id: str
    action_digest: str
    run_id: str
    remit_digest: str
    requested_by: str
    requested_at_us: int
    expires_at_us: int
    resource: str
    action: bytes
    rule: str
    verdict: ApprovalVerdict = "pending"
    decided_by: str | None = None
    decided_at_us: int | None = None
    reason: str = ""
    used_at_us: int | None = None
    roles: tuple[str, ...] = ()
    quorum: int = 1
    votes: tuple[str, ...] = ()
    edited_digest: str | None = None
    edited_args: bytes | None = None
    remind_at_us: int | None = None
    escalate_at_us: int | None = None
    escalate_to: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The digest of the action as it now stands: what was asked, or what a person made of it."""
        return self.edited_digest or self.action_digest

    def is_pending(self, now_us: int) -> bool:
        """Whether a person can still decide it."""
        return self.verdict == "pending" and self.expires_at_us > now_us

    def message(self, topic: str, at_us: int) -> OutboxMessage:
        """What the outside is told of it: nothing of the arguments, which are for those who may decide."""
        data: dict[str, str | int] = {
            "approval": self.id,
            "run": self.run_id,
            "resource": self.resource,
            "rule": self.rule,
            "requested_by": self.requested_by,
            "expires_at_us": self.expires_at_us,
            "roles": ",".join(self.escalate_to if topic == APPROVAL_ESCALATED else self.roles),
            "quorum": self.quorum,
        }
        return message_of(topic, at_us, data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What one person says. `digest`: the action that the person was shown.

    `edited_digest`, `edited_args`: the action to do in its place.
    """

    approval_id: str
    approves: bool
    by: str
    at_us: int
    digest: str
    reason: str = ""
    edited_digest: str | None = None
    edited_args: bytes | None = None


def voted(approval: Approval, vote: Vote) -> Approval | None:
    """The approval after the vote; None where it does not count.

    It counts while the approval is pending and shows what the voter saw, once for each person, and never for who
    asked. One denial denies; an edit begins the count anew.
    """
    if not approval.is_pending(vote.at_us) or vote.digest != approval.digest:
        return None
    if vote.by == approval.requested_by:
        return None
    said = replace(approval, decided_by=vote.by, decided_at_us=vote.at_us, reason=vote.reason)
    if not vote.approves:
        return replace(said, verdict="denied")
    if vote.edited_digest is not None:
        said = replace(said, edited_digest=vote.edited_digest, edited_args=vote.edited_args, votes=(vote.by,))
    elif vote.by in approval.votes:
        return None
    else:
        said = replace(said, votes=(*approval.votes, vote.by))
    return replace(said, verdict="approved") if len(said.votes) >= said.quorum else said
