"""Who may decide an approval, what they are shown, and what their vote says.

What is shown is what was asked: the stored action is held against the digest that the gate asked under. Identity
and roles come from whoever authenticated the person, never from the approval.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from remit.core import actions, audit
from remit.core.actions import Place, Principal, ToolCall
from remit.core.approvals import Approval, Vote
from remit.core.audit import Fields
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.runs import Run
from remit.governance.rules import Rules

REASON_CHARS_MAX = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a person says: yes or no, why, and for an edit the action to do in the place of what was asked."""

    approves: bool
    reason: str = ""
    edited: ToolCall | None = None


def asked(approval: Approval, run: Run) -> ToolCall:
    """The action that the approval now stands for.

    Raises: RemitError `approval.invalid` where what is stored is not what the gate asked for.
    """
    shown = orjson.loads(approval.action)
    original = _call(approval, run, shown["args"])
    wanted = (approval.action_id, approval.action_digest, approval.resource, approval.run_id)
    if (original.id, original.digest, shown["tool"], run.id) != wanted:
        raise RemitError(
            "approval.invalid",
            "the stored action is not the one that was asked for: somebody has changed the journal",
            remedy="decide nothing; look into who wrote the journal's file",
        )
    if approval.edited_args is None:
        return original
    return edited(approval, run, orjson.loads(approval.edited_args))


def edited(approval: Approval, run: Run, args: Json) -> ToolCall:
    """The action with `args` in the place of what was asked."""
    return _call(approval, run, args)


def check_edit(action: ToolCall, approval: Approval, rules: Rules) -> None:
    """That the remit permits the edited action, by the rule that the approval is of or by none.

    Raises: RemitError `approval.invalid` for another remit; the code of the rule that denies it.
    """
    if rules.remit.digest != approval.remit_digest:
        raise RemitError(
            "approval.invalid",
            "this is not the governance file that the run began under",
            remedy="give the file as it was, with --config",
        )
    decision = rules.decide(action)
    if decision.effect == "deny":
        raise RemitError(decision.code, f"the edited call is not permitted: {decision.explain()}")
    if decision.effect == "require_approval" and decision.rule != approval.rule:
        raise RemitError(
            "approval.invalid",
            f"the edited call needs another approval: {decision.explain()}",
            remedy="deny this one, so that the agent asks for the other",
        )


def vote(approval: Approval, run: Run, person: Principal, verdict: Verdict, at_us: int) -> tuple[Vote, bytes]:
    """The vote of `person` on the approval as it now stands, and its audit record.

    Raises: RemitError `approval.not_permitted`, `approval.invalid`, `value.too_large`.
    """
    action = asked(approval, run)
    _check_person(approval, run, person)
    if approval.verdict != "pending":
        raise RemitError("approval.invalid", f"it was {approval.verdict} by {approval.decided_by} already")
    if not approval.is_pending(at_us):
        raise RemitError("approval.invalid", f"it expired at {audit.timestamp(approval.expires_at_us)}")
    if str(person) in approval.votes and verdict.approves and verdict.edited is None:
        message = f"{person} has approved it already; {approval.quorum} different people must"
        raise RemitError("approval.not_permitted", message)
    if len(verdict.reason) > REASON_CHARS_MAX:
        raise RemitError("value.too_large", f"the reason is longer than {REASON_CHARS_MAX} characters")
    said = Vote(
        approval_id=approval.id,
        approves=verdict.approves,
        by=str(person),
        at_us=at_us,
        digest=action.digest,
        reason=verdict.reason,
        edited_digest=None if verdict.edited is None else verdict.edited.digest,
        edited_args=None if verdict.edited is None else verdict.edited.args,
    )
    return said, _record(approval, run, said)


def _check_person(approval: Approval, run: Run, person: Principal) -> None:
    if person.tenant != run.tenant:
        raise RemitError("approval.not_permitted", "it belongs to another tenant")
    if str(person) == approval.requested_by or person.id == run.principal.on_behalf_of:
        raise RemitError(
            "approval.not_permitted",
            f"{person} asked for it, and nobody approves what they asked for",
            remedy="have somebody else decide",
        )
    if approval.roles and not set(approval.roles) & set(person.roles):
        wanted = " or ".join(approval.roles)
        raise RemitError("approval.not_permitted", f"{person} has not the role {wanted} that may decide it")


def _record(approval: Approval, run: Run, said: Vote) -> bytes:
    fields: Fields = {
        "run": run.id,
        "call": approval.action_id.partition(".")[2],
        "agent": run.agent,
        "approval": approval.id,
        "digest": said.digest,
        "resource": f"tool:{approval.resource}",
        "by": said.by,
        "verdict": "approved" if said.approves else "denied",
    }
    if said.edited_digest is not None:
        fields["edited_digest"] = said.edited_digest
    if said.reason:
        fields["reason"] = said.reason
    return audit.record("approval.decided", said.at_us, fields)


def _call(approval: Approval, run: Run, args: Json) -> ToolCall:
    _, step, name = approval.action_id.rsplit(".", 2)
    place = Place(run_id=run.id, step=int(step), name=name, principal=run.principal)
    return actions.tool_call(place, approval.resource, "", args)
