"""The audit records of the gate: who wanted what, what was decided by which rule, what became of it."""

from __future__ import annotations

from collections.abc import Sequence

from remit.core import audit, canonical
from remit.core.actions import Action, ModelCall
from remit.core.audit import Fields
from remit.core.decisions import Decision
from remit.core.messages import Usage
from remit.core.outcomes import Done, Failed, Unknown
from remit.core.runs import Run, RunEnd
from remit.governance import budget
from remit.governance.results import Attempted
from remit.ports.journal import Admission, Completion


def intent(run: Run, action: Action, decision: Decision, held_nano_usd: int, at_us: int) -> bytes:
    """An effect is admitted and is about to happen."""
    fields = _decided(run, action, decision)
    if held_nano_usd:
        fields["held_nano_usd"] = held_nano_usd
    if isinstance(action, ModelCall):
        fields["max_output_tokens"] = action.request.max_output_tokens
        if budget.is_counted(action.request):
            fields["bound"] = "counted"
    return audit.record("intent", at_us, fields)


def counting(run: Run, action: Action, at_us: int) -> bytes:
    """A model's provider is about to be asked how many tokens a permitted call has."""
    return audit.record("count", at_us, _about(run, action) | {"digest": action.digest})


def refusal(run: Run, action: Action, decision: Decision, at_us: int) -> bytes:
    """An action was refused. The reason is a rule's own words and holds nothing of the arguments."""
    fields = _decided(run, action, decision)
    fields["code"] = decision.code
    fields["reason"] = decision.reason
    return audit.record("refusal", at_us, fields)


def outcome(run: Run, action: Action, attempted: Attempted, at_us: int) -> bytes:
    """What became of an admitted effect."""
    fields = _about(run, action)
    fields["outcome"] = attempted.state
    if attempted.cost_nano_usd:
        fields["cost_nano_usd"] = attempted.cost_nano_usd
    if attempted.presumed:
        fields["cost"] = "presumed"
    elif attempted.assumed:
        fields["cost"] = "assumed"
    shown = attempted.outcome
    if isinstance(shown, Done) and shown.label is not None:
        fields["trust"] = shown.label.trust
        fields["result"] = shown.label.digest
        if shown.label.classes:
            fields["classes"] = list(shown.label.classes)
    else:
        fields["result"] = canonical.digest(attempted.result)
    if isinstance(shown, Failed):
        fields["code"] = shown.code
    elif isinstance(shown, Unknown):
        fields["code"] = "effect.unknown"
    return audit.record("outcome", at_us, fields)


def withdrawn(admission: Admission, at_us: int) -> Completion:
    """The completion of an intent whose run was cancelled before the effect was begun."""
    run_id, _, call = admission.action_id.partition(".")
    resource = f"{admission.kind}:{admission.resource[:128]}"
    fields: Fields = {"run": run_id, "call": call, "resource": resource}
    return Completion(
        action_id=admission.action_id,
        state="cancelled",
        result=b"",
        usage=Usage(),
        cost_nano_usd=0,
        at_us=at_us,
        outcome=audit.record("outcome", at_us, fields | {"outcome": "cancelled"}),
    )


def run_ended(run: Run, end: RunEnd, at_us: int) -> bytes:
    """A run ended, or waits for a person."""
    fields: Fields = {
        "run": run.id,
        "agent": run.agent,
        "status": end.status,
        "trace": run.trace_id,
    }
    if end.code:
        fields["code"] = end.code
    if end.answer:
        fields["answer"] = canonical.digest(end.answer.encode(errors="replace"))
    return audit.record("run.ended", at_us, fields)


def run_created(run: Run, at_us: int, attachments: Sequence[str] = ()) -> bytes:
    """A principal gave an agent a task. `attachments`: the digests of what was attached to it."""
    fields: Fields = {
        "run": run.id,
        "agent": run.agent,
        "tenant": run.tenant,
        "principal": str(run.principal),
        "remit": run.remit_digest,
        "task": run.task.digest,
        "trace": run.trace_id,
    }
    if attachments:
        fields["attachments"] = list(attachments)
    if run.parent is not None:
        fields |= {"parent": run.parent, "depth": run.depth}
    return audit.record("run.created", at_us, fields)


def _decided(run: Run, action: Action, decision: Decision) -> Fields:
    """What every record of a decision on an action says."""
    fields = _about(run, action)
    fields["digest"] = action.digest
    fields["decision"] = decision.effect
    fields["rule"] = decision.rule
    fields["source"] = decision.source
    return fields


def _about(run: Run, action: Action) -> Fields:
    """What every record of an action says: the run, the place in it, the agent, the thing acted on."""
    return {
        "run": run.id,
        "call": f"{action.place.step}.{action.place.name}",
        "agent": run.agent,
        "resource": f"{action.kind}:{action.resource[:128]}",
    }
