"""Anthropic's Messages wire format to and from our messages; pure, and closed over bad input.

What the provider sends is untrusted: `read_reply` gives a `ModelReply` of plain JSON or raises
EffectFailed, whatever the bytes are. Blocks that are not text or tool use are kept as they are and given
back unchanged (signed reasoning depends on it).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from remit.adapters.models.replies import (
    EMPTY_TEXT,
    args_object,
    check_reply,
    malformed,
    parse,
    plain_fault,
    safe_id,
    safe_name,
    term,
    tokens,
    tool_args,
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

PROVIDER = "anthropic"
CACHEABLE = frozenset({"text", "image", "document", "tool_use", "tool_result"})

_STOPS: Mapping[str, StopReason] = MappingProxyType(
    {
        "end_turn": "end",
        "stop_sequence": "end",
        "tool_use": "tool_use",
        "max_tokens": "max_tokens",
        "refusal": "refusal",
    }
)


def write_request(request: ModelRequest) -> dict[str, Any]:
    """The body of POST /v1/messages for `request`."""
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_output_tokens,
        "messages": [_write_message(message) for message in request.messages],
    }
    if request.system:
        body["system"] = request.system
    if request.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": dict(tool.args_schema)}
            for tool in request.tools
        ]
    if request.answer_schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": dict(request.answer_schema)}}
    if request.cache_prefix:
        _mark_prefix(body)
    return body


def _mark_prefix(body: dict[str, Any]) -> None:
    """Mark the ends of what the next call repeats: three of the four marks that the provider allows."""
    mark = {"type": "ephemeral"}
    if "tools" in body:
        body["tools"][-1]["cache_control"] = mark
    if "system" in body:
        body["system"] = [{"type": "text", "text": body["system"], "cache_control": mark}]
    if len(body["messages"]) > 1:
        blocks = body["messages"][-2]["content"]
        # reasoning takes no mark, and is not ours to change
        last = next((block for block in reversed(blocks) if block.get("type") in CACHEABLE), None)
        if last is not None:
            last["cache_control"] = mark


def _write_message(message: Message) -> dict[str, Any]:
    blocks = [block for part in message.parts if (block := _write_part(part)) is not None]
    return {"role": message.role, "content": blocks or [{"type": "text", "text": EMPTY_TEXT}]}


def _write_part(part: Part) -> dict[str, Any] | None:
    match part:
        case Text():
            return {"type": "text", "text": part.text} if part.text.strip() else None
        case ToolUse():
            name, args = safe_name(part.name), args_object(part.args)
            return {"type": "tool_use", "id": safe_id(part.id), "name": name, "input": args}
        case ToolResult():
            block = {"type": "tool_result", "tool_use_id": safe_id(part.call_id), "content": part.content}
            return {**block, "is_error": True} if part.is_error else block
        case Attachment():
            kind = "document" if part.media_type == "application/pdf" else "image"
            source = {"type": "base64", "media_type": part.media_type, "data": part.data}
            return {"type": kind, "source": source}
        case Opaque():
            # Another provider's block means nothing here, so it is left out.
            return dict(part.block) if part.provider == PROVIDER else None


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
    return read_message(value, requested_model)


def read_message(message: dict[str, Any], requested_model: str) -> ModelReply:
    """The reply that the parsed `message` is. Raises: EffectFailed `model.failed`."""
    usage = read_usage(message.get("usage"))
    content = message.get("content")
    if not isinstance(content, list):
        raise malformed("content is not a list", usage)
    stop = message.get("stop_reason")
    if not isinstance(stop, str) or stop not in _STOPS:
        raise malformed(f"stop_reason is {str(stop)[:40]!r}", usage)
    model = message.get("model")
    reply = ModelReply(
        parts=tuple(_read_block(block, usage) for block in content),
        stop=_STOPS[stop],
        usage=usage,
        model=model if isinstance(model, str) and model else requested_model,
    )
    return check_reply(reply)


def _read_block(block: Any, usage: Usage) -> Part:
    match block:
        case {"type": "text", "text": str(text)}:
            return Text(text=text)
        case {"type": "tool_use", "id": str(call_id), "name": str(name), "input": args} if call_id and name:
            return ToolUse(id=call_id, name=name, args=tool_args(args))
        case {"type": "text" | "tool_use"}:
            raise malformed(f"a {block['type']} block lacks a field, or has one of the wrong type", usage)
        case {"type": str(kind)} if kind:
            if fault := plain_fault(block):
                raise malformed(f"a block of type {kind[:40]!r}: {fault}", usage)
            return Opaque(provider=PROVIDER, block=block)
    raise malformed("a content block has no type", usage)


def read_usage(value: Any) -> Usage:
    """The usage of a message. Raises: EffectFailed `model.failed`."""
    if not isinstance(value, dict):
        raise malformed("usage is missing")
    written = tokens(value, "cache_creation_input_tokens")
    creation = value.get("cache_creation")
    written_1h = tokens(creation, "ephemeral_1h_input_tokens") if isinstance(creation, dict) else 0
    return Usage(
        input_tokens=tokens(value, "input_tokens", required=True),
        output_tokens=tokens(value, "output_tokens", required=True),
        cache_read_tokens=tokens(value, "cache_read_input_tokens"),
        # the two are told apart: rather too much than too little
        cache_write_tokens=max(written, written_1h),
        cache_write_1h_tokens=written_1h,
        service_tier=term(value, "service_tier"),
        inference_geo=term(value, "inference_geo"),
    )
