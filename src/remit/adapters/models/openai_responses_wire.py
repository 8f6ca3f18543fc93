"""OpenAI's Responses wire format to and from our messages; pure, and closed over bad input.

Nothing is stored at the provider: reasoning comes back encrypted, is kept as it is and given back in its
place. What the provider sends is untrusted: a `ModelReply` of plain JSON or EffectFailed comes out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from remit.adapters.models import failures, openai_parts
from remit.adapters.models.exchange import TextRelay
from remit.adapters.models.openai_parts import PROVIDER
from remit.adapters.models.replies import (
    EMPTY_TEXT,
    check_reply,
    malformed,
    parse,
    plain_fault,
    safe_id,
    safe_name,
    tool_args_of_text,
)
from remit.core.messages import (
    Attachment,
    Message,
    ModelReply,
    ModelRequest,
    Opaque,
    Part,
    StopReason,
    Text,
    ToolResult,
    ToolUse,
    Usage,
)
from remit.ports.effects import EffectFailed

_USAGE = ("input_tokens", "input_tokens_details", "output_tokens")
_NOT_REASONING = ("gpt-3", "gpt-4", "chatgpt-", "gpt-5-chat")
"""Models that refuse a request for encrypted reasoning, because they have none."""

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


def write_request(request: ModelRequest) -> dict[str, Any]:
    """The body of POST /responses for `request`."""
    body: dict[str, Any] = {
        "model": request.model,
        "input": [item for message in request.messages for item in _write_message(message)],
        "max_output_tokens": request.max_output_tokens,
        "store": False,
    }
    if not request.model.startswith(_NOT_REASONING):
        body["include"] = ["reasoning.encrypted_content"]
    if request.system:
        body["instructions"] = request.system
    if request.tools:
        body["tools"] = [{"type": "function", **openai_parts.function_of(tool)} for tool in request.tools]
    if request.answer_schema is not None:
        answer = {"name": openai_parts.ANSWER, "schema": dict(request.answer_schema), "strict": False}
        body["text"] = {"format": {"type": "json_schema", **answer}}
    return body


def _write_message(message: Message) -> Iterator[dict[str, Any]]:
    """The items of `message`; what stands together in one turn of a user is one message."""
    content: list[dict[str, Any]] = []
    is_empty = True
    for part in message.parts:
        written = _write_content(part, message.role)
        if written is not None:
            content.append(written)
            continue
        item = _write_item(part)
        if item is None:
            continue
        if content:
            yield {"type": "message", "role": message.role, "content": content}
            content = []
        is_empty = False
        yield item
    if content or is_empty:
        kind = "input_text" if message.role == "user" else "output_text"
        content = content or [{"type": kind, "text": EMPTY_TEXT}]
        yield {"type": "message", "role": message.role, "content": content}


def _write_content(part: Part, role: str) -> dict[str, Any] | None:
    match part:
        case Text() if part.text.strip():
            return {"type": "input_text" if role == "user" else "output_text", "text": part.text}
        case Attachment(media_type="application/pdf"):
            name, url = openai_parts.file_name(part), openai_parts.data_url(part)
            return {"type": "input_file", "filename": name, "file_data": url}
        case Attachment():
            return {"type": "input_image", "detail": "auto", "image_url": openai_parts.data_url(part)}
    return None


def _write_item(part: Part) -> dict[str, Any] | None:
    match part:
        case ToolUse():
            return {
                "type": "function_call",
                "call_id": safe_id(part.id),
                "name": safe_name(part.name),
                "arguments": openai_parts.arguments_of(part),
            }
        case ToolResult():
            # there is no mark for errors: the content says that it is one
            return {
                "type": "function_call_output",
                "call_id": safe_id(part.call_id),
                "output": part.content or EMPTY_TEXT,
            }
        case Opaque(provider="openai"):
            return dict(part.block)
    return None  # another provider's block means nothing here


def read_reply(data: bytes, requested_model: str) -> ModelReply:
    """The reply in the body `data` of a successful response.

    Raises: EffectFailed `model.failed`, its usage None (billed, amount unknown) where that is unreadable;
    `model.unavailable` where the provider says that it failed.
    """
    try:
        value = parse(data)
    except ValueError:
        raise malformed("the body is not JSON") from None
    return read_response(value, requested_model)


def read_response(value: Any, requested_model: str) -> ModelReply:
    """The reply that the parsed response `value` is. Raises: EffectFailed as `read_reply`."""
    if not isinstance(value, dict):
        raise malformed("the response is not an object")
    if value.get("status") in ("failed", "cancelled"):
        raise failures.of_event(value.get("error"), _billed(value))
    usage = openai_parts.usage_of(value, _USAGE)
    output = value.get("output")
    if not isinstance(output, list):
        raise malformed("output is not a list", usage)
    parts = tuple(part for item in output for part in _read_item(item, usage))
    model = value.get("model")
    return check_reply(
        ModelReply(
            parts=parts,
            stop=_stop(value, parts, usage),
            usage=usage,
            model=model if isinstance(model, str) and model else requested_model,
        )
    )


def _billed(value: dict[str, Any]) -> Usage | None:
    try:
        return openai_parts.usage_of(value, _USAGE)
    except EffectFailed:
        return None


def _stop(value: dict[str, Any], parts: tuple[Part, ...], usage: Usage) -> StopReason:
    details = value.get("incomplete_details")
    match value.get("status"):
        case "completed":
            if any(isinstance(part, ToolUse) for part in parts):
                return "tool_use"
            return "refusal" if _is_refused(value["output"]) else "end"
        case "incomplete" if isinstance(details, dict):
            match details.get("reason"):
                case "max_output_tokens":
                    return "max_tokens"
                case "content_filter":
                    return "refusal"
    raise malformed(f"status is {str(value.get('status'))[:40]!r}, {str(details)[:80]}", usage)


def _is_refused(output: list[Any]) -> bool:
    """Whether a message is a refusal; what it consists of has been checked."""
    messages = [item for item in output if item["type"] == "message"]
    return any(content["type"] == "refusal" for item in messages for content in item["content"])


def _read_item(item: Any, usage: Usage) -> Iterator[Part]:
    match item:
        case {"type": "message", "content": list(contents)}:
            for content in contents:
                yield _read_content(content, usage)
        case {
            "type": "function_call",
            "call_id": str(call_id),
            "name": str(name),
            "arguments": str(arguments),
        } if call_id and name:
            yield ToolUse(id=call_id, name=name, args=tool_args_of_text(arguments))
        case {"type": "message" | "function_call"}:
            raise malformed(f"a {item['type']} item lacks a field, or has one of the wrong type", usage)
        case {"type": str(kind)} if kind:
            if fault := plain_fault(item):
                raise malformed(f"an item of type {kind[:40]!r}: {fault}", usage)
            yield Opaque(provider=PROVIDER, block=item)
        case _:
            raise malformed("an item of the output has no type", usage)


def _read_content(content: Any, usage: Usage) -> Text:
    match content:
        case {"type": "output_text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return Text(text=text)
    raise malformed("a message has content that is neither text nor refusal", usage)


class ResponsesStream:
    """Builds the reply from events. The last one holds all of it; what came before is for showing.

    What was billed is known from the last event alone.
    """

    billed: Usage | None = None

    def __init__(self, request: ModelRequest, relay: TextRelay) -> None:
        self._request = request
        self._relay = relay
        self._items: list[Any] = []
        self._response: dict[str, Any] | None = None
        self._part: tuple[Any, Any] | None = None

    @property
    def is_done(self) -> bool:
        """Whether the last event has come."""
        return self._response is not None

    @property
    def is_whole(self) -> bool:
        """Whether the last event has come."""
        return self.is_done

    def end(self) -> None:
        """The last event is mark enough."""

    def take(self, event: dict[str, Any]) -> None:
        """Take the next event; those of unknown types are passed over. Raises: EffectFailed."""
        kind = event.get("type")
        if kind == "error":
            raise failures.of_event(event, None)
        if kind == "response.content_part.added":
            part = event.get("part")
            if isinstance(part, dict) and part.get("type") in ("output_text", "refusal"):
                self._begin(event)
        elif kind in ("response.output_text.delta", "response.refusal.delta"):
            self._begin(event)
            if isinstance(piece := event.get("delta"), str):
                self._relay.tell(piece)
        elif kind == "response.output_item.done":
            self._items.append(event.get("item"))
        elif kind in _ENDS:
            response = event.get("response")
            if not isinstance(response, dict):
                raise malformed("the last event holds no response")
            # some servers leave out of the last event what they have sent before
            self._response = response if response.get("output") else {**response, "output": self._items}

    def _begin(self, event: dict[str, Any]) -> None:
        part = (event.get("output_index"), event.get("content_index"))
        if part != self._part:
            self._part = part
            self._relay.begin_part()

    def reply(self) -> ModelReply:
        """The whole reply. Raises: EffectFailed."""
        reply = read_response(self._response, self._request.model)
        self._relay.finish(reply.text)
        return reply
