"""Gates and journals with one fault each, such as a hurried change could make.

A proof of the gate that lets one of them live proves nothing: a test runs the same machine on every
mutant and demands that it fails.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeAlias

from remit.core.actions import Action, ModelCall, ToolCall
from remit.core.decisions import Decision
from remit.core.errors import RemitError
from remit.core.outcomes import Done, Outcome, Suspended
from remit.governance.gate import Gate, GovernedRun
from remit.governance.results import Attempted
from remit.ports.journal import Admission, Admitted, Completion, Journal, Misfit, Recorded, Settled
from remit.testing.faulty_journal import WrappedJournal


class FailOpen(Gate):
    """A rule that fails allows."""

    def _decide(self, action: Action, governed: GovernedRun) -> Decision:
        decision = super()._decide(action, governed)
        if decision.code == "policy.error" and isinstance(action, ToolCall):
            allowed = governed.rules._allow_tool.get(action.resource)
            return decision if allowed is None else allowed
        return decision


class AllowsWhatNobodyGranted(Gate):
    """A tool of a data class that is denied is called all the same."""

    def _decide(self, action: Action, governed: GovernedRun) -> Decision:
        decision = super()._decide(action, governed)
        return governed.rules._allow_tool[action.resource] if decision.code == "data.denied" else decision


class IgnoresApprovals(Gate):
    """What needs a person's approval is done without."""

    async def _approval(
        self, action: Action, governed: GovernedRun, decision: Decision
    ) -> Suspended | tuple[Decision, str | None, Action]:
        return replace(decision, effect="allow"), None, action


class IgnoresExpiry(Gate):
    """What was not decided in time counts as approved."""

    async def _approval(
        self, action: Action, governed: GovernedRun, decision: Decision
    ) -> Suspended | tuple[Decision, str | None, Action]:
        verdict = await super()._approval(action, governed, decision)
        if isinstance(verdict, tuple) and verdict[0].code == "approval.invalid":
            return replace(decision, effect="allow"), None, action
        return verdict


class EffectBeforeAdmission(Gate):
    """The effect is done while the record of it is under way."""

    async def _admit(self, admission: Admission) -> Admitted | Recorded | Misfit:
        future = self._journal.admit(admission)
        if not future.done():
            return Admitted()
        return future.result()


class PerformsTwice(Gate):
    """A failed effect is tried once more."""

    async def _attempt(self, action: Action, governed: GovernedRun, decision: Decision) -> Attempted:
        attempted = await super()._attempt(action, governed, decision)
        if attempted.state != "done":
            return await super()._attempt(action, governed, decision)
        return attempted


class RepeatsTheUnknown(Gate):
    """What nobody can know is done again when it is asked for again."""

    async def _admit(self, admission: Admission) -> Admitted | Recorded | Misfit:
        admitted = await super()._admit(admission)
        if isinstance(admitted, Recorded) and admitted.state == "unknown":
            return Admitted()
        return admitted


class ExecutesTheCallersDict(Gate):
    """The tool gets something else than what was digested."""

    async def _attempt(self, action: Action, governed: GovernedRun, decision: Decision) -> Attempted:
        if isinstance(action, ToolCall):
            action = replace(action, args=b'{"amount":1,"to":"mallory"}')
        return await super()._attempt(action, governed, decision)


class LeavesTheCancelledOpen(Gate):
    """Whoever is cancelled while the journal decides leaves an intent behind."""

    async def _admit(self, admission: Admission) -> Admitted | Recorded | Misfit:
        return await self._journal.admit(admission)


class ForgetsTheInterrupted(Gate):
    """What is cancelled under way has no outcome."""

    async def _perform_admitted(
        self, action: Action, governed: GovernedRun, decision: Decision, held_nano_usd: int
    ) -> Outcome:
        task = asyncio.ensure_future(super()._attempt(action, governed, decision))
        attempted = await task
        await self._complete(action, governed, attempted)
        return attempted.outcome


class TrustsLabelsOfResults(Gate):
    """A result says itself how far it is trusted."""

    async def perform(self, action: Action, governed: GovernedRun) -> Outcome:
        outcome = await super().perform(action, governed)
        if isinstance(outcome, Done) and outcome.label is not None and isinstance(outcome.value, Mapping):
            trust = outcome.value.get("trust", outcome.label.trust)
            return outcome._replace(label=outcome.label._replace(trust=trust))
        return outcome


class FreesWhatTimedOut(Gate):
    """A model call without an answer counts as free."""

    async def _attempt(self, action: Action, governed: GovernedRun, decision: Decision) -> Attempted:
        return (await super()._attempt(action, governed, decision))._replace(presumed=False)


class ChecksMoneyWithoutHolding(Gate):
    """The cap is looked at, and nothing is held."""

    async def _admit(self, admission: Admission) -> Admitted | Recorded | Misfit:
        return await super()._admit(admission._replace(amount_nano_usd=min(admission.amount_nano_usd, 1)))


class WithoutIntent(WrappedJournal):
    """Admits without a record."""

    def admit(self, admission: Admission) -> Future[Admitted | Recorded | Misfit]:
        future: Future[Any] = asyncio.get_running_loop().create_future()
        future.set_result(Admitted())
        return future


class ForgetsOutcomes(WrappedJournal):
    """Says that the outcome is on record, and records nothing: the hold is never settled."""

    def complete(self, completion: Completion) -> Future[Settled]:
        future: Future[Any] = asyncio.get_running_loop().create_future()
        future.set_result(Settled(run_ended=completion.ending is not None))
        return future


class LeaksHolds(WrappedJournal):
    """Never frees the hold of what failed."""

    def complete(self, completion: Completion) -> Future[Settled]:
        if completion.state == "failed":
            future: Future[Any] = asyncio.get_running_loop().create_future()
            future.set_result(Settled())
            return future
        return self.inner.complete(completion)


class IgnoresPauses(WrappedJournal):
    """Does not look whether something is paused."""

    def admit(self, admission: Admission) -> Future[Admitted | Recorded | Misfit]:
        return self.inner.admit(admission._replace(control_scopes=("-", "-", "-")))


class IgnoresWindows(WrappedJournal):
    """Counts no rates."""

    def admit(self, admission: Admission) -> Future[Admitted | Recorded | Misfit]:
        return self.inner.admit(admission._replace(windows=()))


class UsesApprovalsTwice(WrappedJournal):
    """Does not use an approval up."""

    def admit(self, admission: Admission) -> Future[Admitted | Recorded | Misfit]:
        return self.inner.admit(admission._replace(approval_id=None))


class DoesNotCompareDigests(WrappedJournal):
    """Takes another action under a known id for the same one."""

    def admit(self, admission: Admission) -> Future[Admitted | Recorded | Misfit]:
        return _answer(self.inner.admit(admission), _pretend_recorded)


class SpendsOneDayOnly(WrappedJournal):
    """Holds the money at the run alone, not at the day."""

    def admit(self, admission: Admission) -> Future[Admitted | Recorded | Misfit]:
        return self.inner.admit(admission._replace(holds=admission.holds[:1]))


class ModelsForFree(Gate):
    """Does not look at prices."""

    def _admission(
        self, action: Action, governed: GovernedRun, decision: Decision, approval_id: str | None, at_us: int
    ) -> Admission:
        admission = super()._admission(action, governed, decision, approval_id, at_us)
        if isinstance(action, ModelCall):
            return admission._replace(amount_nano_usd=0, holds=())
        return admission


def _pretend_recorded(verdict: Any) -> Any:
    if isinstance(verdict, Misfit) and verdict.kind == "conflict":
        return Admitted()
    return verdict


def _answer(future: Future[Any], change: Callable[[Any], Any]) -> Future[Any]:
    changed: Future[Any] = asyncio.get_running_loop().create_future()

    def pass_on(done: Future[Any]) -> None:
        error = done.exception()
        if changed.cancelled():
            return
        if isinstance(error, RemitError):
            changed.set_exception(error)
        else:
            changed.set_result(change(done.result()))

    future.add_done_callback(pass_on)
    return changed


GateMutant: TypeAlias = type[Gate]
JournalMutant: TypeAlias = Callable[[Journal], WrappedJournal]

GATE_MUTANTS: tuple[GateMutant, ...] = (
    FailOpen,
    AllowsWhatNobodyGranted,
    IgnoresApprovals,
    IgnoresExpiry,
    EffectBeforeAdmission,
    PerformsTwice,
    RepeatsTheUnknown,
    ExecutesTheCallersDict,
    LeavesTheCancelledOpen,
    ForgetsTheInterrupted,
    TrustsLabelsOfResults,
    FreesWhatTimedOut,
    ChecksMoneyWithoutHolding,
    ModelsForFree,
)
JOURNAL_MUTANTS: Mapping[str, JournalMutant] = MappingProxyType(
    {
        mutant.__name__: mutant
        for mutant in (
            WithoutIntent,
            ForgetsOutcomes,
            LeaksHolds,
            IgnoresPauses,
            IgnoresWindows,
            UsesApprovalsTwice,
            DoesNotCompareDigests,
            SpendsOneDayOnly,
        )
    }
)
