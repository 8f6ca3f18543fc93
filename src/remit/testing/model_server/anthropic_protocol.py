"""Anthropic's Messages protocol, without streaming: requests checked as the real API checks them.

Source: the public reference of POST /v1/messages, version 2023-06-01.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from remit.testing.model_server.conversation import (
    BadRequest,
    Conversation,
    Failure,
    Reply,
    read_result,
    split_task,
)

PATH = "/v1/messages"
_FIELDS = frozenset(
    {"model", "max_tokens", "messages", "system", "tools", "tool_choice", "thinking", "temperature", "top_p"}
    | {"top_k", "stop_sequences", "metadata", "stream", "service_tier"}
)
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_THINKING = frozenset({"thinking", "redacted_thinking"})


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises: BadRequest, where the key or the version is missing."""
    if not (headers.get("x-api-key") or headers.get("authorization")):
        raise BadRequest("x-api-key header is required", status=401, kind="authentication_error")
    if not headers.get("anthropic-version"):
        raise BadRequest("anthropic-version: header is required")


def read_request(body: bytes) -> tuple[Conversation, int]:
    """The conversation in `body`, and the most tokens that may be answered. Raises: BadRequest."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The request body is not valid JSON: {error}") from error
    if not isinstance(request, dict):
        raise BadRequest("Input should be an object")
    for name in request:
        if name not in _FIELDS:
            raise BadRequest(f"{name}: Extra inputs are not permitted")
    model, max_tokens = request.get("model"), request.get("max_tokens")
    if not isinstance(model, str) or not model:
        raise BadRequest("model: Field required")
    if type(max_tokens) is not int:
        raise BadRequest("max_tokens: Field required")
    if max_tokens < 1:
        raise BadRequest("max_tokens: Input should be greater than or equal to 1")
    if request.get("stream"):
        raise BadRequest("stream: this server answers whole messages only")
    _check_system(request.get("system", ""))
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages: at least one message is required")
    task, context = split_task(_first_text(messages))
    conversation = Conversation(
        model=model,
        task=task,
        context=context,
        tools=_tools(request.get("tools", [])),
        results=_results(messages),
        digest=hashlib.sha256(body).hexdigest(),
    )
    return conversation, max_tokens


def _check_system(system: Any) -> None:
    if isinstance(system, str):
        return
    if not isinstance(system, list):
        raise BadRequest("system: Input should be a valid string or list")
    for index, block in enumerate(system):
        _check_text(block, f"system.{index}")


def _tools(tools: Any) -> frozenset[str]:
    if not isinstance(tools, list):
        raise BadRequest("tools: Input should be a valid list")
    names: set[str] = set()
    for index, tool in enumerate(tools):
        place = f"tools.{index}"
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            raise BadRequest(f"{place}.name: Field required")
        if not _TOOL_NAME.fullmatch(tool["name"]):
            raise BadRequest(f"{place}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if tool["name"] in names:
            raise BadRequest("tools: Tool names must be unique.")
        schema = tool.get("input_schema")
        if not isinstance(schema, dict) or schema.get("type") != "object":
            raise BadRequest(f"{place}.input_schema.type: Field required")
        names.add(tool["name"])
    return frozenset(names)


def _blocks(message: Any, place: str) -> Sequence[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise BadRequest(f"{place}.content: Field required")
    if not content:
        raise BadRequest(f"{place}: all messages must have non-empty content")
    for index, block in enumerate(content):
        _check_block(block, message["role"], f"{place}.content.{index}")
    return content


def _check_block(block: Any, role: str, place: str) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "text":
        _check_text(block, place)
    elif kind == "tool_use" and role == "assistant":
        if not isinstance(block.get("id"), str) or not isinstance(block.get("name"), str):
            raise BadRequest(f"{place}.tool_use: id and name are required")
        if not isinstance(block.get("input"), dict):
            raise BadRequest(f"{place}.tool_use.input: Input should be a valid dictionary")
    elif kind == "tool_result" and role == "user":
        if not isinstance(block.get("tool_use_id"), str):
            raise BadRequest(f"{place}.tool_result.tool_use_id: Field required")
        _result_text(block, place)
    elif not (kind in _THINKING and role == "assistant"):
        raise BadRequest(f"{place}: Input tag {kind!r} is not expected in a message of the {role}")


def _check_text(block: Any, place: str) -> None:
    text = block.get("text") if isinstance(block, dict) else None
    if not isinstance(text, str):
        raise BadRequest(f"{place}.text.text: Field required")
    if not text:
        raise BadRequest("messages: text content blocks must be non-empty")


def _result_text(block: dict[str, Any], place: str) -> str:
    content = block.get("content", "")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequest(f"{place}.tool_result.content: Input should be a valid string or list")
    for index, item in enumerate(content):
        _check_text(item, f"{place}.tool_result.content.{index}")
    return "".join(item["text"] for item in content)


def _first_text(messages: list[Any]) -> str:
    content = messages[0].get("content") if isinstance(messages[0], dict) else None
    if isinstance(content, list):
        texts = [block.get("text") for block in content if isinstance(block, dict)]
        content = next((text for text in texts if isinstance(text, str)), "")
    return content if isinstance(content, str) else ""


def _results(messages: list[Any]) -> tuple[tuple[Any, ...], ...]:
    """The tool results that came after each assistant message, in the order of the calls."""
    results: list[tuple[Any, ...]] = []
    open_calls: list[str] = []
    used: set[str] = set()
    for index, message in enumerate(messages):
        place = f"messages.{index}"
        role = "assistant" if index % 2 else "user"
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
            raise BadRequest(f"{place}.role: Input should be 'user' or 'assistant'")
        if message["role"] != role:
            raise BadRequest(
                f'{place}: roles must alternate between "user" and "assistant", beginning with "user"'
            )
        blocks = _blocks(message, place)
        if role == "assistant":
            open_calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
            if len({*open_calls, *used}) != len(open_calls) + len(used):
                raise BadRequest("messages: `tool_use` ids must be unique")
            used.update(open_calls)
        else:
            answered = _answers(blocks, open_calls, place)
            if index:
                results.append(tuple(answered))
    if len(messages) % 2 == 0:
        raise BadRequest("This model does not support assistant message prefill; end with a user message.")
    return tuple(results)


def _answers(blocks: Sequence[dict[str, Any]], calls: list[str], place: str) -> list[Any]:
    found: dict[str, Any] = {}
    for index, block in enumerate(blocks):
        if block["type"] != "tool_result":
            continue
        call_id = block["tool_use_id"]
        if call_id not in calls or call_id in found:
            raise BadRequest(
                f"{place}.content.{index}: unexpected `tool_use_id` found in `tool_result` blocks: {call_id}. "
                "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        text = _result_text(block, f"{place}.content.{index}")
        found[call_id] = read_result(text, bool(block.get("is_error")))
    missing = [call_id for call_id in calls if call_id not in found]
    if missing:
        raise BadRequest(
            f"{place}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block "
            "in the next message."
        )
    return [found[call_id] for call_id in calls]


def render_reply(
    reply: Reply, conversation: Conversation, max_tokens: int, body_bytes: int
) -> dict[str, Any]:
    """The message that says `reply`, cut to `max_tokens` as a model is; tokens are bytes / 4, rounded up."""
    seed = f"{conversation.digest}:{conversation.turn}"
    content: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text else []
    for index, call in enumerate(reply.calls):
        call_id = "toolu_" + _id(f"{seed}:{index}")
        content.append({"type": "tool_use", "id": call_id, "name": call.tool, "input": call.args})
    stop = "tool_use" if reply.calls else "end_turn"
    output_tokens = -(-len(orjson.dumps(content)) // 4)
    if output_tokens > max_tokens:
        text = reply.text.encode()[: max_tokens * 4].decode(errors="ignore")
        content = [{"type": "text", "text": text}] if text else []
        output_tokens, stop = max_tokens, "max_tokens"
    return {
        "id": "msg_" + _id(seed),
        "type": "message",
        "role": "assistant",
        "model": conversation.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": -(-body_bytes // 4),
            "output_tokens": output_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "service_tier": "standard",
        },
    }


def render_failure(failure: Failure, request_id: str) -> bytes:
    """The body of an error: the script's own, or the protocol's."""
    if failure.body is not None:
        return failure.body.encode()
    error = {"type": failure.type, "message": failure.message}
    return orjson.dumps({"type": "error", "error": error, "request_id": request_id})


def _id(seed: str) -> str:
    return hashlib.sha256(seed.encode()).hexdigest()[:24]
