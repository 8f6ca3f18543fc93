"""Anthropic's Messages wire format to and from our messages; pure, and closed over bad input.

What the provider sends is untrusted: `read_reply` gives a `ModelReply` of plain JSON or raises
EffectFailed, whatever the bytes are. Blocks that are not text or tool use are kept as they are and given
back unchanged (signed reasoning depends on it).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import orjson

from remit.core.canonical import DEPTH_MAX
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

PROVIDER = "anthropic"
TOKENS_MAX = 10**9
EMPTY_TEXT = "(empty)"
"""Stands where a message would be empty: the provider refuses empty messages and empty texts."""

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
    return body


def _write_message(message: Message) -> dict[str, Any]:
    blocks = [block for part in message.parts if (block := _write_part(part)) is not None]
    return {"role": message.role, "content": blocks or [{"type": "text", "text": EMPTY_TEXT}]}


def _write_part(part: Part) -> dict[str, Any] | None:
    match part:
        case Text():
            return {"type": "text", "text": part.text} if part.text.strip() else None
        case ToolUse():
            # The provider takes objects alone, also from its own model's mouth.
            args = part.args if isinstance(part.args, Mapping) else {"not_an_object": part.args}
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": args}
        case ToolResult():
            block = {"type": "tool_result", "tool_use_id": part.call_id, "content": part.content}
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
    value = _parse(data)
    if not isinstance(value, dict):
        raise _malformed("the body is not an object")
    usage = _read_usage(value.get("usage"))
    content = value.get("content")
    if not isinstance(content, list):
        raise _malformed("content is not a list", usage)
    stop = value.get("stop_reason")
    if not isinstance(stop, str) or stop not in _STOPS:
        raise _malformed(f"stop_reason is {str(stop)[:40]!r}", usage)
    parts = tuple(_read_block(block, usage) for block in content)
    ids = [part.id for part in parts if isinstance(part, ToolUse)]
    if len(set(ids)) != len(ids):
        raise _malformed("two tool calls have one id", usage)
    if _STOPS[stop] == "tool_use" and not ids:
        raise _malformed("stop_reason is tool_use, but there is no tool call", usage)
    model = value.get("model")
    return ModelReply(
        parts=parts,
        stop=_STOPS[stop],
        usage=usage,
        model=model if isinstance(model, str) and model else requested_model,
    )


def _read_block(block: Any, usage: Usage) -> Part:
    match block:
        case {"type": "text", "text": str(text)}:
            return Text(text=text)
        case {"type": "tool_use", "id": str(call_id), "name": str(name), "input": args} if call_id and name:
            return ToolUse(id=call_id, name=name, args=args)
        case {"type": "text" | "tool_use"}:
            raise _malformed(f"a {block['type']} block lacks a field, or has one of the wrong type", usage)
        case {"type": str(kind)} if kind:
            return Opaque(provider=PROVIDER, block=block)
    raise _malformed("a content block has no type", usage)


def _read_usage(value: Any) -> Usage:
    if not isinstance(value, dict):
        raise _malformed("usage is missing")
    return Usage(
        input_tokens=_tokens(value, "input_tokens", required=True),
        output_tokens=_tokens(value, "output_tokens", required=True),
        cache_read_tokens=_tokens(value, "cache_read_input_tokens"),
        cache_write_tokens=_tokens(value, "cache_creation_input_tokens"),
    )


def _tokens(usage: dict[str, Any], name: str, *, required: bool = False) -> int:
    count = usage.get(name)
    if count is None and not required:
        return 0
    if type(count) is not int or not 0 <= count <= TOKENS_MAX:
        raise _malformed(f"usage.{name} is not a number of tokens")
    return count


def _parse(data: bytes) -> Any:
    """`data` as plain JSON. What orjson refuses may only hold lone surrogates, which are replaced."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            value = _clean(json.loads(data, parse_constant=_no_constant), 0)
        except (ValueError, RecursionError):
            raise _malformed("the body is not JSON") from None
    else:
        if not _is_shallow(value, 0):
            raise _malformed("the body is nested too deeply")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _clean(value: Any, depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_clean(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_clean(key, depth + 1): _clean(item, depth + 1) for key, item in value.items()}
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return value


def _is_shallow(value: Any, depth: int) -> bool:
    if isinstance(value, dict):
        return depth < DEPTH_MAX and all(_is_shallow(item, depth + 1) for item in value.values())
    if isinstance(value, list):
        return depth < DEPTH_MAX and all(_is_shallow(item, depth + 1) for item in value)
    return True


def _malformed(why: str, usage: Usage | None = None) -> EffectFailed:
    return EffectFailed("model.failed", f"the provider's reply is malformed: {why}", usage=usage)
