"""The one door: every effect an agent wants passes `Gate.perform`, and nothing goes round it.

It decides, records and holds the money in one commit, then acts, then records the outcome and settles
in one commit. What it cannot decide it denies; what it cannot record it does not do; what nobody can
know it calls unknown and never does again.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from remit.core.actions import Action, MemoryRead, ModelCall, Release, ToolCall
from remit.core.decisions import Decision
from remit.core.errors import RemitError
from remit.core.outcomes import Failed, Outcome, Refused, Suspended, Unknown
from remit.core.runs import Run, RunEnd
from remit.core.tools import Isolation, ToolSpec
from remit.governance import approvals, budget, denials, history, limits, pauses, records, results
from remit.governance.budget import TenantCap
from remit.governance.deadlines import Deadlines, cancels_of_task
from remit.governance.effects import Effectful, Performer, is_of_run, note_seen
from remit.governance.effects import Effects as Effects
from remit.governance.effects import GovernedRun as GovernedRun
from remit.governance.history import is_doubtful
from remit.governance.results import Attempted
from remit.ports.effects import EffectFailed, EffectPending
from remit.ports.journal import (
    Admission,
    Admitted,
    Completion,
    Journal,
    Misfit,
    Recorded,
    Settled,
    Window,
)
from remit.ports.runs import RunEnding
from remit.ports.services import Clock, EffectEnded, HasLease, Prices, Telemetry, ThresholdCrossed


def always() -> bool:
    """The lease of a process that shares its runs with no other."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class GateServices:
    """What the gate needs beside the effects."""

    journal: Journal
    prices: Prices
    clock: Clock
    telemetry: Telemetry
    tenant_cap: TenantCap | None = None
    has_lease: HasLease = always


LEASE_GRACE_S = 60.0
"""So long after its deadline nobody can still expect a call's outcome: what it holds is presumed spent."""


class Gate:
    """Performs actions within their remit. It alone holds the effect ports."""

    def __init__(self, services: GateServices, effects: Effects) -> None:
        self._journal = services.journal
        self._prices = services.prices
        self._clock = services.clock
        self._telemetry = services.telemetry
        self._tenant_cap = services.tenant_cap
        self._effects = effects
        self._performer = Performer(
            effects=effects,
            prices=services.prices,
            clock=services.clock,
            has_lease=services.has_lease,
            telemetry=services.telemetry,
            gate=self._perform,
        )
        self._deadlines = Deadlines()

    async def perform(self, action: Action, governed: GovernedRun) -> Outcome:
        """Decide, record, do and record `action`; say what became of it. Raises only cancellation."""
        cancels = cancels_of_task()
        outcome = await self._perform(action, governed)
        if cancels_of_task() > cancels:
            raise asyncio.CancelledError  # it was recorded and told first; stop means stop
        return outcome

    async def _perform(self, action: Action, governed: GovernedRun) -> Outcome:
        """As `perform`; what was cut off by a cancellation after it was begun is told, and not raised."""
        past = governed.history
        if past is not None and (known := past.outcome_of(action, governed.rules.tools)) is not None:
            return known  # it was told when it came about
        started_us = self._clock.now_us()
        began_ns = self._clock.monotonic_ns()
        decision = self._decide(action, governed)
        outcome: Outcome = Failed(code="effect.cancelled", message="the run was cancelled")
        try:
            decision, outcome = await self._carry_out(action, governed, decision, started_us)
            if governed.seen is not None:
                note_seen(governed.seen, action, outcome)
            return outcome
        finally:
            self._telemetry.emit(
                EffectEnded(
                    run=governed.run,
                    action=action,
                    attempt=governed.attempt,
                    decision=decision,
                    outcome=outcome,
                    started_us=started_us,
                    duration_us=(self._clock.monotonic_ns() - began_ns) // 1000,
                    isolation=_isolation_of(action, governed),
                )
            )

    def _decide(self, action: Action, governed: GovernedRun) -> Decision:
        try:
            run = governed.run
            if not is_of_run(action, run):
                return denials.of_code("policy.error", "this action belongs to another run")
            if run.remit_digest != governed.rules.remit.digest:
                return denials.of_code("policy.error", "these are not the rules that the run began under")
            return governed.rules.decide(action, governed.seen)
        except Exception as error:
            return denials.of_code("policy.error", f"a rule failed with {type(error).__name__}, which denies")

    async def _carry_out(
        self, action: Action, governed: GovernedRun, decision: Decision, at_us: int
    ) -> tuple[Decision, Outcome]:
        """The action's outcome, and the decision that led to it."""
        approval_id = None
        if decision.effect == "require_approval":
            verdict = await self._approval(action, governed, decision)
            if isinstance(verdict, Suspended):
                return decision, verdict
            decision, approval_id, approved = verdict
            if approved is not action and approval_id is not None:
                decision, outcome = await self._permitted(approved, governed, decision, approval_id, at_us)
                return decision, approvals.noted(outcome, approved)
        if decision.effect != "allow" and approval_id is None:
            return decision, await self._refuse(action, governed, decision, at_us)
        return await self._permitted(action, governed, decision, approval_id, at_us)

    async def _permitted(
        self, action: Action, governed: GovernedRun, decision: Decision, approval_id: str | None, at_us: int
    ) -> tuple[Decision, Outcome]:
        """Admit and perform what the rules, or a person, permit."""
        try:
            admission = self._admission(action, governed, decision, approval_id, at_us)
            admitted = await self._admit(admission)
            if isinstance(admitted, Misfit) and isinstance(action, ModelCall):
                lowered = await self._lowered(action, governed, admitted, at_us)
                if lowered is not None:
                    action = lowered
                    admission = self._admission(action, governed, decision, approval_id, at_us)
                    admitted = await self._admit(admission)
        except Exception as error:
            denial = denials.of_error(error, governed.rules)
            return denial, await self._refuse(action, governed, denial, at_us)
        if isinstance(admitted, Misfit):
            denial = denials.of_misfit(admitted, governed.rules)
            refused = await self._refuse(action, governed, denial, at_us)
            if admission.again and admitted.kind == "paused":
                return denial, Suspended(
                    decision=refused.decision
                )  # it was begun: nobody is told that it was not
            return denial, refused
        if isinstance(admitted, Recorded):
            return decision, await self._replay(action, governed, admitted)
        held_nano_usd = admission.amount_nano_usd
        del admission  # the effect may take minutes, and many may wait: what is on disk is not kept as well
        return decision, await self._perform_admitted(action, governed, decision, held_nano_usd)

    async def _approval(
        self, action: Action, governed: GovernedRun, decision: Decision
    ) -> Suspended | tuple[Decision, str | None, Action]:
        """Suspended until a person decides; else the decision, the approval to use up, and the action to do."""
        try:
            standing = await self._journal.approval_for(action.digest)
            if standing is None:
                requirement = governed.rules.requirement(decision.rule)
                asked, record = approvals.request(action, governed.run, requirement, decision, self._clock)
                standing = await self._journal.request_approval(asked, record)
        except Exception as error:
            return denials.of_error(error, governed.rules), None, action
        now_us = self._clock.now_us()
        if standing.is_pending(now_us):
            return Suspended(approval_id=standing.id, decision=decision)
        return approvals.approved(action, decision, standing, governed.rules, now_us)

    def _admission(
        self, action: Action, governed: GovernedRun, decision: Decision, approval_id: str | None, at_us: int
    ) -> Admission:
        """Everything that must hold, and be taken, for the effect. Raises: RemitError `price.unknown`."""
        run, rules, tool = governed.run, governed.rules, _tool_of(action, governed)
        amount = 0
        windows: tuple[Window, ...] = ()
        again = governed.history is not None and action.id in governed.history.open
        if isinstance(action, ModelCall):
            amount = self._prices.worst_cost(action.resource, *budget.call_bounds(action))
        elif isinstance(action, ToolCall) and tool is not None:
            amount = tool.price_nano_usd
            windows = limits.windows(run, tool, rules.limits(tool.name), action)
        return Admission(
            action_id=action.id,
            action_digest=action.digest,
            run_id=run.id,
            remit_digest=run.remit_digest,
            kind=action.kind,
            resource=action.resource,
            at_us=at_us,
            control_scopes=pauses.scopes(run, action, governed.callers, None if again else tool),
            windows=windows,
            holds=budget.holds(run, rules.remit, at_us, self._tenant_cap, governed.callers) if amount else (),
            amount_nano_usd=amount,
            approval_id=approval_id,
            intent=records.intent(run, action, decision, amount, at_us),
            content=action.content,
            expires_at_us=at_us + int((decision.constraints.timeout_s + LEASE_GRACE_S) * 1_000_000),
            again=again,
        )

    async def _lowered(
        self, action: ModelCall, governed: GovernedRun, misfit: Misfit, at_us: int
    ) -> ModelCall | None:
        """A call that did not fit the money left, within bounds that do: fewer output tokens, or a count."""
        if misfit.left_nano_usd is None:
            return None
        lowered = budget.capped(action, misfit.left_nano_usd, self._prices)
        counter = self._effects.counter
        if lowered is not None or counter is None or not counter.counts(action.resource):
            return lowered
        if budget.least_cost(action, self._prices) > misfit.left_nano_usd:
            return None  # no count can make it fit
        # it is allowed, and nothing but money is in its way: the provider may see it, once that is on record
        await self._journal.record(records.counting(governed.run, action, at_us))
        tokens = await counter.count_tokens(action.request)
        if tokens is None:
            return None
        return budget.fitting(budget.counted(action, tokens), misfit.left_nano_usd, self._prices)

    async def _admit(self, admission: Admission) -> Admitted | Recorded | Misfit:
        """The journal's verdict. Who is cancelled while it is given leaves no intent open behind."""
        future = self._journal.admit(admission)
        try:
            return await future
        except asyncio.CancelledError:
            # the verdict is known by now (a commit cannot be cancelled), and nobody will perform the effect
            admitted = future.done() and future.exception() is None and isinstance(future.result(), Admitted)
            if admitted and not admission.again:  # else it was performed before, for all we know
                completion = records.withdrawn(admission, self._clock.now_us())
                with suppress(RemitError):  # a dead journal must not turn a cancellation into an error
                    self._journal.complete(completion).add_done_callback(_retrieve)
            raise

    async def _perform_admitted(
        self, action: Action, governed: GovernedRun, decision: Decision, held_nano_usd: int
    ) -> Outcome:
        cancels = cancels_of_task()
        tool = _tool_of(action, governed)
        try:
            attempted = await self._attempt(action, governed, decision)
        except EffectPending as waits:
            return waits.outcome or results.pending(decision, str(waits))
        except asyncio.CancelledError:
            if cancels_of_task() > cancels:
                if tool is not None and tool.acts_by_calls:
                    return results.pending(decision, f"{tool.agent or tool.name} was interrupted")
                attempted = results.interrupted(action, tool)
                with suppress(RemitError):  # a dead journal must not turn a cancellation into an error
                    completion = self._complete(action, governed, attempted)
                    completion.add_done_callback(partial(self._settled_later, governed.run))
                return results.shown(attempted, held_nano_usd)
            # nobody cancelled us: the effect itself broke, with a cancellation of its own making
            attempted = results.broken(action, tool, f"{action.resource} cancelled itself")
        try:
            completion = self._complete(action, governed, attempted)
            try:
                settled = await completion
            except asyncio.CancelledError:
                settled = completion.result()  # known by now: a commit cannot be cancelled
        except Exception as error:
            # it was done and cannot be recorded: the open intent says so to whoever looks
            return Unknown(action_id=action.id, reason=f"the outcome could not be recorded: {error}")
        self._tell_alerts(governed.run, settled)
        if isinstance(action, Release) and not settled.run_ended:
            return Failed(code="run.not_running", message="the run had ended before its answer")
        return results.shown(attempted, held_nano_usd)

    def _settled_later(self, run: Run, completion: Future[Settled]) -> None:
        """Tell what was crossed by a call that nobody waits for any more."""
        if completion.exception() is None:  # else the open intent stays, and is found by its row
            self._tell_alerts(run, completion.result())

    def _tell_alerts(self, run: Run, settled: Settled) -> None:
        for alert in settled.alerts:
            self._telemetry.emit(ThresholdCrossed(agent=run.agent, alert=alert, run=run))

    async def _attempt(self, action: Action, governed: GovernedRun, decision: Decision) -> Attempted:
        """Do it, once, within its constraints."""
        if not isinstance(action, Effectful):
            return results.release_done(action.args_value()["answer"])  # its commit is all there is to it
        tool = _tool_of(action, governed)
        timeout_s = decision.constraints.timeout_s
        deadline = self._deadlines.within(timeout_s)
        try:
            with deadline:
                try:
                    return await self._performer.perform(action, governed, decision)
                except EffectFailed as error:
                    if is_doubtful(governed.history, action, tool, error.code):
                        # this try did nothing; of the one before nobody knows
                        return results.interrupted(action, tool, error.code, error.message)
                    return results.effect_failed(error, action, tool, self._prices)
        except EffectPending:
            raise
        except (Exception, SystemExit) as error:  # a tool that exits ends its call, not this process
            if deadline.expired:
                code = "model.timeout" if isinstance(action, ModelCall) else "tool.timeout"
                message = f"no answer from {action.resource} within {timeout_s:g} s"
                return results.interrupted(action, tool, code, message)
            # the message of a foreign exception may hold anything, so only its type is told
            message = f"{action.resource} broke with {type(error).__name__}"
            return results.broken(action, tool, message)

    def _complete(self, action: Action, governed: GovernedRun, attempted: Attempted) -> Future[Settled]:
        at_us = self._clock.now_us()
        ending = None
        if isinstance(action, Release) and attempted.state == "done":
            end = RunEnd(status="succeeded", answer=action.args_value()["answer"])
            ending = RunEnding(end=end, audit=records.run_ended(governed.run, end, at_us))
        return self._journal.complete(
            Completion(
                action_id=action.id,
                state=attempted.state,
                result=attempted.result,
                usage=attempted.usage,
                cost_nano_usd=attempted.cost_nano_usd,
                at_us=at_us,
                outcome=records.outcome(governed.run, action, attempted, at_us),
                exposes=attempted.exposes,
                presumed=attempted.presumed,
                saved_nano_usd=attempted.saved_nano_usd,
                assumed=attempted.assumed,
                ending=ending,
            )
        )

    async def _replay(self, action: Action, governed: GovernedRun, recorded: Recorded) -> Outcome:
        try:
            if isinstance(action, MemoryRead) and recorded.state == "done":
                return await self._performer.reread(governed, recorded)
            return results.replayed(action, recorded)
        except Exception as error:
            return Unknown(action_id=action.id, reason=f"its record cannot be read: {type(error).__name__}")

    async def _refuse(self, action: Action, governed: GovernedRun, decision: Decision, at_us: int) -> Refused:
        """Refused, and recorded as such where the journal can be written. Refused either way."""
        record = records.refusal(governed.run, action, decision, at_us)
        try:
            if history.is_kept(action, decision):
                await self._journal.refuse(action.id, history.decision_bytes(decision), record)
            else:
                await self._journal.record(record)
        except RemitError as error:
            return Refused(
                decision=replace(decision, reason=f"{decision.reason} (not recorded: {error.code})")
            )
        return Refused(decision=decision)


def _tool_of(action: Action, governed: GovernedRun) -> ToolSpec | None:
    return governed.rules.tools[action.resource] if isinstance(action, ToolCall) else None


def _isolation_of(action: Action, governed: GovernedRun) -> Isolation:
    tool = governed.rules.tools.get(action.resource) if isinstance(action, ToolCall) else None
    return "none" if tool is None else tool.isolation


def _retrieve(future: Future[Any]) -> None:
    """Look at the error of a future nobody waits for: the open intent stays, and is found by its row."""
    if not future.cancelled():
        future.exception()
