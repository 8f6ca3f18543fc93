"""The OpenAI adapter's own words: requests as they are sent, stops, usage, errors, and the cost of asking."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import pytest
from model_wires import ChatWire, ResponsesWire, event

from remit.adapters.models import OpenAIModel
from remit.adapters.models import openai_chat_wire as chat
from remit.adapters.models import openai_responses_wire as responses
from remit.core.messages import (
    Attachment,
    Message,
    ModelRequest,
    Opaque,
    Text,
    ToolOffer,
    ToolResult,
    ToolUse,
    Usage,
)
from remit.ports.effects import EffectFailed
from remit.testing.model_suite import KEY, Said, Server, answered, ask, failed, request_of

RESPONSES, CHAT = ResponsesWire(), ChatWire()
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "eA=="}
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
HISTORY = (
    Message(
        role="user",
        parts=(
            Text(text="Look"),
            Attachment(media_type="image/png", data="iVBO"),
            Attachment(media_type="application/pdf", data="JVBE", name="a.pdf"),
        ),
    ),
    Message(
        role="assistant",
        parts=(
            Opaque(provider="openai", block=REASONING),
            Text(text="Looking."),
            ToolUse(id="c1", name="look", args={"q": "ü"}),
            ToolUse(id="c2", name="look", args="no object"),
        ),
    ),
    Message(
        role="user",
        parts=(
            ToolResult(call_id="c1", content="[1]"),
            ToolResult(call_id="c2", content='{"error":"no"}', is_error=True),
            Text(text="Go on"),
        ),
    ),
)


def full_request(model: str) -> ModelRequest:
    return replace(
        request_of(RESPONSES, *HISTORY),
        model=model,
        tools=(ToolOffer(name="look", description="Look it up", args_schema=SCHEMA),),
        answer_schema=SCHEMA,
    )


async def test_the_responses_request_as_it_is_sent() -> None:
    server = Server(RESPONSES.body(Said(text="Hi")))
    answered(await ask(RESPONSES, server, full_request("gpt-5.2")))
    (request,) = server.requests
    assert (request.method, request.url.path) == ("POST", "/v1/responses")
    assert orjson.loads(request.content) == {
        "model": "gpt-5.2",
        "instructions": "Be brief.",
        "max_output_tokens": 500,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "tools": [
            {
                "type": "function",
                "name": "look",
                "description": "Look it up",
                "parameters": SCHEMA,
                "strict": False,
            }
        ],
        "text": {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": False}},
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look"},
                    {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,iVBO"},
                    {
                        "type": "input_file",
                        "filename": "a.pdf",
                        "file_data": "data:application/pdf;base64,JVBE",
                    },
                ],
            },
            REASONING,
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Looking."}],
            },
            {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"q":"ü"}'},
            {
                "type": "function_call",
                "call_id": "c2",
                "name": "look",
                "arguments": '{"not_an_object":"no object"}',
            },
            {"type": "function_call_output", "call_id": "c1", "output": "[1]"},
            {"type": "function_call_output", "call_id": "c2", "output": '{"error":"no"}'},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Go on"}]},
        ],
    }


async def test_the_chat_request_as_it_is_sent() -> None:
    server = Server(CHAT.body(Said(text="Hi")))
    answered(await ask(CHAT, server, full_request("openai-compatible/llama3.3")))
    (request,) = server.requests
    assert (request.method, request.url.path) == ("POST", "/v1/chat/completions")
    assert orjson.loads(request.content) == {
        "model": "llama3.3",
        "max_tokens": 500,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look",
                    "description": "Look it up",
                    "parameters": SCHEMA,
                    "strict": False,
                },
            }
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": SCHEMA, "strict": False},
        },
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
                    {
                        "type": "file",
                        "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": "Looking.",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"q":"ü"}'}},
                    {
                        "id": "c2",
                        "type": "function",
                        "function": {"name": "look", "arguments": '{"not_an_object":"no object"}'},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "[1]"},
            {"role": "tool", "tool_call_id": "c2", "content": '{"error":"no"}'},
            {"role": "user", "content": [{"type": "text", "text": "Go on"}]},
        ],
    }


async def test_streaming_asks_for_usage() -> None:
    for wire, extra in (
        (RESPONSES, {"stream": True}),
        (CHAT, {"stream": True, "stream_options": {"include_usage": True}}),
    ):
        server = Server(wire.body(Said(text="Hi")))
        answered(await ask(wire, server, request_of(wire), lambda piece: None))
        sent = orjson.loads(server.requests[0].content)
        assert {name: sent.get(name) for name in extra} == extra


@pytest.mark.parametrize(
    ("model", "asks"), [("gpt-5.2", True), ("o3-mini", True), ("gpt-4o", False), ("gpt-4.1-mini", False)]
)
def test_reasoning_is_asked_for_where_there_is_any(model: str, asks: bool) -> None:
    assert ("include" in responses.write_request(full_request(model))) is asks


def items_of(count: int) -> ModelRequest:
    """A conversation of `count` messages with tool calls and results."""
    turns = (
        Message(role="assistant", parts=(ToolUse(id="c1", name="look", args={"q": "where is it?"}),)),
        Message(role="user", parts=(ToolResult(call_id="c1", content='{"rows": [1, 2, 3]}'),)),
    )
    hello = Message(role="user", parts=(Text(text="Hello"),))
    return replace(full_request("gpt-5.2"), messages=(hello, *turns * (count // 2)))


async def test_the_sdk_sends_the_same_body_and_gives_the_same_response_either_way() -> None:
    """What `extra_body` is compared with: the SDK's typed way."""
    sent: list[dict[str, Any]] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        sent.append(orjson.loads(request.content))
        wire = CHAT if request.url.path.endswith("completions") else RESPONSES
        return httpx2.Response(200, content=wire.body(Said(text="Hi", calls=(("c1", "look", "{}"),))))

    transport = httpx2.AsyncClient(transport=httpx2.MockTransport(handle))
    sdk = openai.AsyncOpenAI(api_key=KEY, base_url="http://provider.test/v1", http_client=transport)
    body = responses.write_request(full_request("gpt-5.2"))
    plain = await sdk.responses.create(**body)
    extra = await sdk.responses.create(extra_body=body)
    assert sent[0] == sent[1] == body
    assert plain == extra
    assert (type(extra), extra.output_text) == (openai.types.responses.Response, "Hi")
    body = chat.write_request(full_request("llama3.3"))
    chatted = await sdk.chat.completions.create(**body)
    extra_chatted = await sdk.chat.completions.create(model="llama3.3", messages=[], extra_body=body)
    assert sent[2] == sent[3] == body
    assert chatted == extra_chatted
    await sdk.close()


async def test_a_call_with_a_long_history_costs_a_tenth_of_the_sdk_s_own_way() -> None:
    """By processor time, relative to the typed way on the same transport: 101 items."""
    request = items_of(100)
    reply = RESPONSES.body(Said(text="Hi"))
    transport = httpx2.MockTransport(lambda sent: httpx2.Response(200, content=reply))
    client = httpx2.AsyncClient(transport=transport)
    sdk = openai.AsyncOpenAI(api_key=KEY, base_url="http://provider.test/v1", http_client=client)
    model = OpenAIModel(KEY, base_url="http://provider.test/v1", http_client=client)
    body = responses.write_request(request)
    assert len(body["input"]) == 101

    async def ours() -> None:
        await model.complete(request)

    async def plain() -> None:
        await sdk.responses.create(**body)

    async def cheapest_s(call: Any) -> float:
        times = []
        for _ in range(7):
            began = time.process_time()
            await call()
            times.append(time.process_time() - began)
        return min(times)

    await ours()
    await plain()
    assert await cheapest_s(plain) >= 10 * await cheapest_s(ours)
    await model.aclose()


def response_of(**change: Any) -> bytes:
    return json.dumps({**RESPONSES.response(Said(text="Hi")), **change}).encode()


@pytest.mark.parametrize(
    ("change", "stop"),
    [
        ({}, "end"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            "max_tokens",
        ),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "refusal"),
        ({"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}]}, "refusal"),
    ],
)
async def test_why_a_response_stopped(change: dict[str, Any], stop: str) -> None:
    reply = answered(await ask(RESPONSES, Server(response_of(**change)), request_of(RESPONSES)))
    assert reply.stop == stop
    assert reply.text in ("Hi", "No.")


@pytest.mark.parametrize(
    "change",
    [
        {"status": None},
        {"status": "queued"},
        {"status": "incomplete", "incomplete_details": None},
        {"status": "incomplete", "incomplete_details": {"reason": "new"}},
        {"output": None},
        {"output": [None]},
        {"output": [{"type": "message"}]},
        {"output": [{"type": "message", "content": [{"type": "audio"}]}]},
        {"output": [{"type": "function_call", "call_id": "", "name": "n", "arguments": "{}"}]},
        {"output": [{"type": "function_call", "call_id": "c", "name": "n", "arguments": {}}]},
        {"output": [{"type": "function_call", "call_id": "c", "name": "n", "arguments": "{}"}] * 2},
        {"output": [{"type": "new", "n": 2**60}]},
        {"usage": None},
        {"usage": {"input_tokens": -1, "output_tokens": 1}},
        {"usage": {"input_tokens": 1, "output_tokens": 1, "input_tokens_details": [1]}},
    ],
)
async def test_a_response_of_the_wrong_shape_fails(change: dict[str, Any]) -> None:
    error = failed(await ask(RESPONSES, Server(response_of(**change)), request_of(RESPONSES)))
    assert (error.code, error.retryable) == ("model.failed", False)
    assert error.usage in (None, Said().usage)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "server_error", "message": "oops"}, "model.unavailable"),
        ({"code": "rate_limit_exceeded", "message": "slow"}, "model.unavailable"),
        ({"code": "insufficient_quota", "message": "pay"}, "model.failed"),
        ({"code": "invalid_prompt", "message": "no"}, "model.failed"),
        (None, "model.failed"),
    ],
)
@pytest.mark.parametrize("way", ["body", "failed", "error"])
async def test_a_response_that_failed_says_whether_a_later_try_may_succeed(
    error: Any, code: str, way: str
) -> None:
    value = json.loads(response_of(status="failed", error=error, usage=None, output=[]))
    if way == "body":
        result = await ask(RESPONSES, Server(json.dumps(value).encode()), request_of(RESPONSES))
    else:
        last: dict[str, Any] = {"type": "response.failed", "response": value}
        if way == "error":
            last = {"type": "error", **(error or {})}
        result = await ask(
            RESPONSES, Server(event(last), stream=True), request_of(RESPONSES), lambda piece: None
        )
    assert (failed(result).code, failed(result).usage) == (code, None)


async def test_several_texts_are_streamed_as_they_are_joined() -> None:
    content = [{"type": "output_text", "text": text} for text in ("One", "", "two")]
    value = json.loads(response_of(output=[REASONING, {"type": "message", "content": content}]))
    place = {"output_index": 1}
    events = [
        {"type": "response.content_part.added", **place, "content_index": 0, "part": content[0]},
        {"type": "response.output_text.delta", **place, "content_index": 0, "delta": "O"},
        {"type": "response.output_text.delta", **place, "content_index": 0, "delta": "ne"},
        {"type": "response.content_part.added", **place, "content_index": 1, "part": content[1]},
        {"type": "response.output_text.delta", **place, "content_index": 2, "delta": "two"},
        {"type": "response.completed", "response": value},
    ]
    pieces: list[str] = []
    server = Server(*(event(one) for one in events), stream=True)
    reply = answered(await ask(RESPONSES, server, request_of(RESPONSES), pieces.append))
    assert "".join(pieces) == reply.text == "One\n\ntwo"
    assert reply.parts[0] == Opaque(provider="openai", block=REASONING)


async def test_a_last_event_without_output_stands_for_what_came_before() -> None:
    said = Said(text="Hi", calls=(("c1", "look", "{}"),))
    *events, _ = RESPONSES.events(said)
    last = event({"type": "response.completed", "response": {**RESPONSES.response(said), "output": []}})
    reply = answered(
        await ask(RESPONSES, Server(*events, last, stream=True), request_of(RESPONSES), lambda piece: None)
    )
    assert (reply.text, len(reply.tool_uses), reply.stop) == ("Hi", 1, "tool_use")


def completion_of(message: Any, finish: Any = "stop", **change: Any) -> bytes:
    value = json.loads(CHAT.body(Said()))
    value["choices"] = [{"index": 0, "message": message, "finish_reason": finish}]
    return json.dumps({**value, **change}).encode()


CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("message", "finish", "stop"),
    [
        ({"content": "Hi"}, "stop", "end"),
        ({"content": "Hi"}, "length", "max_tokens"),
        ({"content": "Hi"}, "content_filter", "refusal"),
        ({"content": None, "refusal": "No."}, "stop", "refusal"),
        ({"content": None, "tool_calls": [CALL]}, "tool_calls", "tool_use"),
        ({"content": None, "tool_calls": [CALL]}, "stop", "tool_use"),
    ],
)
async def test_why_a_completion_stopped(message: Any, finish: str, stop: str) -> None:
    reply = answered(await ask(CHAT, Server(completion_of(message, finish)), request_of(CHAT)))
    assert reply.stop == stop


@pytest.mark.parametrize(
    "body",
    [
        completion_of({"content": 1}),
        completion_of({"content": "Hi"}, None),
        completion_of({"content": "Hi"}, "new"),
        completion_of(None),
        completion_of({"tool_calls": 1}),
        completion_of({"tool_calls": [{**CALL, "id": None}]}),
        completion_of({"tool_calls": [CALL, CALL]}),
        completion_of({"content": "Hi"}, "tool_calls"),
        completion_of({"content": "Hi"}, usage=None),
        completion_of({"content": "Hi"}, choices=[]),
        completion_of({"content": "Hi"}, error={"message": "no"}),
    ],
)
async def test_a_completion_of_the_wrong_shape_fails(body: bytes) -> None:
    error = failed(await ask(CHAT, Server(body), request_of(CHAT)))
    assert (error.code, error.retryable) == ("model.failed", False)


async def test_calls_that_come_whole_and_without_an_index_are_told_apart() -> None:
    deltas = [{"tool_calls": [{**CALL, "id": name}]} for name in ("c1", "c2")]
    events = [event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) for delta in deltas]
    events += CHAT.events(Said())[-3:]
    reply = answered(await ask(CHAT, Server(*events, stream=True), request_of(CHAT), lambda piece: None))
    assert [use.id for use in reply.tool_uses] == ["c1", "c2"]


async def test_a_stream_without_usage_is_billed_an_unknown_amount() -> None:
    events = [one for one in CHAT.events(Said(text="Hi")) if b'"usage": {' not in one]
    error = failed(await ask(CHAT, Server(*events, stream=True), request_of(CHAT), lambda piece: None))
    assert (error.code, error.usage) == ("model.failed", None)


@pytest.mark.parametrize(
    ("details", "usage"),
    [
        ({"cached_tokens": 60, "cache_write_tokens": 30}, (10, 60, 30)),
        ({"cached_tokens": 100}, (0, 100, 0)),
        ({"cached_tokens": 101}, (100, 101, 0)),
        ({}, (100, 0, 0)),
        (None, (100, 0, 0)),
    ],
)
@pytest.mark.parametrize("reasoning", [0, 6])
async def test_input_excludes_what_was_cached_and_output_includes_reasoning(
    details: Any, usage: tuple[int, int, int], reasoning: int
) -> None:
    fields = {"input_tokens": 100, "output_tokens": 9, "input_tokens_details": details}
    fields["output_tokens_details"] = {"reasoning_tokens": reasoning}
    reply = answered(await ask(RESPONSES, Server(response_of(usage=fields)), request_of(RESPONSES)))
    read, cached, written = usage
    expected = Usage(input_tokens=read, output_tokens=9, cache_read_tokens=cached, cache_write_tokens=written)
    assert reply.usage == expected


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "rate_limit_exceeded", "type": "tokens"}, "model.unavailable"),
        ({"code": "insufficient_quota", "type": "insufficient_quota"}, "model.failed"),
    ],
)
async def test_too_many_requests_and_no_money_are_two_things(error: dict[str, str], code: str) -> None:
    server = Server(json.dumps({"error": {"message": "no", **error}}).encode(), status=429)
    assert failed(await ask(RESPONSES, server, request_of(RESPONSES))).code == code


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
    def handle(request: httpx2.Request) -> httpx2.Response:
        raise raised(f"down, said {KEY}")

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(handle))
    model = RESPONSES.open("http://provider.test/v1", client, 1.0)
    with pytest.raises(EffectFailed) as caught:
        await model.complete(request_of(RESPONSES))
    error = caught.value
    assert (error.code, error.retryable, error.usage) == (code, True, billed)
    assert KEY not in error.message
    await model.aclose()


async def test_the_environment_s_organisation_is_told_to_openai_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    reply = RESPONSES.body(Said(text="Hi"))
    for address, told in (("http://llm.test/v1", False), ("https://eu.api.openai.com/v1", True)):
        seen: list[httpx2.Headers] = []

        def handle(request: httpx2.Request, seen: list[httpx2.Headers] = seen) -> httpx2.Response:
            seen.append(request.headers)
            return httpx2.Response(200, content=reply)

        model = RESPONSES.open(address, httpx2.AsyncClient(transport=httpx2.MockTransport(handle)), 1.0)
        await model.complete(request_of(RESPONSES))
        assert ("openai-organization" in seen[0], "openai-project" in seen[0]) == (told, told)
        assert seen[0]["authorization"] == f"Bearer {KEY}"
        await model.aclose()


async def test_the_json_test_suite_as_arguments(shared_data: Path) -> None:
    suite = shared_data / "payloads" / "jsontestsuite.json.gz"
    if not suite.is_file():
        pytest.skip("the JSON test suite is not here")
    for case in json.loads(gzip.decompress(suite.read_bytes())):
        text = base64.b64decode(case["b64"]).decode("utf-8", "replace")
        body = json.loads(CHAT.body(Said(calls=(("c1", "look", "{}"),), stop="tool_use")))
        body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = text
        reply = chat.read_reply(json.dumps(body).encode(), "m")
        (use,) = reply.tool_uses
        if case["expect"] == "n" and text.strip() and "�" not in text:
            assert use.args == text, case["name"]
        orjson.dumps(chat.write_request(request_of(CHAT, Message(role="assistant", parts=reply.parts))))


def test_the_sdk_is_loaded_only_when_a_model_is_called() -> None:
    code = (
        "import sys; from remit.adapters.models import OpenAIModel;"
        "OpenAIModel('k'); sys.exit('openai' in sys.modules or 'httpx2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
