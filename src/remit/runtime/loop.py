"""The agent loop: ask the model, perform what it asks, tell it what became of that, repeat.

Everything goes through the gate. The loop ends by an answer, a refusal of the model call or the answer,
a failure, or a wait for a person; tool output never ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from remit.core.messages import ModelReply, ToolResult, ToolUse, Usage
from remit.core.outcomes import Done, Failed, Outcome, Refused, Suspended, Unknown
from remit.core.runs import RunEnd
from remit.governance.gate import Gate, GovernedRun
from remit.runtime.context import Conversation, tool_result
from remit.runtime.endings import AttemptFailed, end_of, is_fenced, unusable
from remit.runtime.health import Health
from remit.runtime.sessions import Session
from remit.runtime.streaming import Streaming

CALLS_PER_TURN_MAX = 64
BAD_TURNS_MAX = 5
"""So many turns in a row whose calls were all ill-formed, and the model is given up."""

BAD_ANSWERS_MAX = 3
"""So many answers that do not fit the schema, and the run fails."""

_ILL_FORMED = frozenset({"args.invalid", "tool.not_granted"})


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
                return end_of(unread)
        while True:
            outcome = await self._perform_model(governed)
            if not isinstance(outcome, Done):
                return end_of(outcome)
            reply: ModelReply = outcome.value
            problem = unusable(reply, outcome.output_tokens_max, governed.rules.remit.max_output_tokens)
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
                (one for one in outcomes if isinstance(one, Suspended | Unknown) or is_fenced(one)), None
            )
            if waiting is not None:
                return end_of(waiting)
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
        if isinstance(outcome, Done | Failed) and not outcome.replayed and not is_fenced(outcome):
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
            return end_of(outcome)
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
