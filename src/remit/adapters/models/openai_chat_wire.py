"""The Chat Completions wire format, as OpenAI, vLLM, Ollama and others speak it; pure, closed over bad input.

What the server sends is untrusted: a `ModelReply` of plain JSON or EffectFailed comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from remit.adapters.models import failures, openai_parts
from remit.adapters.models.exchange import TextRelay
from remit.adapters.models.replies import (
    EMPTY_TEXT,
    check_reply,
    malformed,
    parse,
    safe_id,
    safe_name,
    tool_args_of_text,
)
from remit.core.messages import (
    Attachment,
    Message,
    ModelReply,
    ModelRequest,
    Part,
    StopReason,
    Text,
    ToolResult,
    ToolUse,
    Usage,
)

CALLS_MAX = 1_000
_USAGE = ("prompt_tokens", "prompt_tokens_details", "completion_tokens")
_STOPS: Mapping[str, StopReason] = MappingProxyType(
    {
        "stop": "end",
        "tool_calls": "tool_use",
        "length": "max_tokens",
        "content_filter": "refusal",
    }
)


def write_request(request: ModelRequest) -> dict[str, Any]:
    """The body of POST /chat/completions for `request`."""
    messages = [item for message in request.messages for item in _write_message(message)]
    if request.system:
        messages.insert(0, {"role": "system", "content": request.system})
    # the older name of the limit: not every compatible server heeds the newer one
    body: dict[str, Any] = {
        "model": request.model,
        "messages": messages,
        "max_tokens": request.max_output_tokens,
    }
    if request.tools:
        body["tools"] = [
            {"type": "function", "function": openai_parts.function_of(tool)} for tool in request.tools
        ]
    if request.answer_schema is not None:
        answer = {"name": openai_parts.ANSWER, "schema": dict(request.answer_schema), "strict": False}
        body["response_format"] = {"type": "json_schema", "json_schema": answer}
    return body


def _write_message(message: Message) -> Iterator[dict[str, Any]]:
    uses = [_write_call(part) for part in message.parts if isinstance(part, ToolUse)]
    if message.role == "assistant":
        # parts are joined as the text of a reply is
        text = "\n".join(part.text for part in message.parts if isinstance(part, Text) and part.text.strip())
        if uses:
            yield {"role": "assistant", "content": text or None, "tool_calls": uses}
        else:
            yield {"role": "assistant", "content": text or EMPTY_TEXT}
        return
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    for result in results:  # first, because they must follow the calls at once
        content = result.content or EMPTY_TEXT
        yield {"role": "tool", "tool_call_id": safe_id(result.call_id), "content": content}
    content_parts = [item for part in message.parts if (item := _write_content(part)) is not None]
    if content_parts or not results:
        yield {"role": "user", "content": content_parts or EMPTY_TEXT}


def _write_call(use: ToolUse) -> dict[str, Any]:
    function = {"name": safe_name(use.name), "arguments": openai_parts.arguments_of(use)}
    return {"id": safe_id(use.id), "type": "function", "function": function}


def _write_content(part: Part) -> dict[str, Any] | None:
    match part:
        case Text() if part.text.strip():
            return {"type": "text", "text": part.text}
        case Attachment(media_type="application/pdf"):
            name, url = openai_parts.file_name(part), openai_parts.data_url(part)
            return {"type": "file", "file": {"filename": name, "file_data": url}}
        case Attachment():
            return {"type": "image_url", "image_url": {"url": openai_parts.data_url(part)}}
    return None


def read_reply(data: bytes, requested_model: str) -> ModelReply:
    """The reply in the body `data` of a successful response.

    Raises: EffectFailed `model.failed`, its usage None (billed, amount unknown) where that is unreadable.
    """
    try:
        value = parse(data)
    except ValueError:
        raise malformed("the body is not JSON") from None
    if not isinstance(value, dict):
        raise malformed("the body is not an object")
    return read_completion(value, requested_model)


def read_completion(value: dict[str, Any], requested_model: str) -> ModelReply:
    """The reply that the parsed completion `value` is. Raises: EffectFailed as `read_reply`."""
    if value.get("error"):  # some servers answer 200 with an error
        raise failures.of_event(value, None)
    usage = openai_parts.usage_of(value, _USAGE)
    match value.get("choices"):
        case [{"message": dict(message), "finish_reason": str(finish)}, *_] if finish in _STOPS:
            parts = tuple(_read_message(message, usage))
        case _:
            raise malformed("there is no finished choice", usage)
    stop = _STOPS[finish]
    if stop == "end" and any(isinstance(part, ToolUse) for part in parts):
        stop = "tool_use"  # some servers say that they simply stopped
    elif stop == "end" and message.get("refusal"):
        stop = "refusal"
    model = value.get("model")
    model = model if isinstance(model, str) and model else requested_model
    return check_reply(ModelReply(parts=parts, stop=stop, usage=usage, model=model))


def _read_message(message: dict[str, Any], usage: Usage) -> Iterator[Part]:
    for field in ("content", "refusal"):
        text = message.get(field)
        if text is not None and not isinstance(text, str):
            raise malformed(f"{field} is no text", usage)
        if text:
            yield Text(text=text)
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise malformed("tool_calls is not a list", usage)
    for call in calls or ():
        match call:
            case {"id": str(call_id), "function": {"name": str(name), "arguments": str(args)}} if (
                call_id and name
            ):
                yield ToolUse(id=call_id, name=name, args=tool_args_of_text(args))
            case _:
                raise malformed("a tool call lacks a field, or has one of the wrong type", usage)


class ChatStream:
    """Builds the completion from its chunks. What was billed is known from the last one alone."""

    billed: Usage | None = None

    def __init__(self, request: ModelRequest, relay: TextRelay) -> None:
        self._request = request
        self._relay = relay
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, _Call] = {}
        self._finish: str | None = None
        self._usage: dict[str, Any] | None = None
        self._model: Any = None
        self._service_tier: Any = None
        self._is_ended = False

    @property
    def is_done(self) -> bool:
        """Whether the mark of the end has come; until then usage may come once more."""
        return self._is_ended

    @property
    def is_whole(self) -> bool:
        """Whether the reply has finished and its usage was told."""
        return self._finish is not None and self._usage is not None

    def end(self) -> None:
        """Take the mark that there are no more events."""
        self._is_ended = True

    def take(self, event: dict[str, Any]) -> None:
        """Take the next chunk. Raises: EffectFailed."""
        if event.get("error"):
            raise failures.of_event(event, None)
        self._model = self._model or event.get("model")
        self._service_tier = event.get("service_tier") or self._service_tier
        usage = event.get("usage")
        self._usage = usage if isinstance(usage, dict) else self._usage
        match event.get("choices"):
            case [{"index": int(index)}, *_] if index != 0:
                return  # one was asked for
            case [dict(choice), *_]:
                delta, finish = choice.get("delta"), choice.get("finish_reason")
                if isinstance(delta, dict):
                    self._extend(delta)
                if isinstance(finish, str):
                    self._finish = finish

    def _extend(self, delta: dict[str, Any]) -> None:
        for field in ("content", "refusal"):
            piece = delta.get(field)
            if piece is None or piece == "":
                continue
            if not isinstance(piece, str):
                raise malformed(f"a piece of {field} is no text")
            if field == "content" and "refusal" in self._texts:
                raise malformed("text follows a refusal")
            if field not in self._texts:
                self._relay.begin_part()
            self._texts.setdefault(field, []).append(piece)
            self._relay.tell(piece)
        calls = delta.get("tool_calls")
        if calls is not None and not isinstance(calls, list):
            raise malformed("tool_calls is not a list")
        for call in calls or ():
            self._extend_call(call)

    def _extend_call(self, piece: Any) -> None:
        match piece:
            case {"index": int(index), "function": dict(function)} if 0 <= index < CALLS_MAX:
                call = self._calls.setdefault(index, _Call())
            case {"id": str(), "function": dict(function)} if len(self._calls) < CALLS_MAX:
                # some servers send whole calls, without an index
                call = self._calls.setdefault(max(self._calls, default=-1) + 1, _Call())
            case _:
                raise malformed("a piece of a tool call has no index or no function")
        call.id = call.id or piece.get("id")
        call.name = call.name or function.get("name")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            call.arguments.append(arguments)
        elif arguments is not None:
            raise malformed("a piece of arguments is no text")

    def reply(self) -> ModelReply:
        """The whole reply. Raises: EffectFailed."""
        calls = [call.whole() for _, call in sorted(self._calls.items())]
        message = {field: "".join(pieces) for field, pieces in self._texts.items()}
        choice = {"message": {**message, "tool_calls": calls}, "finish_reason": self._finish}
        completion = {
            "model": self._model,
            "choices": [choice],
            "usage": self._usage,
            "service_tier": self._service_tier,
        }
        reply = read_completion(completion, self._request.model)
        self._relay.finish(reply.text)
        return reply


class _Call:
    """A tool call that comes in pieces."""

    def __init__(self) -> None:
        self.id: Any = None
        self.name: Any = None
        self.arguments: list[str] = []

    def whole(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": "".join(self.arguments)}
        return {"id": self.id, "function": function}
