"""The Anthropic adapter: whatever the provider sends, a plain reply or EffectFailed comes out."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.adapters.models import AnthropicModel
from remit.adapters.models.anthropic_wire import read_reply, write_request
from remit.core.canonical import canonical
from remit.core.messages import (
    Message,
    ModelReply,
    ModelRequest,
    Opaque,
    Part,
    Text,
    ToolOffer,
    ToolResult,
    ToolUse,
    Usage,
    message_to_json,
    reply_to_json,
)
from remit.ports.effects import EffectFailed, Model

KEY = "sk-ant-very-secret-0123456789"
MODEL = "claude-sonnet-4-20260514"
REQUEST = ModelRequest(
    model=MODEL,
    system="Be brief.",
    messages=(Message(role="user", parts=(Text(text="Hello"),)),),
    tools=(),
    max_output_tokens=100,
)
GOOD: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 4},
}
Handler = Callable[[httpx2.Request], httpx2.Response]


@asynccontextmanager
async def anthropic_over(handler: Handler) -> AsyncIterator[AnthropicModel]:
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
    model = AnthropicModel(KEY, base_url="http://provider.test", timeout_s=5.0, http_client=client)
    try:
        yield model
    finally:
        await model.aclose()


async def ask(handler: Handler, request: ModelRequest = REQUEST) -> ModelReply:
    async with anthropic_over(handler) as model:
        return await model.complete(request)


async def failure(handler: Handler, request: ModelRequest = REQUEST) -> EffectFailed:
    with pytest.raises(EffectFailed) as caught:
        await ask(handler, request)
    error = caught.value
    canonical(error.message)
    assert KEY not in error.message
    return error


def answering(status: int, body: Any, headers: dict[str, str] | None = None) -> Handler:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda request: httpx2.Response(
        status, content=data, headers={"content-type": "application/json", **(headers or {})}
    )


def raising(error: type[Exception]) -> Handler:
    def handle(request: httpx2.Request) -> httpx2.Response:
        raise error(f"down, said {KEY}")

    return handle


async def test_a_reply_is_translated_with_its_usage() -> None:
    body = {
        **GOOD,
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "text", "text": "Looking"},
            {"type": "tool_use", "id": "toolu_1", "name": "search_kb", "input": {"query": "x"}},
        ],
        "stop_reason": "tool_use",
        "usage": {
            "input_tokens": 10,
            "output_tokens": 20,
            "cache_read_input_tokens": 30,
            "cache_creation_input_tokens": 40,
            "cache_creation": {"ephemeral_5m_input_tokens": 25, "ephemeral_1h_input_tokens": 15},
            "service_tier": "priority",
            "inference_geo": "us",
        },
    }
    reply = await ask(answering(200, body))
    assert reply == ModelReply(
        parts=(
            Opaque(provider="anthropic", block={"type": "thinking", "thinking": "hm", "signature": "c2ln"}),
            Text(text="Looking"),
            ToolUse(id="toolu_1", name="search_kb", args={"query": "x"}),
        ),
        stop="tool_use",
        usage=Usage(
            input_tokens=10,
            output_tokens=20,
            cache_read_tokens=30,
            cache_write_tokens=40,
            cache_write_1h_tokens=15,
            service_tier="priority",
            inference_geo="us",
        ),
        model=MODEL,
    )


async def test_the_request_on_the_wire_is_the_conversation_and_opaque_blocks_return_unchanged() -> None:
    seen: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return answering(200, GOOD)(request)

    thinking = {"type": "redacted_thinking", "data": "opaque", "new_field": [1, {"a": None}]}
    request = ModelRequest(
        model=MODEL,
        system="Be brief.",
        messages=(
            Message(role="user", parts=(Text(text="Hello"),)),
            Message(
                role="assistant",
                parts=(
                    Opaque(provider="anthropic", block=thinking),
                    Opaque(provider="another", block={"type": "x"}),
                    Text(text=" "),
                    ToolUse(id="t1", name="a", args={"q": 1}),
                    ToolUse(id="t2", name="b", args=[1]),
                ),
            ),
            Message(
                role="user",
                parts=(
                    ToolResult(call_id="t1", content="[1]"),
                    ToolResult(call_id="t2", content="no", is_error=True),
                ),
            ),
        ),
        tools=(ToolOffer(name="a", description="A", args_schema={"type": "object"}),),
        max_output_tokens=7,
    )
    await ask(handle, request)
    assert len(seen) == 1
    assert seen[0].url.path == "/v1/messages"
    assert orjson.loads(seen[0].content) == {
        "model": MODEL,
        "max_tokens": 7,
        "system": "Be brief.",
        "tools": [{"name": "a", "description": "A", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
            {
                "role": "assistant",
                "content": [
                    thinking,
                    {"type": "tool_use", "id": "t1", "name": "a", "input": {"q": 1}},
                    {"type": "tool_use", "id": "t2", "name": "b", "input": {"not_an_object": [1]}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "[1]"},
                    {"type": "tool_result", "tool_use_id": "t2", "content": "no", "is_error": True},
                ],
            },
        ],
    }


@pytest.mark.parametrize(
    ("status", "code", "retryable", "billed"),
    [
        (400, "model.failed", False, Usage()),
        (401, "model.failed", False, Usage()),
        (402, "model.failed", False, Usage()),
        (403, "model.failed", False, Usage()),
        (404, "model.failed", False, Usage()),
        (413, "model.failed", False, Usage()),
        (422, "model.failed", False, Usage()),
        (408, "model.unavailable", True, None),
        (409, "model.unavailable", True, Usage()),
        (429, "model.unavailable", True, Usage()),
        (500, "model.unavailable", True, Usage()),
        (502, "model.unavailable", True, None),
        (503, "model.unavailable", True, Usage()),
        (504, "model.unavailable", True, None),
        (529, "model.unavailable", True, Usage()),
    ],
)
async def test_a_status_maps_to_one_failure_and_one_attempt(
    status: int, code: str, retryable: bool, billed: Usage | None
) -> None:
    attempts = 0
    body = {"type": "error", "error": {"type": "x", "message": f"no, {KEY}"}}

    def handle(request: httpx2.Request) -> httpx2.Response:
        nonlocal attempts
        attempts += 1
        return answering(status, body, {"retry-after": "0"})(request)

    error = await failure(handle)
    assert (error.code, error.retryable, error.usage) == (code, retryable, billed)
    assert attempts == 1
    assert "no, [key]" in error.message


async def test_a_spent_limit_is_not_retried() -> None:
    error_body = {
        "type": "rate_limit_error",
        "message": "x",
        "details": {"error_code": "enforced_spend_limit_reached"},
    }
    error = await failure(answering(429, {"type": "error", "error": error_body}))
    assert (error.code, error.retryable) == ("model.failed", False)


@pytest.mark.parametrize(
    ("raised", "code", "billed"),
    [
        (httpx2.ConnectError, "model.unavailable", Usage()),
        (httpx2.ConnectTimeout, "model.timeout", Usage()),
        (httpx2.PoolTimeout, "model.timeout", Usage()),
        (httpx2.ReadTimeout, "model.timeout", None),
        (httpx2.WriteTimeout, "model.timeout", None),
        (httpx2.ReadError, "model.unavailable", None),
        (httpx2.RemoteProtocolError, "model.unavailable", None),
    ],
)
async def test_what_may_have_been_billed_is_said(
    raised: type[Exception], code: str, billed: Usage | None
) -> None:
    error = await failure(raising(raised))
    assert (error.code, error.retryable, error.usage) == (code, True, billed)


async def test_nobody_listening_is_unavailable_and_unbilled(unused_tcp_port: int) -> None:
    model = AnthropicModel(KEY, base_url=f"http://127.0.0.1:{unused_tcp_port}", timeout_s=2.0)
    with pytest.raises(EffectFailed) as caught:
        await model.complete(REQUEST)
    await model.aclose()
    assert (caught.value.code, caught.value.usage) == ("model.unavailable", Usage())


@pytest.mark.parametrize(
    "change",
    [
        {"content": None},
        {"content": "Hi"},
        {"content": [None]},
        {"content": [{"type": "text"}]},
        {"content": [{"type": "text", "text": 1}]},
        {"content": [{"type": "tool_use", "id": "t", "name": "n"}]},
        {"content": [{"type": "tool_use", "id": "", "name": "n", "input": {}}]},
        {"content": [{"type": 1}]},
        {
            "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {}}] * 2,
            "stop_reason": "tool_use",
        },
        {"stop_reason": None},
        {"stop_reason": "pause_turn"},
        {"stop_reason": "tool_use"},
        {"stop_reason": ["end_turn"]},
        {"usage": None},
        {"usage": {}},
        {"usage": {"input_tokens": 1.5, "output_tokens": 1}},
        {"usage": {"input_tokens": True, "output_tokens": 1}},
        {"usage": {"input_tokens": -1, "output_tokens": 1}},
        {"usage": {"input_tokens": 10**12, "output_tokens": 1}},
        {"usage": {"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": "2"}},
    ],
)
async def test_a_reply_of_the_wrong_shape_fails(change: dict[str, Any]) -> None:
    error = await failure(answering(200, {**GOOD, **change}))
    assert (error.code, error.retryable) == ("model.failed", False)
    assert error.usage in (None, Usage(input_tokens=3, output_tokens=4))


async def test_a_reply_that_fails_late_still_tells_what_was_billed() -> None:
    error = await failure(answering(200, {**GOOD, "stop_reason": "from_the_future"}))
    assert error.usage == Usage(input_tokens=3, output_tokens=4)


async def test_lone_surrogates_are_replaced_and_the_reply_is_plain_json() -> None:
    text = rb'{"type": "text", "text": "a\ud800b"}'
    use = rb'{"type": "tool_use", "id": "t", "name": "n", "input": {"k\udfff": ["\ud83d"]}}'
    head = json.dumps({key: value for key, value in GOOD.items() if key != "content"}).encode()[:-1]
    reply = await ask(answering(200, head + b', "content": [' + text + b", " + use + b"]}"))
    assert reply.text == "a?b"
    assert reply.tool_uses[0].args == {"k?": ["?"]}
    canonical(reply_to_json(reply))


async def test_arguments_that_are_no_object_reach_the_gate_as_they_are() -> None:
    body = {**GOOD, "content": [{"type": "tool_use", "id": "t", "name": "n", "input": [1, "x"]}]}
    reply = await ask(answering(200, {**body, "stop_reason": "tool_use"}))
    assert reply.tool_uses == (ToolUse(id="t", name="n", args=[1, "x"]),)


async def test_a_request_that_is_not_unicode_is_not_sent() -> None:
    bad = ModelRequest(
        model=MODEL,
        system="",
        messages=(Message(role="user", parts=(Text(text="\ud800"),)),),
        tools=(),
        max_output_tokens=1,
    )
    error = await failure(answering(200, GOOD), bad)
    assert (error.code, error.usage) == ("model.failed", Usage())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
blocks = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "tool_use", "thinking", "x"]) | json_values},
    optional={
        "text": json_values,
        "id": st.just("t") | json_values,
        "name": json_values,
        "input": json_values,
    },
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "content": st.lists(blocks | json_values, max_size=3) | json_values,
        "stop_reason": st.sampled_from(["end_turn", "tool_use", "max_tokens"]) | json_values,
        "usage": st.just(GOOD["usage"]) | json_values,
        "model": json_values,
    },
)


@given(change=bodies, drop=st.sets(st.sampled_from(sorted(GOOD)), max_size=1))
@settings(max_examples=150, deadline=None)
def test_any_body_gives_a_plain_reply_or_a_failure(change: dict[str, Any], drop: set[str]) -> None:
    body = {key: value for key, value in {**GOOD, **change}.items() if key not in drop}
    _read(json.dumps(body).encode())


@given(data=st.binary(max_size=60) | st.just(b"[" * 100_000) | st.just(b'{"a":' * 5_000))
@settings(max_examples=100, deadline=None)
def test_any_bytes_give_a_failure(data: bytes) -> None:
    assert _read(data) is None


def _read(data: bytes) -> ModelReply | None:
    try:
        reply = read_reply(data, MODEL)
    except EffectFailed as error:
        failed = error
    else:
        failed = None
    if failed is not None:
        assert failed.code == "model.failed"
        canonical(failed.message)
        return None
    assert reply.model
    message = Message(role="assistant", parts=reply.parts)
    orjson.dumps(message_to_json(message))  # may be stored
    json.dumps(write_request(_with(reply.parts)), allow_nan=False).encode()  # may be given back
    return reply


def _with(parts: tuple[Part, ...]) -> ModelRequest:
    message = Message(role="assistant", parts=parts)
    return ModelRequest(model=MODEL, system="", messages=(message,), tools=(), max_output_tokens=1)


statuses = st.sampled_from([200, 200, 201, 204, 301, 302, 400, 401, 404, 408, 429, 500, 503, 529, 599])
headers = st.dictionaries(
    st.sampled_from(
        ["content-type", "content-encoding", "retry-after", "request-id", "location", "x-should-retry"]
    ),
    st.sampled_from(
        ["", "application/json", "text/html", "gzip", "-1", "nan", "Fri, 31 Dec 1999", "true", "::"]
    ),
    max_size=3,
)


@given(status=statuses, body=st.binary(max_size=40) | bodies | json_values, headers=headers)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_http_response_through_the_sdk_gives_a_reply_or_a_failure(
    status: int, body: Any, headers: dict[str, str]
) -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        # A stream, so that decoding happens where it does in real life: while the client reads.
        return httpx2.Response(status, headers=headers, stream=httpx2.ByteStream(data))

    async def try_it() -> None:
        try:
            reply = await ask(handle)
        except EffectFailed as error:
            canonical(error.message)
        else:
            assert isinstance(reply, ModelReply)

    asyncio.run(try_it())


def _suite() -> Path:
    folder = os.environ.get("REMIT_TEST_DATA")
    root = Path(folder) if folder else Path(__file__).resolve().parents[4] / "shared" / "data"
    return root / "payloads" / "jsontestsuite.json.gz"


@pytest.mark.skipif(not _suite().is_file(), reason="the JSON test suite is not here: set REMIT_TEST_DATA")
async def test_the_json_test_suite_as_bodies_and_as_arguments() -> None:
    cases = json.loads(gzip.decompress(_suite().read_bytes()))
    assert len(cases) > 300
    head = json.dumps({key: value for key, value in GOOD.items() if key != "content"}).encode()[:-1]
    body, read, codes = b"", 0, set()

    def handle(request: httpx2.Request) -> httpx2.Response:
        return answering(200, body)(request)

    async with anthropic_over(handle) as model:
        for case in cases:
            data = base64.b64decode(case["b64"])
            use = b'{"type": "tool_use", "id": "t", "name": "n", "input": ' + data + b"}"
            for body in (data, head + b', "content": [' + use + b"]}"):  # noqa: B007 - read by the handler
                try:
                    reply = await model.complete(REQUEST)
                except EffectFailed as error:
                    codes.add(error.code)
                else:
                    read += 1
                    assert case["expect"] != "n", case["name"]
                    json.dumps(reply.tool_uses[0].args, allow_nan=False).encode()
    assert read > 80
    assert codes == {"model.failed"}


async def test_the_key_is_in_no_representation() -> None:
    async with anthropic_over(answering(200, GOOD)) as model:
        await model.complete(REQUEST)
        assert KEY not in repr(model)
        assert KEY not in repr(model._client)


async def test_it_can_be_used_again_after_it_was_closed(unused_tcp_port: int) -> None:
    model: Model
    model = closing = AnthropicModel(KEY, base_url=f"http://127.0.0.1:{unused_tcp_port}", timeout_s=1.0)
    for _ in range(2):
        with pytest.raises(EffectFailed):
            await model.complete(REQUEST)
        await closing.aclose()


def test_the_sdk_is_loaded_only_when_a_model_is_called() -> None:
    code = (
        "import sys; from remit.adapters.models import AnthropicModel, ModelRouter;"
        "AnthropicModel('k'); sys.exit('anthropic' in sys.modules or 'httpx2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
