"""How a run ends, or why it waits, by an outcome that is not done."""

from __future__ import annotations

from dataclasses import dataclass

from remit.core.messages import ModelReply
from remit.core.outcomes import Failed, Outcome, Refused, Suspended, Unknown
from remit.core.runs import RunEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    """The attempt failed in a way that another attempt may mend."""

    code: str
    message: str
    retry_after_s: float | None = None


def unusable(reply: ModelReply, allowed: int | None, max_output_tokens: int) -> RunEnd | None:
    """The end of a run whose reply cannot be used; `allowed` is how long it was allowed to be."""
    if reply.stop == "refusal":
        return RunEnd(status="failed", code="model.failed", message="the model declined the task")
    if reply.stop != "max_tokens":
        return None
    if allowed is not None and allowed < max_output_tokens:
        message = f"the money left covered a reply of {allowed} tokens, which was cut off"
        return RunEnd(status="refused", code="budget.exhausted", message=message)
    message = f"the model's reply was cut off by max_output_tokens ({max_output_tokens}), or by what its context holds"
    return RunEnd(status="failed", code="model.truncated", message=message)


def is_fenced(outcome: Outcome) -> bool:
    """Whether nothing was done because this worker stood still: another goes on, or this one, later."""
    return isinstance(outcome, Failed) and outcome.code == "worker.fenced" and not outcome.replayed


def end_of(outcome: Outcome) -> RunEnd | AttemptFailed:
    """How the run ends by an outcome that is not done."""
    match outcome:
        case Refused(decision=decision) if decision.code == "run.not_running":
            return RunEnd(status="cancelled", code="run.cancelled", message=decision.reason)
        case Refused(decision=decision) if decision.code in ("agent.paused", "action.conflict"):
            # nothing is lost: it goes on once the agent is resumed, or once what it is told is again what it was
            return RunEnd(status="suspended", code=decision.code, message=decision.explain())
        case Refused(decision=decision) if decision.code in ("journal.unavailable", "journal.unconfirmed"):
            # nothing more was done; what was begun is on record, and it goes on once the journal is back
            return RunEnd(status="suspended", code="run.handed_over", message=decision.reason)
        case Refused(decision=decision):
            return RunEnd(status="refused", code=decision.code, message=decision.explain())
        case Suspended(approval_id=approval_id, decision=decision):
            message = f"approval {approval_id}: {decision.explain()}" if approval_id else decision.explain()
            return RunEnd(status="suspended", code=decision.code, message=message)
        case Unknown(action_id=action_id, reason=reason):
            return RunEnd(status="suspended", code="effect.unknown", message=f"{action_id}: {reason}")
        case Failed(message=message) if is_fenced(outcome):
            return RunEnd(status="suspended", code="run.handed_over", message=message)
        case Failed(code=code, message=message, retryable=True, retry_after_s=retry_after_s):
            return AttemptFailed(code=code, message=message, retry_after_s=retry_after_s)
        case Failed(code=code, message=message):
            return RunEnd(status="failed", code=code, message=message)
    raise AssertionError(outcome)  # Done is handled by the callers
