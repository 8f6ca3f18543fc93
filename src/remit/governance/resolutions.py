"""What a person has found of an effect that nobody knew the outcome of: that it happened, or that it did not.

The finding is recorded as the call's outcome, and is what the model is told. Nothing is repeated by it: what did
not happen may be called again, which is another call with another record.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from remit.core import audit, canonical
from remit.core.actions import Principal
from remit.core.errors import RemitError
from remit.core.messages import Usage
from remit.core.runs import Run
from remit.ports.journal import CallRecord, Completion

REASON_CHARS_MAX = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Whether the effect took place, who says so, and how they know."""

    happened: bool
    by: Principal
    reason: str


def resolution(call: CallRecord, run: Run, finding: Finding, at_us: int) -> Completion:
    """The outcome of an unresolved call, by what a person has found.

    Raises: RemitError `approval.not_permitted` for another tenant, `value.too_large`.
    """
    if finding.by.tenant != run.tenant:
        raise RemitError("approval.not_permitted", "it belongs to another tenant")
    if len(finding.reason) > REASON_CHARS_MAX:
        raise RemitError("value.too_large", f"the reason is longer than {REASON_CHARS_MAX} characters")
    found = "did take effect" if finding.happened else "did not take effect, and may be made again"
    shown = orjson.dumps(
        {
            "code": "effect.happened" if finding.happened else "effect.not_happened",
            "message": f"a person has found that the call {found}: {finding.reason}",
            "retryable": not finding.happened,
            "happened": finding.happened,
        }
    )
    record = audit.record(
        "effect.resolved",
        at_us,
        {
            "run": run.id,
            "call": call.action_id.partition(".")[2],
            "agent": run.agent,
            "resource": f"{call.kind}:{call.resource[:128]}",
            "digest": call.digest,
            "happened": finding.happened,
            "by": str(finding.by),
            "reason": finding.reason,
            "result": canonical.digest(shown),
        },
    )
    return Completion(
        action_id=call.action_id,
        state="failed",
        result=shown,
        usage=Usage(),
        cost_nano_usd=0,
        at_us=at_us,
        outcome=record,
        presumed=finding.happened,
    )
