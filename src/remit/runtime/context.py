"""What the model sees: the instructions, the task, its own words and what its calls returned.

It only grows, and each message is digested once. What a tool returned is data between the marks of a
tool result: it adds no tools, changes no remit and ends no run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from types import MappingProxyType

import orjson

from remit.core import actions
from remit.core.actions import ModelCall, Place, ToolCall
from remit.core.canonical import Json
from remit.core.messages import (
    Attachment,
    KnownPrefix,
    Message,
    ModelReply,
    ModelRequest,
    Opaque,
    Text,
    ToolResult,
    ToolUse,
)
from remit.core.outcomes import Done, Failed, Refused
from remit.core.runs import Run
from remit.governance import bounds
from remit.governance.remit import Remit
from remit.governance.rules import Rules


class Conversation:
    """The conversation of one run."""

    def __init__(
        self,
        run: Run,
        rules: Rules,
        attachments: Sequence[Attachment] = (),
        replies: Mapping[int, tuple[int, str]] = MappingProxyType({}),
    ) -> None:
        """`replies`: attempt and model of the replies that are on record, by step."""
        remit: Remit = rules.remit
        self._run = run
        self._replies = replies
        self._remit = remit
        self._rules = rules
        self._messages: list[Message] = []
        self._digests: list[str] = []
        self._known: KnownPrefix | None = None
        self.model = remit.model
        self.step = 0
        self._add(Message(role="user", parts=(*attachments, Text(text=run.task.text))))

    @property
    def is_replayed(self) -> bool:
        """Whether the reply to the next model call is on record."""
        return self.step + 1 in self._replies

    def go_on_from(self, earlier: Sequence[Message]) -> None:
        """Have `earlier` stand before the task; to be called before the model is asked anything."""
        before, task = list(earlier), self._messages.pop()
        if before and before[-1].role == task.role:
            task = Message(role=task.role, parts=before.pop().parts + task.parts)
        self._digests.clear()
        for message in (*before, task):
            self._add(message)

    def model_call(self, attempt: int) -> ModelCall:
        """The next model call; a further attempt at the same step is a new action."""
        attempt, self.model = self._replies.get(self.step + 1, (attempt, self.model))
        request = ModelRequest(
            model=self.model,
            system=self._remit.instructions,
            messages=tuple(self._messages),
            tools=self._rules.offers,
            max_output_tokens=self._remit.max_output_tokens,
            known_prefix=self._known,
            answer_schema=self._remit.answer_schema,
            cache_prefix=True,
        )
        return actions.model_call(
            self._place(self.step + 1, f"m{attempt}"),
            request,
            tuple(self._digests),
            self._rules.offers_digest,
        )

    def tool_call(self, index: int, use: ToolUse) -> ToolCall:
        """The `index`-th tool call of the turn."""
        name = self._rules.name_of(use.name)
        return actions.tool_call(self._place(self.step, f"t{index}"), name, use.id, use.args)

    def release(self, answer: str, withdrawn: frozenset[str] = frozenset()) -> actions.Release:
        """The action of handing out the final answer; under its next name where it was begun and `withdrawn`."""
        tries = count(2)
        action = actions.release(self._place(self.step, "answer"), answer)
        while action.id in withdrawn:
            action = actions.release(self._place(self.step, f"answer{next(tries)}"), answer)
        return action

    def fail_over(self, model: str) -> None:
        """Ask another model from now on; what the first one counted says nothing of it."""
        self.model = model
        self._known = None

    def add_reply(self, reply: ModelReply) -> None:
        """The model's turn."""
        self.step += 1
        self._add(Message(role="assistant", parts=reply.parts))
        # what was said counts as it was written, and once more as a provider may write it anew, differently
        said = Message(role="assistant", parts=tuple(p for p in reply.parts if not isinstance(p, Opaque)))
        again = bounds.message_tokens_max(said, self.model)
        tokens = reply.usage.prompt_tokens + reply.usage.output_tokens + again
        self._known = KnownPrefix(messages=len(self._messages), tokens=tokens)

    def add_objection(self, objection: str) -> None:
        """Why the answer was not handed out, so that the model can mend it."""
        text = f"[remit] Your answer was not accepted: {objection}. Answer again with that mended, in JSON alone."
        self._add(Message(role="user", parts=(Text(text=text),)))

    def add_results(self, results: list[ToolResult]) -> None:
        """What the turn's calls came to, in the order of the calls."""
        self._add(Message(role="user", parts=tuple(results)))

    def _add(self, message: Message) -> None:
        self._messages.append(message)
        self._digests.append(actions.message_digest(message))

    def _place(self, step: int, name: str) -> Place:
        return Place(run_id=self._run.id, step=step, name=name, principal=self._run.principal)


def tool_result(use: ToolUse, outcome: Done | Refused | Failed) -> ToolResult:
    """The outcome of a call as the model is told it."""
    if isinstance(outcome, Done):
        text = orjson.dumps(outcome.value).decode()
        if outcome.truncated:
            text += "\n[remit: the result was cut to what this agent may receive; narrow the request for the rest]"
        if outcome.note:
            text += f"\n[remit: {outcome.note}]"
        return ToolResult(call_id=use.id, content=text)
    if isinstance(outcome, Refused):
        decision = outcome.decision
        return _error(
            use,
            {
                "code": decision.code,
                "message": decision.explain(),
                "rule": decision.rule,
                "remedy": decision.remedy,
            },
        )
    message = outcome.message
    if outcome.happened:
        message += " (the call took effect: do not repeat it)"
    return _error(use, {"code": outcome.code, "message": message, "retryable": outcome.retryable})


def _error(use: ToolUse, error: Json) -> ToolResult:
    return ToolResult(call_id=use.id, content=orjson.dumps({"error": error}).decode(), is_error=True)
