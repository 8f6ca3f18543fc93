"""The agent loop: ask the model, perform what it asks, tell it what became of that, repeat.

Everything goes through the gate. The loop ends by an answer, a refusal of the model call or the answer,
a failure, or a wait for a person; tool output never ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from remit.core.messages import ModelReply, ToolResult, ToolUse, Usage
from remit.core.outcomes import Done, Failed, Outcome, Refused, Suspended, Unknown
from remit.core.runs import RunEnd
from remit.governance.gate import Gate, GovernedRun
from remit.runtime.context import Conversation, tool_result
from remit.runtime.health import Health
from remit.runtime.sessions import Session
from remit.runtime.streaming import Streaming

CALLS_PER_TURN_MAX = 64
BAD_TURNS_MAX = 5
"""So many turns in a row whose calls were all ill-formed, and the model is given up."""

BAD_ANSWERS_MAX = 3
"""So many answers that do not fit the schema, and the run fails."""

_ILL_FORMED = frozenset({"args.invalid", "tool.not_granted"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    """The attempt failed in a way that another attempt may mend."""

    code: str
    message: str
    retry_after_s: float | None = None


class AgentLoop:
    """One run's loop. A further `attempt` goes on where the failed one stopped: nothing is done twice."""

    def __init__(self, gate: Gate, conversation: Conversation, health: Health, streaming: Streaming) -> None:
        self._gate = gate
        self.session: Session | None = None
        self._health = health
        self.streaming = streaming
        self.conversation = conversation
        self._bad_turns = 0
        self._bad_answers = 0
        self.usage = Usage()
        self.cost_nano_usd = 0

    async def attempt(self, governed: GovernedRun) -> RunEnd | AttemptFailed:
        """Go on until the run ends, waits, or the attempt fails. Raises only cancellation."""
        conversation, session = self.conversation, self.session
        if session is not None and not session.is_open:
            unread = await session.open(governed, conversation, self._book)
            if unread is not None:
                return _end_of(unread)
        while True:
            outcome = await self._perform_model(governed)
            if not isinstance(outcome, Done):
                return _end_of(outcome)
            reply: ModelReply = outcome.value
            problem = _unusable(reply, outcome.output_tokens_max, governed.rules.remit.max_output_tokens)
            if problem is not None:
                return problem
            conversation.add_reply(reply)
            uses = reply.tool_uses
            if not uses:
                end = await self._release(governed, reply.text)
                if end is None:
                    continue
                return end
            outcomes = await self._perform_tools(governed, uses)
            waiting = next(
                (one for one in outcomes if isinstance(one, Suspended | Unknown) or _is_fenced(one)), None
            )
            if waiting is not None:
                return _end_of(waiting)
            if self._is_hopeless(outcomes):
                message = f"{BAD_TURNS_MAX} turns in a row held only calls that no tool can take"
                return RunEnd(status="failed", code="model.bad_calls", message=message)
            conversation.add_results(_results(uses, outcomes))

    async def _perform_model(self, governed: GovernedRun) -> Outcome:
        conversation, health = self.conversation, self._health
        blocked_s = health.blocked_s(conversation.model)
        if blocked_s > 0 and not conversation.is_replayed:
            message = f"{conversation.model} has failed too often; it is asked again in {blocked_s:.0f} s"
            return Failed(code="model.unavailable", message=message, retryable=True, retry_after_s=blocked_s)
        self.streaming.begin(conversation.model)
        outcome = await self._gate.perform(conversation.model_call(governed.attempt), governed)
        if isinstance(outcome, Done | Failed) and not outcome.replayed and not _is_fenced(outcome):
            health.heard(conversation.model, available=isinstance(outcome, Done) or not outcome.retryable)
        self._book(outcome)
        return outcome

    def _book(self, outcome: Outcome) -> None:
        self._add_cost(outcome)
        if isinstance(outcome, Done) and outcome.usage is not None and not outcome.replayed:
            self.usage += outcome.usage

    def _add_cost(self, outcome: Outcome) -> None:
        if isinstance(outcome, Unknown) or (isinstance(outcome, Done | Failed) and not outcome.replayed):
            self.cost_nano_usd += outcome.cost_nano_usd

    async def _perform_tools(self, governed: GovernedRun, uses: tuple[ToolUse, ...]) -> list[Outcome]:
        """The outcomes of one turn's calls, in their order; the calls run side by side."""
        calls = [
            self._gate.perform(self.conversation.tool_call(index, use), governed)
            for index, use in enumerate(uses[:CALLS_PER_TURN_MAX])
        ]
        outcomes = [await calls[0]] if len(calls) == 1 else await _side_by_side(calls)
        for outcome in outcomes:
            self._add_cost(outcome)
        surplus = Failed(code="args.invalid", message=f"more than {CALLS_PER_TURN_MAX} calls in one turn")
        return outcomes + [surplus] * (len(uses) - len(calls))

    async def _release(self, governed: GovernedRun, answer: str) -> RunEnd | AttemptFailed | None:
        """How the run ends with this answer; None where the model is to mend it."""
        session = self.session
        notice = "" if session is None else await session.keep(governed, self.conversation.step, answer)
        withdrawn = frozenset[str]() if governed.history is None else governed.history.withdrawn
        outcome = await self._gate.perform(self.conversation.release(answer, withdrawn), governed)
        if isinstance(outcome, Done):
            return RunEnd(status="succeeded", answer=answer, message=notice)
        if isinstance(outcome, Failed) and outcome.retryable:
            # the model has said its last word: what is tried again is the answer, when the run goes on
            return RunEnd(status="suspended", code="run.handed_over", message=outcome.message)
        if not isinstance(outcome, Refused) or outcome.decision.code != "answer.invalid":
            return _end_of(outcome)
        self._bad_answers += 1
        if self._bad_answers >= BAD_ANSWERS_MAX:
            message = f"{BAD_ANSWERS_MAX} answers did not fit; the last: {outcome.decision.explain()}"
            return RunEnd(status="failed", code="answer.invalid", message=message)
        self.conversation.add_objection(outcome.decision.reason)
        return None

    def _is_hopeless(self, outcomes: list[Outcome]) -> bool:
        bad = all(isinstance(one, Refused) and one.decision.code in _ILL_FORMED for one in outcomes)
        self._bad_turns = self._bad_turns + 1 if bad else 0
        return self._bad_turns >= BAD_TURNS_MAX


async def _side_by_side(calls: list[Coroutine[Any, Any, Outcome]]) -> list[Outcome]:
    """The calls' outcomes; where they are cancelled, all of them have ended before the cancellation goes on."""
    ended = await asyncio.gather(*calls, return_exceptions=True)
    outcomes = []
    for one in ended:
        if isinstance(one, BaseException):
            raise one
        outcomes.append(one)
    return outcomes


def _results(uses: tuple[ToolUse, ...], outcomes: list[Outcome]) -> list[ToolResult]:
    return [
        tool_result(use, outcome)
        for use, outcome in zip(uses, outcomes, strict=True)
        if isinstance(outcome, Done | Refused | Failed)
    ]


def _unusable(reply: ModelReply, allowed: int | None, max_output_tokens: int) -> RunEnd | None:
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


def _is_fenced(outcome: Outcome) -> bool:
    """Whether nothing was done because this worker stood still: another goes on, or this one, later."""
    return isinstance(outcome, Failed) and outcome.code == "worker.fenced" and not outcome.replayed


def _end_of(outcome: Outcome) -> RunEnd | AttemptFailed:
    """How the run ends by an outcome that is not done."""
    match outcome:
        case Refused(decision=decision) if decision.code == "run.not_running":
            return RunEnd(status="cancelled", code="run.cancelled", message=decision.reason)
        case Refused(decision=decision) if decision.code in ("agent.paused", "action.conflict"):
            # nothing is lost: it goes on once the agent is resumed, or once what it is told is again what it was
            return RunEnd(status="suspended", code=decision.code, message=decision.explain())
        case Refused(decision=decision) if decision.code == "journal.unavailable":
            return RunEnd(status="failed", code=decision.code, message=decision.reason)
        case Refused(decision=decision):
            return RunEnd(status="refused", code=decision.code, message=decision.explain())
        case Suspended(approval_id=approval_id, decision=decision):
            message = f"approval {approval_id}: {decision.explain()}" if approval_id else decision.explain()
            return RunEnd(status="suspended", code=decision.code, message=message)
        case Unknown(action_id=action_id, reason=reason):
            return RunEnd(status="suspended", code="effect.unknown", message=f"{action_id}: {reason}")
        case Failed(message=message) if _is_fenced(outcome):
            return RunEnd(status="suspended", code="run.handed_over", message=message)
        case Failed(code=code, message=message, retryable=True, retry_after_s=retry_after_s):
            return AttemptFailed(code=code, message=message, retry_after_s=retry_after_s)
        case Failed(code=code, message=message):
            return RunEnd(status="failed", code=code, message=message)
    raise AssertionError(outcome)  # Done is handled by the callers
