"""Anthropic's streams, cache marks and attachments: what only this provider has."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from model_wires import AnthropicWire, event

from remit.adapters.models.anthropic_wire import write_request
from remit.core.messages import (
    Attachment,
    Message,
    ModelReply,
    Opaque,
    Text,
    ToolOffer,
    ToolResult,
    ToolUse,
    Usage,
)
from remit.ports.effects import EffectFailed
from remit.testing.model_suite import Said, Server, answered, ask, failed, request_of

WIRE = AnthropicWire()
USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 20,
    "cache_creation_input_tokens": 30,
    "output_tokens": 1,
}
BILLED = Usage(input_tokens=10, output_tokens=500, cache_read_tokens=20, cache_write_tokens=30)
START = {"type": "message_start", "message": {"model": "claude-x", "content": [], "usage": USAGE}}
DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
STOP = {"type": "message_stop"}


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text(value: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": value}


async def streamed(*events: dict[str, Any]) -> tuple[ModelReply | EffectFailed, list[str]]:
    pieces: list[str] = []
    server = Server(*(event(one, one["type"]) for one in events), stream=True)
    return await ask(WIRE, server, request_of(WIRE), pieces.append), pieces


async def test_every_kind_of_block_is_put_together() -> None:
    events = [
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "hm"},
            {"type": "thinking_delta", "thinking": ", so"},
            {"type": "signature_delta", "signature": "c2ln"},
        ),
        *block(1, {"type": "redacted_thinking", "data": "eA=="}),
        *block(2, {"type": "text", "text": "O"}, text("ne"), {"type": "citations_delta", "citation": {}}),
        *block(
            3,
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"query": '},
            {"type": "input_json_delta", "partial_json": '"rain"}'},
        ),
        *block(4, {"type": "from_the_future", "n": [1, {"deep": True}]}),
        *block(5, {"type": "text", "text": ""}),
        *block(6, {"type": "text", "text": ""}, text("two")),
        *block(7, {"type": "tool_use", "id": "t1", "name": "look", "input": {"q": 1}}),
        *block(
            8,
            {"type": "tool_use", "id": "t2", "name": "look", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"q": '},
        ),
    ]
    stop = {**DELTA, "delta": {"stop_reason": "tool_use"}}
    result, pieces = await streamed(START, {"type": "ping"}, *events, {"type": "new"}, stop, STOP)
    reply = answered(result)
    assert reply == ModelReply(
        parts=(
            Opaque(
                provider="anthropic", block={"type": "thinking", "thinking": "hm, so", "signature": "c2ln"}
            ),
            Opaque(provider="anthropic", block={"type": "redacted_thinking", "data": "eA=="}),
            Text(text="One"),
            Opaque(
                provider="anthropic",
                block={
                    "type": "server_tool_use",
                    "id": "s1",
                    "name": "web_search",
                    "input": {"query": "rain"},
                },
            ),
            Opaque(provider="anthropic", block={"type": "from_the_future", "n": [1, {"deep": True}]}),
            Text(text=""),
            Text(text="two"),
            ToolUse(id="t1", name="look", args={"q": 1}),
            ToolUse(id="t2", name="look", args='{"q": '),
        ),
        stop="tool_use",
        usage=replace(BILLED, output_tokens=9),
        model="claude-x",
    )
    assert "".join(pieces) == reply.text == "One\n\ntwo"


async def test_a_cut_before_the_message_began_is_billed_an_unknown_amount() -> None:
    result, _ = await streamed({"type": "ping"})
    error = failed(result)
    assert (error.code, error.retryable, error.usage) == ("model.unavailable", True, None)


@pytest.mark.parametrize(
    "events", [[], block(0, {"type": "text", "text": ""}, text("Hi"))[:-1], [DELTA]], ids=["", "text", "end"]
)
async def test_a_cut_is_billed_the_exact_input_and_all_the_output_that_was_allowed(
    events: list[dict[str, Any]],
) -> None:
    result, _ = await streamed(START, *events)
    error = failed(result)
    assert (error.code, error.retryable, error.usage) == ("model.unavailable", True, BILLED)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("overloaded_error", "model.unavailable"),
        ("api_error", "model.unavailable"),
        ("rate_limit_error", "model.unavailable"),
        ("invalid_request_error", "model.failed"),
    ],
)
async def test_an_error_within_the_stream(kind: str, code: str) -> None:
    error_event = {"type": "error", "error": {"type": kind, "message": "Overloaded"}}
    for events, billed in (((error_event,), None), ((START, error_event), BILLED)):
        result, _ = await streamed(*events)
        error = failed(result)
        assert (error.code, error.retryable, error.usage) == (code, code == "model.unavailable", billed)
        assert "Overloaded" in error.message


async def test_a_wait_within_the_stream_that_is_too_long_is_billed_too() -> None:
    async def content() -> Any:
        yield event(START)
        raise httpx2.ReadTimeout("too slow")

    def handle(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=content())

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(handle))
    model = WIRE.open("http://provider.test/v1", client, 1.0)
    with pytest.raises(EffectFailed) as caught:
        await model.complete(request_of(WIRE), lambda piece: None)
    error = caught.value
    assert (error.code, error.retryable, error.usage) == ("model.timeout", True, BILLED)
    await model.aclose()


@pytest.mark.parametrize(
    "events",
    [
        [START, START],
        [{"type": "message_start", "message": None}],
        [START, *block(1, {"type": "text", "text": ""})],
        [START, *block(0, {"type": "text", "text": None})],
        [START, *block(0, {"type": "thinking", "thinking": ""}, {"type": "new_delta"})],
        [START, *block(0, {"type": "thinking", "thinking": ""}, {"type": "thinking_delta"})],
        [START, block(0, {})[1]],
        [START, block(0, {"type": "text", "text": ""})[0], DELTA, STOP],
        [START, {"type": "message_delta", "delta": {"stop_reason": "new"}}, STOP],
        [START, {**DELTA, "usage": {"output_tokens": -1}}, STOP],
    ],
)
async def test_a_stream_of_the_wrong_shape_fails(events: list[dict[str, Any]]) -> None:
    result, _ = await streamed(*events)
    error = failed(result)
    assert (error.code, error.retryable) == ("model.failed", False)
    assert error.usage in (None, BILLED, replace(BILLED, output_tokens=1))


@pytest.mark.parametrize(
    "junk", [b"data: {\n\n", b"data: []\n\n", event(START)], ids=["json", "list", "twice"]
)
async def test_a_stream_that_goes_wrong_is_billed_up_to_all_that_was_allowed(junk: bytes) -> None:
    server = Server(event(START), junk, stream=True)
    error = failed(await ask(WIRE, server, request_of(WIRE), lambda piece: None))
    assert (error.code, error.retryable, error.usage) == ("model.failed", False, BILLED)


async def test_what_comes_after_the_end_does_not_matter() -> None:
    result, _ = await streamed(
        START, *block(0, {"type": "text", "text": "Hi"}), DELTA, STOP, {"type": "error"}
    )
    assert answered(result).text == "Hi"


async def test_a_server_that_keeps_the_connection_open_keeps_nobody_waiting() -> None:
    events = [event(one) for one in (START, *block(0, {"type": "text", "text": "Hi"}), DELTA, STOP)]
    server = Server(*events, stream=True, broken=True)
    assert answered(await ask(WIRE, server, request_of(WIRE), lambda piece: None)).text == "Hi"


def test_attachments_and_answer_schema_are_written() -> None:
    schema = {"type": "object"}
    parts = (
        Attachment(media_type="image/png", data="iVBO"),
        Attachment(media_type="application/pdf", data="JVBE", name="a.pdf"),
    )
    body = write_request(replace(request_of(WIRE, Message(role="user", parts=parts)), answer_schema=schema))
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert body["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}},
    ]


MARK = {"type": "ephemeral"}


def test_what_the_next_call_repeats_is_marked() -> None:
    thinking = Opaque(provider="anthropic", block={"type": "thinking", "thinking": "hm", "signature": "c2ln"})
    request = replace(
        request_of(
            WIRE,
            Message(role="user", parts=(Text(text="Hello"),)),
            Message(role="assistant", parts=(ToolUse(id="t1", name="a", args={}), thinking)),
            Message(role="user", parts=(ToolResult(call_id="t1", content="1"),)),
        ),
        tools=tuple(ToolOffer(name=name, description="", args_schema={}) for name in "ab"),
        cache_prefix=True,
    )
    body = write_request(request)
    assert body["system"] == [{"type": "text", "text": "Be brief.", "cache_control": MARK}]
    assert ["cache_control" in tool for tool in body["tools"]] == [False, True]
    call, thought = body["messages"][1]["content"]
    assert (call["cache_control"], thought) == (MARK, thinking.block)
    assert json.dumps(body).count("cache_control") == 3
    assert "cache_control" not in thinking.block
    assert "cache_control" not in json.dumps(write_request(replace(request, cache_prefix=False)))


def test_a_prefix_of_nothing_is_not_marked() -> None:
    request = replace(request_of(WIRE), system="", cache_prefix=True)
    assert "cache_control" not in json.dumps(write_request(request))
    opaque = Opaque(provider="anthropic", block={"type": "redacted_thinking", "data": "eA=="})
    messages = (Message(role="assistant", parts=(opaque,)), Message(role="user", parts=(Text(text="x"),)))
    body = write_request(replace(request, messages=messages))
    assert "cache_control" not in json.dumps(body)


async def test_the_model_that_was_asked_for_stands_where_the_provider_names_none() -> None:
    start = {"type": "message_start", "message": {"usage": USAGE}}
    result, _ = await streamed(start, *block(0, {"type": "text", "text": "Hi"}), DELTA, STOP)
    assert answered(result).model == WIRE.model
    assert answered(await ask(WIRE, Server(WIRE.body(Said(text="Hi"))), request_of(WIRE))).text == "Hi"
