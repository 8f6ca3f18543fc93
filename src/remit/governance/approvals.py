"""Approvals of actions: what is asked of a person, and what a standing verdict allows."""

from __future__ import annotations

import orjson

from remit.core import audit, ids
from remit.core.actions import Action
from remit.core.approvals import Approval
from remit.core.decisions import Decision
from remit.core.runs import Run
from remit.governance.remit import ApprovalRequirement
from remit.ports.services import Clock


def request(
    action: Action, run: Run, requirement: ApprovalRequirement, clock: Clock
) -> tuple[Approval, bytes]:
    """The approval to ask for, bound to this very action under this very remit, and its audit record."""
    at_us = clock.now_us()
    approval = Approval(
        id=ids.time_ordered(at_us, clock.entropy(10)),
        action_id=action.id,
        action_digest=action.digest,
        run_id=run.id,
        remit_digest=run.remit_digest,
        requested_by=str(run.principal),
        requested_at_us=at_us,
        expires_at_us=at_us + requirement.expires_s * 1_000_000,
        resource=action.resource,
        # the person is shown the very bytes that were digested
        action=orjson.dumps(
            {"args": orjson.Fragment(action.args), "kind": action.kind, "tool": action.resource}
        ),
        rule=requirement.rule,
    )
    record = audit.record(
        "approval.requested",
        at_us,
        {
            "run": run.id,
            "call": action.id.partition(".")[2],
            "agent": run.agent,
            "approval": approval.id,
            "digest": action.digest,
            "resource": f"{action.kind}:{action.resource}",
            "rule": requirement.rule,
        },
    )
    return approval, record


def objection(approval: Approval, remit_digest: str, now_us: int) -> tuple[str, str] | None:
    """Why a decided approval does not allow its action: a code and a reason; None where it does.

    The journal checks the same again in the commit that uses the approval up.
    """
    if approval.verdict == "denied":
        return "approval.denied", f"a person denied it: {approval.reason or 'no reason given'}"
    if approval.remit_digest != remit_digest:
        return "approval.invalid", "it was approved under another remit"
    if approval.expires_at_us <= now_us:
        return "approval.invalid", "the approval has expired"
    if approval.used_at_us is not None:
        return "approval.invalid", "the approval has been used"
    return None


def is_pending(approval: Approval, now_us: int) -> bool:
    """Whether a person can still decide it."""
    return approval.verdict == "pending" and approval.expires_at_us > now_us


def refusal_of(decision: Decision, code: str, reason: str) -> Decision:
    """The denial of an action whose approval does not allow it, by the rule that asked for it."""
    return Decision(effect="deny", code=code, rule=decision.rule, source=decision.source, reason=reason)
