"""Anthropic's Messages protocol, requests: checked as the real API checks them.

Stricter than it in one thing: roles must alternate, because a turn of a script is one assistant message.
Source: the public reference of POST /v1/messages, version 2023-06-01.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from remit.testing.model_server import signatures
from remit.testing.model_server.anthropic_blocks import check_block, check_text, piece_of, result_text
from remit.testing.model_server.conversation import (
    BadRequest,
    Conversation,
    newest_task,
    read_result,
    split_task,
)
from remit.testing.model_server.prompt import PromptReader
from remit.testing.model_server.wire import Asked, Lifetime

_COUNTED = frozenset({"model", "messages", "system", "tools", "tool_choice", "thinking"}) | {
    "cache_control",
    "output_config",
}
_FIELDS = _COUNTED | {
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "metadata",
    "stream",
    "service_tier",
    "inference_geo",
}
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_MARKS_MAX = 4
_BUDGET_MIN = 1_024


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises: BadRequest, where the key or the version is missing."""
    if not (headers.get("x-api-key") or headers.get("authorization")):
        raise BadRequest("x-api-key header is required", status=401, kind="authentication_error")
    if not headers.get("anthropic-version"):
        raise BadRequest("anthropic-version: header is required")


def read_request(body: bytes) -> Asked:
    """The request in `body`. Raises: BadRequest."""
    request = _object(body, _FIELDS)
    max_tokens = request.get("max_tokens")
    if type(max_tokens) is not int:
        raise BadRequest("max_tokens: Field required")
    if max_tokens < 1:
        raise BadRequest("max_tokens: Input should be greater than or equal to 1")
    if type(request.get("stream", False)) is not bool:
        raise BadRequest("stream: Input should be a valid boolean")
    temperature = request.get("temperature")
    if temperature is not None and not (type(temperature) in (int, float) and 0 <= temperature <= 1):
        raise BadRequest("temperature: range: 0..1")
    thinks = _thinks(request.get("thinking"), max_tokens)
    return _asked(request, hashlib.sha256(body).hexdigest(), max_tokens, thinks)


def read_count_request(body: bytes) -> Asked:
    """The request to count tokens in `body`. Raises: BadRequest."""
    request = _object(body, _COUNTED)
    return _asked(request, hashlib.sha256(body).hexdigest(), 1, thinks=True)


def _object(body: bytes, fields: frozenset[str]) -> dict[str, Any]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The request body is not valid JSON: {error}") from error
    if not isinstance(request, dict):
        raise BadRequest("Input should be an object")
    for name in request:
        if name not in fields:
            raise BadRequest(f"{name}: Extra inputs are not permitted")
    if not isinstance(request.get("model"), str) or not request["model"]:
        raise BadRequest("model: Field required")
    return request


def _asked(request: dict[str, Any], digest: str, max_tokens: int, thinks: bool) -> Asked:
    system, tools = request.get("system", ""), request.get("tools", [])
    _check_system(system)
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages: at least one message is required")
    names = _tools(tools)
    _check_choice(request.get("tool_choice"), names)
    _check_output(request.get("output_config"))
    results = _results(messages)
    if thinks:
        _check_thoughts(messages)
    stops = request.get("stop_sequences") or []
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop.strip() for stop in stops):
        raise BadRequest("stop_sequences: each stop sequence must contain non-whitespace")
    text, behind = newest_task(messages)
    task, context = split_task(text)
    conversation = Conversation(
        model=request["model"],
        task=task,
        context=context,
        tools=names,
        results=results[behind:],
        digest=digest,
    )
    return Asked(
        conversation=conversation,
        output_tokens_max=max_tokens,
        stream=bool(request.get("stream", False)),
        segments=_read_prompt(request).segments,
        cache="marked",
        thinks=thinks,
        stops=tuple(stops),
        request=request,
    )


def _read_prompt(request: Mapping[str, Any]) -> PromptReader:
    """The prompt in the order in which it is cached: tools, system, messages."""
    pieces: list[tuple[Any, Any]] = [(("tool", tool), tool) for tool in request.get("tools", [])]
    system = request.get("system", "")
    if isinstance(system, str):
        pieces += [(("system", {"type": "text", "text": system}), {})] if system else []
    else:
        pieces += [(("system", block), block) for block in system]
    for message in request["messages"]:
        content = message["content"]
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        pieces += [((message["role"], block), block) for block in content]
    marks = [_mark(block.get("cache_control")) for _, block in pieces]
    if request.get("cache_control") is not None:
        marks[-1] = _mark(request["cache_control"])
    count = len(marks) - marks.count(None)
    if count > _MARKS_MAX:
        raise BadRequest(f"A maximum of 4 blocks with cache_control may be provided. Found {count}.")
    lifetimes = [mark for mark in marks if mark is not None]
    if lifetimes != sorted(lifetimes):
        raise BadRequest(
            "cache_control: a ttl='1h' block must not come after a ttl='5m' cache_control block."
        )
    reader = PromptReader(request["model"])
    for (kind, block), mark in zip((piece for piece, _ in pieces), marks, strict=True):
        plain, tokens, uncounted = piece_of(block)
        reader.add([kind, plain], mark=mark, tokens=tokens, uncounted=uncounted)
    return reader


def _mark(value: Any) -> Lifetime | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("type") != "ephemeral":
        raise BadRequest("cache_control.type: Input should be 'ephemeral'")
    ttl = value.get("ttl", "5m")
    if ttl not in ("5m", "1h") or value.keys() - {"type", "ttl"}:
        raise BadRequest("cache_control.ttl: Input should be '5m' or '1h'")
    return "1h" if ttl == "1h" else "5m"


def _thinks(value: Any, max_tokens: int) -> bool:
    """Whether the model may think: unless it is told not to."""
    kind = value.get("type") if isinstance(value, dict) else None
    if value is not None and kind not in ("enabled", "adaptive", "disabled"):
        raise BadRequest("thinking.type: Input should be 'enabled', 'adaptive' or 'disabled'")
    if kind == "enabled":
        budget = value.get("budget_tokens")
        if type(budget) is not int or budget < _BUDGET_MIN:
            raise BadRequest("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if budget >= max_tokens:
            raise BadRequest("`max_tokens` must be greater than `thinking.budget_tokens`.")
    return kind != "disabled"


def _check_choice(choice: Any, names: frozenset[str]) -> None:
    if choice is None:
        return
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind not in ("auto", "any", "tool", "none"):
        raise BadRequest("tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'")
    if kind != "none" and not names:
        raise BadRequest("tool_choice: may only be specified while providing tools")
    if kind == "tool" and not (isinstance(choice.get("name"), str) and choice["name"] in names):
        raise BadRequest("tool_choice.name: Tool not found in provided tools")


def _check_output(config: Any) -> None:
    if config is None:
        return
    if not isinstance(config, dict) or config.keys() - {"effort", "format"}:
        raise BadRequest("output_config: Extra inputs are not permitted")
    if config.get("effort") not in (None, "low", "medium", "high", "xhigh", "max"):
        raise BadRequest("output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'")
    form = config.get("format")
    if form is None:
        return
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        raise BadRequest("output_config.format.type: Input should be 'json_schema'")
    if not isinstance(form.get("schema"), dict):
        raise BadRequest("output_config.format.schema: Field required")
    _check_closed(form["schema"])


def _check_closed(schema: Any) -> None:
    """Every object of a schema for answers says that it has no further fields."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if value.get("type") == "object" and value.get("additionalProperties") is not False:
                raise BadRequest(
                    "output_config.format.schema: For 'object' type, 'additionalProperties' must be "
                    "explicitly set to false"
                )
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _check_thoughts(messages: list[Any]) -> None:
    """Within the last chain of tool calls, what was thought before a call must stand before it."""
    for index in range(len(messages) - 2, 0, -2):
        after = messages[index + 1]["content"]
        if isinstance(after, str) or not any(block["type"] == "tool_result" for block in after):
            return
        known: set[str | None] = {None}
        for place, block in enumerate(messages[index]["content"]):
            if block["type"] == "thinking":
                known.add(signatures.mark(block["thinking"]))
            elif block["type"] == "tool_use" and signatures.mark_in(block["id"]) not in known:
                raise BadRequest(
                    f"messages.{index}.content.{place}.type: Expected `thinking` or `redacted_thinking`, but "
                    "found `tool_use`. When `thinking` is enabled, a final `assistant` message must start "
                    "with a thinking block (preceeding the lastmost set of `tool_use` and `tool_result` "
                    "blocks). The thinking block must be the one that the model answered with."
                )


def _check_system(system: Any) -> None:
    if isinstance(system, str):
        return
    if not isinstance(system, list):
        raise BadRequest("system: Input should be a valid string or list")
    for index, block in enumerate(system):
        check_text(block, f"system.{index}")


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
        check_block(block, message["role"], f"{place}.content.{index}")
    return content


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
        text = result_text(block, f"{place}.content.{index}")
        found[call_id] = read_result(text, bool(block.get("is_error")))
    missing = [call_id for call_id in calls if call_id not in found]
    if missing:
        raise BadRequest(
            f"{place}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block "
            "in the next message."
        )
    return [found[call_id] for call_id in calls]
