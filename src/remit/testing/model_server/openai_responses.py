"""OpenAI's Responses protocol: requests checked, answers whole and as a stream. Nothing is stored.

Source: the public reference of POST /v1/responses, and the types of the official client.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from remit.testing.model_server import openai_parts as parts
from remit.testing.model_server import signatures
from remit.testing.model_server.conversation import Conversation, Failure, newest_task, split_task
from remit.testing.model_server.limits import Allowance
from remit.testing.model_server.openai_items import ItemReader
from remit.testing.model_server.prompt import PromptReader
from remit.testing.model_server.wire import Answer, Asked, Event, pieces

_ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_FIELDS = (
    _ECHOED.keys()
    | {"model", "input", "stream", "stream_options", "include", "previous_response_id"}
    | {
        "background",
        "conversation",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "max_tool_calls",
        "top_logprobs",
    }
)
_NEED_A_STORE = ("previous_response_id", "conversation", "prompt", "background")
_SEALED = "reasoning.encrypted_content"
_OUTPUT_TOKENS_MIN = 16


class ResponsesWire:
    """POST /v1/responses."""

    path = "/v1/responses"

    def check_headers(self, headers: Mapping[str, str]) -> None:
        """Raises: BadRequest, where the key is missing."""
        parts.check_headers(headers)

    def read(self, body: bytes) -> Asked:
        """The request in `body`. Raises: BadRequest."""
        request = parts.read_object(body, frozenset(_FIELDS))
        for name in _NEED_A_STORE:
            if request.get(name):
                raise parts.bad(
                    "this server stores nothing, so it cannot take this", name, "unsupported_value"
                )
        items = request.get("input")
        if isinstance(items, str):
            items = [{"role": "user", "content": items}]
        if not isinstance(items, list) or not items:
            raise parts.bad("Missing required parameter: 'input'.", "input", "missing_required_parameter")
        tools = _check_options(request)
        reader = PromptReader(request["model"])
        for name in ("text", "tools", "instructions"):
            if request.get(name):
                reader.add([name, request[name]])
        results = ItemReader(reader, stores=request.get("store", True)).read(items)
        text, behind = newest_task(items)
        task, context = split_task(text)
        conversation = Conversation(
            model=request["model"],
            task=task,
            context=context,
            tools=tools,
            results=results[behind:],
            digest=hashlib.sha256(body).hexdigest(),
        )
        most = parts.output_tokens(request.get("max_output_tokens"), "max_output_tokens", _OUTPUT_TOKENS_MIN)
        return Asked(
            conversation=conversation,
            output_tokens_max=most,
            stream=request.get("stream", False),
            segments=reader.segments,
            cache="automatic",
            request=request,
        )

    def unknown_model(self, model: str) -> Failure:
        """The error of a model that is not served."""
        return parts.unknown_model(model)

    def message(self, answer: Answer) -> dict[str, Any]:
        """The whole response."""
        return _response(answer, _output(answer))

    def events(self, answer: Answer) -> Iterator[Event]:
        """The response as typed events, numbered from 0."""
        stream = _Stream()
        begun = _response(answer, None)
        yield stream.event("response.created", {"response": begun})
        yield stream.event("response.in_progress", {"response": begun})
        output = _output(answer)
        for index, item in enumerate(output):
            yield from stream.item(index, item)
        name = "response.incomplete" if answer.stop == "max_tokens" else "response.completed"
        yield stream.event(name, {"response": _response(answer, output)})

    def failure(self, failure: Failure, request_id: str) -> bytes:
        """The body of an error: the script's own, or the protocol's."""
        if failure.body is not None:
            return failure.body.encode()
        return orjson.dumps({"error": parts.error_of(failure)})

    def stream_failure(self, failure: Failure, request_id: str, number: int) -> bytes:
        """The event `error`."""
        error = parts.error_of(failure)
        code = error["code"] or error["type"]
        data = {"type": "error", "code": code, "message": error["message"], "param": error["param"]}
        return b"event: error\ndata: " + orjson.dumps({**data, "sequence_number": number}) + b"\n\n"

    def headers(self, request_id: str, allowance: Allowance) -> dict[str, str]:
        """The request's id, and what is left of the limits."""
        return parts.headers(request_id, allowance)


def _check_options(request: dict[str, Any]) -> frozenset[str]:
    """The names of the tools."""
    tools = parts.check_type(request.get("tools", []), list, "tools")
    names: list[str] = []
    for index, tool in enumerate(tools):
        parts.check_type(tool, dict, f"tools[{index}]")
        parts.check_choice(tool.get("type"), ("function",), f"tools[{index}].type")
        names.append(parts.check_function(tool, f"tools[{index}]"))
    text = parts.check_type(request.get("text", {}), dict, "text")
    if text.get("format") is not None:
        parts.check_format(text["format"], text["format"], "text.format")
    parts.check_type(request.get("instructions", ""), str, "instructions")
    parts.check_type(request.get("store", True), bool, "store")
    parts.check_type(request.get("reasoning", {}), dict, "reasoning")
    include = parts.check_type(request.get("include", []), list, "include")
    for index, name in enumerate(include):
        parts.check_choice(name, (_SEALED, "message.output_text.logprobs"), f"include[{index}]")
    choice = request.get("tool_choice", "auto")
    if isinstance(choice, dict):
        parts.check_choice(choice.get("type"), ("function",), "tool_choice.type")
        parts.check_choice(choice.get("name"), tuple(names), "tool_choice.name")
    else:
        parts.check_choice(choice, ("none", "auto", "required"), "tool_choice")
    return parts.unique(names, "tools")


def _response(answer: Answer, output: list[dict[str, Any]] | None) -> dict[str, Any]:
    """The response; None as its output: it has only begun."""
    request = answer.asked.request
    status, reason, usage = "in_progress", None, None
    if output is not None:
        cut = answer.stop == "max_tokens"
        status, reason = ("incomplete", {"reason": "max_output_tokens"}) if cut else ("completed", None)
        usage = _usage(answer)
    return {
        "id": signatures.make_id("resp", answer.seed),
        "object": "response",
        "created_at": answer.created_s,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": reason,
        "model": answer.asked.conversation.model,
        "output": output or [],
        "previous_response_id": None,
        "service_tier": answer.served.tier or "default",
        "usage": usage,
        **{name: request.get(name, value) for name, value in _ECHOED.items()},
    }


def _output(answer: Answer) -> list[dict[str, Any]]:
    output: list[dict[str, Any]] = []
    if answer.think:
        output.append(_reasoning(answer))
    content: list[dict[str, Any]] = []
    if answer.text:
        content.append({"type": "output_text", "annotations": [], "logprobs": [], "text": answer.text})
    if answer.refusal is not None:
        content.append({"type": "refusal", "refusal": answer.refusal})
    status = "incomplete" if answer.stop == "max_tokens" else "completed"
    if content:
        item_id = signatures.make_id("msg", answer.seed, answer.think)
        message = {
            "id": item_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }
        output.append(message)
    for index, call in enumerate(answer.calls):
        seed = f"{answer.seed}:{index}"
        output.append(
            {
                "id": signatures.make_id("fc", seed, answer.think),
                "type": "function_call",
                "status": "completed",
                "call_id": signatures.make_id("call", seed),
                "name": call.tool,
                "arguments": orjson.dumps(call.args).decode(),
            }
        )
    return output


def _reasoning(answer: Answer) -> dict[str, Any]:
    request = answer.asked.request
    wants_summary = request.get("reasoning", {}).get("summary") is not None
    item: dict[str, Any] = {
        "id": signatures.make_id("rs", answer.seed, answer.think),
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": answer.think}] if wants_summary else [],
    }
    if _SEALED in request.get("include", []):
        item["encrypted_content"] = signatures.seal(answer.think)
    return item


def _usage(answer: Answer) -> dict[str, Any]:
    tokens = answer.tokens
    return {
        "input_tokens": tokens.prompt,
        "input_tokens_details": {
            "cached_tokens": tokens.cache_read,
            "cache_write_tokens": tokens.cache_write,
        },
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.prompt + tokens.output,
    }


class _Stream:
    """Numbers the events."""

    def __init__(self) -> None:
        self._next = 0

    def event(self, name: str, data: dict[str, Any], *, delta: bool = False) -> Event:
        body = orjson.dumps({"type": name, "sequence_number": self._next, **data})
        self._next += 1
        return Event(b"event: " + name.encode() + b"\ndata: " + body + b"\n\n", delta)

    def item(self, index: int, item: dict[str, Any]) -> Iterator[Event]:
        """The events of one item of the output."""
        place = {"item_id": item["id"], "output_index": index}
        begun: dict[str, Any]
        match item["type"]:
            case "message":
                begun = {**item, "status": "in_progress", "content": []}
                inner = self._message(item, place)
            case "function_call":
                begun = {**item, "status": "in_progress", "arguments": ""}
                inner = self._call(item, place)
            case _:
                begun = {**item, "summary": []}
                inner = self._thought(item, place)
        yield self.event("response.output_item.added", {"output_index": index, "item": begun})
        yield from inner
        yield self.event("response.output_item.done", {"output_index": index, "item": item})

    def _message(self, item: dict[str, Any], place: dict[str, Any]) -> Iterator[Event]:
        for number, part in enumerate(item["content"]):
            here = {**place, "content_index": number}
            field = "text" if part["type"] == "output_text" else "refusal"
            name = f"response.{part['type']}"
            more: dict[str, Any] = {"logprobs": []} if field == "text" else {}
            yield self.event("response.content_part.added", {**here, "part": {**part, field: ""}})
            for piece in pieces(part[field]):
                yield self.event(f"{name}.delta", {**here, "delta": piece, **more}, delta=True)
            yield self.event(f"{name}.done", {**here, field: part[field], **more})
            yield self.event("response.content_part.done", {**here, "part": part})

    def _call(self, item: dict[str, Any], place: dict[str, Any]) -> Iterator[Event]:
        name = "response.function_call_arguments"
        for piece in pieces(item["arguments"]):
            yield self.event(f"{name}.delta", {**place, "delta": piece}, delta=True)
        done = {**place, "arguments": item["arguments"], "name": item["name"]}
        yield self.event(f"{name}.done", done)

    def _thought(self, item: dict[str, Any], place: dict[str, Any]) -> Iterator[Event]:
        for number, part in enumerate(item["summary"]):
            here = {**place, "summary_index": number}
            yield self.event("response.reasoning_summary_part.added", {**here, "part": {**part, "text": ""}})
            for piece in pieces(part["text"]):
                data = {**here, "delta": piece}
                yield self.event("response.reasoning_summary_text.delta", data, delta=True)
            yield self.event("response.reasoning_summary_text.done", {**here, "text": part["text"]})
            yield self.event("response.reasoning_summary_part.done", {**here, "part": part})
