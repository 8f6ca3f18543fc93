"""OpenAI's Chat Completions protocol: requests checked, answers whole and as a stream.

Source: the public reference of POST /v1/chat/completions, and the types of the official client.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import orjson

from remit.testing.model_server import openai_parts as parts
from remit.testing.model_server import signatures
from remit.testing.model_server.conversation import (
    Conversation,
    Failure,
    newest_task,
    read_result,
    split_task,
)
from remit.testing.model_server.limits import Allowance
from remit.testing.model_server.prompt import PromptReader
from remit.testing.model_server.wire import Answer, Asked, Event, Stop, pieces

_FIELDS = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "tools", "tool_choice", "response_format"}
    | {"stream", "stream_options", "stop", "n", "store", "metadata", "user", "temperature", "top_p", "seed"}
    | {"parallel_tool_calls", "reasoning_effort", "service_tier", "prompt_cache_key", "safety_identifier"}
    | {"frequency_penalty", "presence_penalty", "verbosity", "prompt_cache_retention", "modalities"}
)
_ROLES = ("system", "developer", "user", "assistant", "tool")
_STOPS: Mapping[Stop, str] = MappingProxyType({"tool_use": "tool_calls", "max_tokens": "length"})


class ChatWire:
    """POST /v1/chat/completions."""

    path = "/v1/chat/completions"

    def check_headers(self, headers: Mapping[str, str]) -> None:
        """Raises: BadRequest, where the key is missing."""
        parts.check_headers(headers)

    def read(self, body: bytes) -> Asked:
        """The request in `body`. Raises: BadRequest."""
        request = parts.read_object(body, _FIELDS)
        messages = request.get("messages")
        if not isinstance(messages, list) or not messages:
            raise parts.bad("Invalid 'messages': empty array.", "messages", "empty_array")
        if {"max_tokens", "max_completion_tokens"} <= request.keys():
            message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
            raise parts.bad(message, "max_tokens", "invalid_parameter_combination")
        if request.get("n", 1) != 1:
            raise parts.bad("this server gives one choice alone", "n", "unsupported_value")
        name = "max_tokens" if "max_tokens" in request else "max_completion_tokens"
        tools = _tools(request.get("tools", []))
        if "response_format" in request:
            form = parts.check_type(request["response_format"], dict, "response_format")
            parts.check_format(form, form.get("json_schema"), "response_format")
        _check_choice(request.get("tool_choice"), tools)
        reader = PromptReader(request["model"])
        for tool in [*request.get("tools", []), request.get("response_format")]:
            if tool is not None:
                reader.add(["tool", tool])
        results = _results(messages, reader)
        text, behind = newest_task(messages)
        task, context = split_task(text)
        conversation = Conversation(
            model=request["model"],
            task=task,
            context=context,
            tools=tools,
            results=results[behind:],
            digest=hashlib.sha256(body).hexdigest(),
        )
        return Asked(
            conversation=conversation,
            output_tokens_max=parts.output_tokens(request.get(name), name, 1),
            stream=request.get("stream", False),
            segments=reader.segments,
            cache="automatic",
            stops=_stops(request.get("stop", [])),
            request=request,
        )

    def unknown_model(self, model: str) -> Failure:
        """The error of a model that is not served."""
        return parts.unknown_model(model)

    def message(self, answer: Answer) -> dict[str, Any]:
        """The whole completion."""
        calls = _calls(answer)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": answer.text or None,
            "refusal": answer.refusal,
            "annotations": [],
        }
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}
        return {**_shell(answer, "chat.completion"), "choices": [choice], "usage": _usage(answer)}

    def events(self, answer: Answer) -> Iterator[Event]:
        """The completion as chunks; the usage in one of its own, where it is asked for."""
        shell = _shell(answer, "chat.completion.chunk")
        wants_usage = answer.asked.request.get("stream_options", {}).get("include_usage", False)
        usage = {"usage": None} if wants_usage else {}

        def chunk(delta: dict[str, Any], finish: str | None = None, *, said: bool = True) -> Event:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return _event({**shell, "choices": [choice], **usage}, delta=said)

        yield chunk({"role": "assistant", "content": "", "refusal": None}, said=False)
        for piece in pieces(answer.text):
            yield chunk({"content": piece})
        for piece in pieces(answer.refusal or ""):
            yield chunk({"refusal": piece})
        for index, call in enumerate(_calls(answer)):
            function = {"name": call["function"]["name"], "arguments": ""}
            yield chunk({"tool_calls": [{"index": index, **call, "function": function}]})
            for piece in pieces(call["function"]["arguments"]):
                yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        yield chunk({}, _finish(answer), said=False)
        if wants_usage:
            yield _event({**shell, "choices": [], "usage": _usage(answer)})
        yield Event(b"data: [DONE]\n\n")

    def failure(self, failure: Failure, request_id: str) -> bytes:
        """The body of an error: the script's own, or the protocol's."""
        if failure.body is not None:
            return failure.body.encode()
        return orjson.dumps({"error": parts.error_of(failure)})

    def stream_failure(self, failure: Failure, request_id: str, number: int) -> bytes:
        """The chunk that is an error."""
        return b"data: " + orjson.dumps({"error": parts.error_of(failure)}) + b"\n\n"

    def headers(self, request_id: str, allowance: Allowance) -> dict[str, str]:
        """The request's id, and what is left of the limits."""
        return parts.headers(request_id, allowance)


def _tools(tools: Any) -> frozenset[str]:
    parts.check_type(tools, list, "tools")
    names: list[str] = []
    for index, tool in enumerate(tools):
        place = f"tools[{index}]"
        parts.check_type(tool, dict, place)
        parts.check_choice(tool.get("type"), ("function",), f"{place}.type")
        names.append(parts.check_function(tool.get("function"), f"{place}.function"))
    return parts.unique(names, "tools")


def _check_choice(choice: Any, names: frozenset[str]) -> None:
    if choice is None:
        return
    if not names and choice != "none":
        raise parts.bad("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    if isinstance(choice, dict):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or name not in names:
            raise parts.bad("Tool choice not found in 'tools' parameter.", "tool_choice", "invalid_value")
        return
    parts.check_choice(choice, ("none", "auto", "required"), "tool_choice")


def _stops(stops: Any) -> tuple[str, ...]:
    stops = [stops] if isinstance(stops, str) else stops
    if (
        not isinstance(stops, list)
        or len(stops) > 4
        or not all(isinstance(one, str) and one for one in stops)
    ):
        raise parts.bad("Invalid 'stop': expected up to 4 strings.", "stop", "invalid_value")
    return tuple(stops)


def _results(messages: list[Any], reader: PromptReader) -> tuple[tuple[Any, ...], ...]:
    """The tool results that came after each assistant message, in the order of its calls."""
    turns: list[dict[str, Any]] = []
    waiting: dict[str, Any] = {}
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        parts.check_type(message, dict, place)
        role = parts.check_choice(message.get("role"), _ROLES, f"{place}.role")
        call_id = message.get("tool_call_id")
        missing = [name for name, found in waiting.items() if found is None]
        if role == "tool":
            if not isinstance(call_id, str) or call_id not in missing:
                why = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
                raise parts.bad(f"Invalid parameter: {why}", f"{place}.role")
            _count(message, role, place, reader)
            waiting[call_id] = (read_result(_text(message["content"]), False),)
            continue
        _check_answered(missing, place)
        _count(message, role, place, reader)
        if role == "assistant":
            waiting = dict.fromkeys(_call_ids(message, place))
            turns.append(waiting)
    _check_answered([name for name, found in waiting.items() if found is None], "messages")
    return tuple(tuple(found[0] for found in turn.values()) for turn in turns)


def _check_answered(missing: list[str], place: str) -> None:
    if missing:
        raise parts.bad(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            "'tool_call_id'. The following tool_call_ids did not have response messages: "
            + ", ".join(missing),
            f"{place}.role",
        )


def _call_ids(message: dict[str, Any], place: str) -> list[str]:
    calls = message.get("tool_calls")
    if calls is None:
        return []
    if not isinstance(calls, list) or not calls:
        raise parts.bad(f"Invalid '{place}.tool_calls': empty array.", f"{place}.tool_calls", "empty_array")
    ids: list[str] = []
    for index, call in enumerate(calls):
        here = f"{place}.tool_calls[{index}]"
        parts.check_type(call, dict, here)
        parts.check_choice(call.get("type"), ("function",), f"{here}.type")
        function = parts.check_type(call.get("function"), dict, f"{here}.function")
        for name, value in (("id", call.get("id")), ("name", function.get("name"))):
            parts.check_type(value, str, f"{here}.{name}")
        parts.check_type(function.get("arguments"), str, f"{here}.function.arguments")
        ids.append(call["id"])
    if len(set(ids)) != len(ids):
        raise parts.bad("Duplicate tool call ids.", f"{place}.tool_calls", "invalid_value")
    return ids


def _count(message: dict[str, Any], role: str, place: str, reader: PromptReader) -> None:
    content = message.get("content")
    if content is None and role == "assistant" and (message.get("tool_calls") or message.get("refusal")):
        content = []
    elif not isinstance(content, str | list) or content == []:
        why = f"Invalid value for 'content': expected a string or an array of parts, in {place}."
        raise parts.bad(why, f"{place}.content", "invalid_type")
    tokens, uncounted = 0, ""
    for index, part in enumerate(content if isinstance(content, list) else []):
        more, data = _part_tokens(part, role, f"{place}.content[{index}]")
        tokens, uncounted = tokens + more, uncounted + data
    reader.add(message, tokens=tokens, uncounted=uncounted)


def _part_tokens(part: Any, role: str, place: str) -> tuple[int, str]:
    parts.check_type(part, dict, place)
    allowed = {"user": ("text", "image_url", "file"), "assistant": ("text", "refusal")}.get(role, ("text",))
    kind = parts.check_choice(part.get("type"), allowed, f"{place}.type")
    if kind == "image_url":
        image = parts.check_type(part.get("image_url"), dict, f"{place}.image_url")
        return parts.image_url_tokens(image.get("url"), f"{place}.image_url.url")
    if kind == "file":
        return parts.file_tokens(part.get("file"), f"{place}.file")
    parts.check_type(part.get(kind), str, f"{place}.{kind}")
    return 0, ""


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _shell(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": signatures.make_id("chatcmpl", answer.seed),
        "object": kind,
        "created": answer.created_s,
        "model": answer.asked.conversation.model,
        "service_tier": answer.served.tier or "default",
        "system_fingerprint": None,
    }


def _calls(answer: Answer) -> list[dict[str, Any]]:
    return [
        {
            "id": signatures.make_id("call", f"{answer.seed}:{index}"),
            "type": "function",
            "function": {"name": call.tool, "arguments": orjson.dumps(call.args).decode()},
        }
        for index, call in enumerate(answer.calls)
    ]


def _finish(answer: Answer) -> str:
    return _STOPS.get(answer.stop, "stop")


def _usage(answer: Answer) -> dict[str, Any]:
    tokens = answer.tokens
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.prompt + tokens.output,
        "prompt_tokens_details": {
            "cached_tokens": tokens.cache_read,
            "cache_write_tokens": tokens.cache_write,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _event(data: dict[str, Any], *, delta: bool = False) -> Event:
    return Event(b"data: " + orjson.dumps(data) + b"\n\n", delta)
