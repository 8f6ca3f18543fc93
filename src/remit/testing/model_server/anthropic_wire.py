"""Anthropic's Messages protocol, answers: whole, as server-sent events, and errors.

Source: the public reference of POST /v1/messages and of its streaming, version 2023-06-01.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import orjson

from remit.testing.model_server import anthropic_requests, signatures
from remit.testing.model_server.conversation import Failure
from remit.testing.model_server.limits import Allowance
from remit.testing.model_server.wire import Answer, Asked, Event, Stop, pieces

COUNT_PATH = "/v1/messages/count_tokens"
_STOPS: Mapping[Stop, str] = MappingProxyType({"end": "end_turn"})
_TYPES: Mapping[int, str] = MappingProxyType(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
)
_QUOTA_MESSAGE = "You have reached the API usage threshold of your organization's tier."


class AnthropicWire:
    """POST /v1/messages."""

    path = "/v1/messages"

    def check_headers(self, headers: Mapping[str, str]) -> None:
        """Raises: BadRequest, where the key or the version is missing."""
        anthropic_requests.check_headers(headers)

    def read(self, body: bytes) -> Asked:
        """The request in `body`. Raises: BadRequest."""
        return anthropic_requests.read_request(body)

    def count(self, body: bytes) -> bytes:
        """The answer to POST /v1/messages/count_tokens. Raises: BadRequest."""
        return orjson.dumps({"input_tokens": anthropic_requests.read_count_request(body).prompt_tokens})

    def unknown_model(self, model: str) -> Failure:
        """The error of a model that is not served."""
        return Failure(status=404, message=f"model: {model}")

    def message(self, answer: Answer) -> dict[str, Any]:
        """The whole message."""
        content = _content(answer)
        return {**_shell(answer), "content": content, **_end(answer), "usage": _usage(answer)}

    def events(self, answer: Answer) -> Iterator[Event]:
        """The message as server-sent events."""
        start = {**_shell(answer), "content": [], "stop_reason": None, "stop_sequence": None}
        start["usage"] = {**_usage(answer), "output_tokens": 1}
        start["usage"].pop("output_tokens_details", None)
        yield _event("message_start", {"message": start})
        for index, block in enumerate(_content(answer)):
            yield _event("content_block_start", {"index": index, "content_block": _opened(block)})
            if index == 0:
                yield _event("ping", {})
            for delta in _deltas(block):
                yield _event("content_block_delta", {"index": index, "delta": delta}, delta=True)
            yield _event("content_block_stop", {"index": index})
        usage = {key: value for key, value in _usage(answer).items() if key in _DELTA_USAGE}
        yield _event("message_delta", {"delta": _end(answer), "usage": usage})
        yield _event("message_stop", {})

    def failure(self, failure: Failure, request_id: str) -> bytes:
        """The body of an error: the script's own, or the protocol's."""
        if failure.body is not None:
            return failure.body.encode()
        return orjson.dumps(_error(failure, request_id))

    def stream_failure(self, failure: Failure, request_id: str, number: int) -> bytes:
        """The event `error`."""
        return b"event: error\ndata: " + orjson.dumps(_error(failure, request_id)) + b"\n\n"

    def headers(self, request_id: str, allowance: Allowance) -> dict[str, str]:
        """The request's id, and what is left of the limits."""
        reset = datetime.fromtimestamp(-(-allowance.reset_us // 1_000_000), UTC).strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        )
        limits = allowance.limits
        counts = {
            "requests": (limits.requests, allowance.requests),
            "tokens": (limits.input_tokens + limits.output_tokens, allowance.tokens),
            "input-tokens": (limits.input_tokens, allowance.input_tokens),
            "output-tokens": (limits.output_tokens, allowance.output_tokens),
        }
        headers = {"request-id": request_id}
        for name, (limit, left) in counts.items():
            headers[f"anthropic-ratelimit-{name}-limit"] = str(limit)
            headers[f"anthropic-ratelimit-{name}-remaining"] = str(left)
            headers[f"anthropic-ratelimit-{name}-reset"] = reset
        return headers


_DELTA_USAGE = frozenset({"input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"}) | {
    "output_tokens",
    "output_tokens_details",
}


def _shell(answer: Answer) -> dict[str, Any]:
    return {
        "id": signatures.make_id("msg", answer.seed),
        "type": "message",
        "role": "assistant",
        "model": answer.asked.conversation.model,
    }


def _content(answer: Answer) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if answer.think:
        signature = signatures.sign(answer.think)
        content.append({"type": "thinking", "thinking": answer.think, "signature": signature})
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    for index, call in enumerate(answer.calls):
        call_id = signatures.make_id("toolu", f"{answer.seed}:{index}", answer.think)
        content.append({"type": "tool_use", "id": call_id, "name": call.tool, "input": call.args})
    return content


def _end(answer: Answer) -> dict[str, Any]:
    end: dict[str, Any] = {
        "stop_reason": _STOPS.get(answer.stop, answer.stop),
        "stop_sequence": answer.stop_sequence,
    }
    if answer.refusal is not None:
        end["stop_details"] = {"type": "refusal", "category": None, "explanation": answer.refusal}
    return end


def _usage(answer: Answer) -> dict[str, Any]:
    tokens = answer.tokens
    usage: dict[str, Any] = {
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "cache_creation_input_tokens": tokens.cache_write,
        "cache_read_input_tokens": tokens.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens.cache_write_5m,
            "ephemeral_1h_input_tokens": tokens.cache_write_1h,
        },
        "service_tier": answer.served.tier or "standard",
    }
    if answer.served.geo:
        usage["inference_geo"] = answer.served.geo
    if tokens.reasoning:
        usage["output_tokens_details"] = {"thinking_tokens": tokens.reasoning}
    return usage


def _opened(block: dict[str, Any]) -> dict[str, Any]:
    """A block as it begins: without what its deltas bring."""
    match block["type"]:
        case "text":
            return {"type": "text", "text": ""}
        case "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
    return {**block, "input": {}}


def _deltas(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    match block["type"]:
        case "text":
            for piece in pieces(block["text"]):
                yield {"type": "text_delta", "text": piece}
        case "thinking":
            for piece in pieces(block["thinking"]):
                yield {"type": "thinking_delta", "thinking": piece}
            yield {"type": "signature_delta", "signature": block["signature"]}
        case "tool_use":
            yield {"type": "input_json_delta", "partial_json": ""}
            for piece in pieces(orjson.dumps(block["input"]).decode()):
                yield {"type": "input_json_delta", "partial_json": piece}


def _event(name: str, data: dict[str, Any], *, delta: bool = False) -> Event:
    body = orjson.dumps({"type": name, **data})
    return Event(b"event: " + name.encode() + b"\ndata: " + body + b"\n\n", delta)


def _error(failure: Failure, request_id: str) -> dict[str, Any]:
    code = "enforced_spend_limit_reached" if failure.quota else failure.code
    error: dict[str, Any] = {
        "type": failure.type or _TYPES.get(failure.status, "api_error"),
        "message": failure.message or (_QUOTA_MESSAGE if failure.quota else "scripted error"),
    }
    if code:
        error["details"] = {"error_code": code}
    return {"type": "error", "error": error, "request_id": request_id}
