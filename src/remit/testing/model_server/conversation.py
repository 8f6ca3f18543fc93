"""A conversation as scripts see it, in no protocol's dialect; and what a script answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

_OURS = "[remit] "
_BY_MODEL = ("function_call", "reasoning")
CONTEXT_MARK = "\n\nContext (JSON):\n"
"""What stands between the task and the caller's context in the first user message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One request. `results[i]` holds the tool results that came after the i-th assistant message.

    `digest` tells requests apart: the same request sent again has the same.
    """

    model: str
    task: str
    context: Mapping[str, Any] | None
    tools: frozenset[str]
    results: tuple[tuple[Any, ...], ...]
    digest: str

    @property
    def turn(self) -> int:
        """How many turns the assistant has taken."""
        return len(self.results)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A tool call that the script makes."""

    tool: str
    args: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error to answer with. `body` is sent as it is, instead of the protocol's error body.

    `type` "" is the protocol's own for that status. `code` names the cause where a protocol has codes;
    `retry_after_date`: Retry-After is sent as an HTTP date. `quota`: the account's money is spent.
    """

    status: int
    type: str = ""
    message: str
    code: str | None = None
    param: str | None = None
    retry_after_s: int | None = None
    retry_after_date: bool = False
    quota: bool = False
    body: str | None = None
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with an answer that is billed in full, after `after` pieces of its stream.

    `cut` ends the connection with a reset (after `after_bytes` bytes where that is given), `hang` says
    nothing more, `malformed` goes on with what is no JSON, `error` ends with the error `failure`.
    """

    kind: Literal["cut", "hang", "malformed", "error"]
    after: int = 0
    after_bytes: int | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """On what terms an answer is served, and what is billed for it, in percent of the rates."""

    tier: str = ""
    geo: str = ""
    percent: int = 100


STANDARD = Served()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A turn to answer with, `delay_s` later, `drip_s` between the pieces of a stream.

    `think` is said before the text, where the request lets the model think; `refusal`: why the model
    declines, None where it does not.
    """

    text: str
    calls: tuple[Call, ...]
    think: str = ""
    refusal: str | None = None
    delay_s: float = 0.0
    drip_s: float = 0.0
    served: Served = STANDARD
    fault: Fault | None = None


class BadRequest(Exception):
    """The request is not one that the provider would take."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.failure = Failure(status=status, type=kind, message=message, code=code, param=param)


def texts_of(message: Any) -> list[str]:
    """What a message says as text, in any of the protocols; nothing of what is none."""
    content = message.get("content") if isinstance(message, dict) else None
    blocks = [{"text": content}] if isinstance(content, str) else content if isinstance(content, list) else []
    texts = [block.get("text") for block in blocks if isinstance(block, dict)]
    return [text for text in texts if isinstance(text, str)]


def newest_task(messages: Sequence[Any]) -> tuple[str, int]:
    """What the user asked last, and how many turns the assistant had taken before.

    What Remit itself says to the model between the marks of a conversation is no task.
    """
    task, turn, turns, by_model = "", 0, 0, False
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        was, by_model = (
            by_model,
            role == "assistant" or (isinstance(message, dict) and message.get("type") in _BY_MODEL),
        )
        turns += by_model and not was
        said = [text for text in texts_of(message) if not text.startswith(_OURS)] if role == "user" else []
        if said:
            task, turn = said[0], turns
    return task, turn


def split_task(text: str) -> tuple[str, Mapping[str, Any] | None]:
    """The task and the caller's context in the first user message; None where there is no context."""
    task, mark, tail = text.partition(CONTEXT_MARK)
    if not mark:
        return text, None
    try:
        context = orjson.loads(tail)
    except orjson.JSONDecodeError:
        return text, None
    return (task, context) if isinstance(context, dict) else (text, None)


def read_result(content: str, is_error: bool) -> Any:
    """A tool result as a value: parsed where it is JSON; an error always has an `error` field."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        value = content
    if is_error and not (isinstance(value, dict) and "error" in value):
        return {"error": {"code": "", "message": value, "rule": "", "remedy": ""}}
    return value


_STOP_WORDS = (
    "a about all am an and any are as ask asked asks at be been but by can cannot could did do does for from"
    " get give got had has have he her him his how i if in into is it its just let like me my need no not of"
    " on or our out please say says she should so some tell than that the their them then there they this to"
    " told us want was we were what when where which who whom why will with would you your"
)
_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")


def task_words(task: str) -> str:
    """The words of the task that carry meaning, in order, each once, at most twelve: a search query.

    Where no word does, the task itself.
    """
    stop_words = _STOP_WORDS.split()
    words = dict.fromkeys(word.lower() for word in _WORD.findall(task))
    return " ".join([word for word in words if word not in stop_words][:12]) or task


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What references can name at one turn."""

    task: str
    context: Mapping[str, Any]
    match: Mapping[str, str]
    tools: frozenset[str]
    results: tuple[Any, ...] = field(default=())
