"""Approvals of actions: what is asked of a person, and what a standing verdict allows."""

from __future__ import annotations

import orjson

from remit.core import audit, ids
from remit.core.actions import Action, ToolCall
from remit.core.approvals import Approval
from remit.core.decisions import Decision
from remit.core.outcomes import Done, Outcome
from remit.core.runs import Run
from remit.governance.remit import ApprovalRequirement
from remit.governance.rules import Rules
from remit.ports.services import Clock


def request(
    action: Action, run: Run, requirement: ApprovalRequirement, decision: Decision, clock: Clock
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
            {
                "args": orjson.Fragment(action.args),
                "kind": action.kind,
                "tool": action.resource,
                "agent": run.agent,
                "reason": decision.reason,
                "source": decision.source,
            }
        ),
        rule=requirement.rule,
        roles=requirement.roles,
        quorum=requirement.quorum,
        remind_at_us=_after(at_us, requirement.remind_after_s),
        escalate_at_us=_after(at_us, requirement.escalate_after_s),
        escalate_to=requirement.escalate_to,
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


def approved(
    action: Action, decision: Decision, approval: Approval, rules: Rules, now_us: int
) -> tuple[Decision, str | None, Action]:
    """What to do by an approval that stands: the decision, the approval to use up, and the action as a person left it.

    An edited action is decided anew: the remit may deny it, and an approval of one rule is none of another.
    """
    problem = objection(approval, rules.remit.digest, now_us)
    # an approval that was used is let through to the journal, which knows the outcome it was used for
    if problem is not None and approval.used_at_us is None:
        return refusal_of(decision, *problem), None, action
    if approval.edited_args is None or not isinstance(action, ToolCall):
        return decision, approval.id, action
    edited = ToolCall(
        place=action.place, resource=action.resource, args=approval.edited_args, call_id=action.call_id
    )
    if edited.digest != approval.edited_digest:
        reason = "the edited call is not the one that was approved"
        return refusal_of(decision, "approval.invalid", reason), None, action
    anew = rules.decide(edited)
    if anew.effect == "deny":
        return anew, None, edited
    if anew.effect == "require_approval" and anew.rule != approval.rule:
        return refusal_of(anew, "approval.invalid", "the edited call needs another approval"), None, edited
    return anew, approval.id, edited


def noted(outcome: Outcome, action: Action) -> Outcome:
    """The outcome of an edited action: the model is told what was done in the place of what it asked for."""
    if not isinstance(outcome, Done):
        return outcome
    return outcome._replace(
        note=f"a person changed the arguments before it was done, to {action.args.decode()}"
    )


def _after(at_us: int, seconds: int | None) -> int | None:
    return None if seconds is None else at_us + seconds * 1_000_000


def refusal_of(decision: Decision, code: str, reason: str) -> Decision:
    """The denial of an action whose approval does not allow it, by the rule that asked for it."""
    return Decision(effect="deny", code=code, rule=decision.rule, source=decision.source, reason=reason)
