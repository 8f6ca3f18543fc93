"""Denials that follow from something other than a rule: an error, a condition that did not hold."""

from __future__ import annotations

from dataclasses import replace

from remit.core.decisions import Decision
from remit.core.errors import RemitError
from remit.governance.rules import Rules
from remit.ports.journal import Misfit

_MISFITS = {
    "rate": ("rate.limited", "rate_limits"),
    "budget": ("budget.exhausted", "cost_controls"),
    "paused": ("agent.paused", "name"),
    "approval": ("approval.invalid", "approvals"),
    "run": ("run.not_running", "name"),
    "conflict": ("action.conflict", "name"),
    "in_flight": ("action.in_flight", "name"),
}


def of_code(code: str, reason: str) -> Decision:
    """A denial that no line of the file stands behind."""
    return Decision(effect="deny", code=code, rule=code.partition(".")[0], source="", reason=reason)


def of_error(error: Exception, rules: Rules) -> Decision:
    """The denial that follows from an error before the effect: nothing was done."""
    if not isinstance(error, RemitError):
        return of_code("policy.error", f"the gate failed with {type(error).__name__}, which denies")
    if error.code == "price.unknown":
        return rules.deny(error.code, "model", error.message)
    return of_code(error.code, f"{error.message}: nothing is done without a record")


def of_misfit(misfit: Misfit, rules: Rules) -> Decision:
    """The denial that follows from a condition of the admission that did not hold."""
    code, rule = _MISFITS[misfit.kind]
    denial = rules.deny(code, misfit.rule or rule, misfit.detail)
    if misfit.retry_after_s is None:
        return denial
    return replace(denial, remedy=f"there is room again in {misfit.retry_after_s} s")
