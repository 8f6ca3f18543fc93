"""Both clients against a mock of the providers that others wrote: what we believe of the wire is not ours alone."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from remit.adapters.models import AnthropicModel, OpenAIModel, OpenAIOptions
from remit.core.messages import (
    Message,
    ModelReply,
    ModelRequest,
    Text,
    ToolOffer,
    ToolResult,
    ToolUse,
    Usage,
)
from remit.ports.effects import EffectFailed

PACKAGE = "@copilotkit/aimock@1.43.0"
TEXT = "It is raining in Łódź, as so often; take an umbrella with you."
USAGE = {
    "input_tokens": 12,
    "output_tokens": 9,
    "prompt_tokens": 12,
    "completion_tokens": 9,
    "total_tokens": 21,
}
ARGS = {"city": "Łódź", "days": [1, 2.5, None], "deep": {"a": True}}
CALLS = [
    {"id": "call_weather", "name": "get_weather", "arguments": ARGS},
    {"id": "call_news", "name": "get_news", "arguments": {}},
]


def failing(status: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"status": status, "error": {"type": kind, "message": "scripted", **fields}}


FIXTURES = [
    {"match": {"userMessage": "text", "hasToolResult": False}, "response": {"content": TEXT, "usage": USAGE}},
    {"match": {"userMessage": "tools", "hasToolResult": False}, "response": {"toolCalls": CALLS}},
    {"match": {"userMessage": "tools", "hasToolResult": True}, "response": {"content": "Done."}},
    {"match": {"userMessage": "both"}, "response": {"content": "Looking.", "toolCalls": CALLS[:1]}},
    {"match": {"userMessage": "busy", "sequenceIndex": 0}, "response": failing(429, "rate_limit_error")},
    {"match": {"userMessage": "busy", "sequenceIndex": 1}, "response": failing(529, "overloaded_error")},
    {"match": {"userMessage": "busy", "sequenceIndex": 2}, "response": {"content": "At last."}},
    {"match": {"userMessage": "spent"}, "response": failing(429, "insufficient_quota", code="insufficient_quota")},
    {"match": {"userMessage": "wrong"}, "response": failing(400, "invalid_request_error")},
]  # fmt: skip
OFFERS = tuple(
    ToolOffer(name=name, description=name, args_schema={"type": "object"})
    for name in ("get_weather", "get_news")
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("aimock")
    command = [
        npm,
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
        str(folder),
        PACKAGE,
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=90)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip(f"the npm registry does not give {PACKAGE}")
    return folder / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"


@pytest.fixture
def address(program: Path, tmp_path: Path) -> Iterator[str]:
    """A server of its own for each test, so that its counters begin anew."""
    fixtures = tmp_path / "fixtures.json"
    fixtures.write_text(json.dumps({"fixtures": FIXTURES}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["node", str(program), "-p", str(port), "-f", str(fixtures), "-c", "5", "--strict"]
    environment = {"PATH": os.environ["PATH"]}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(20)


PROTOCOLS = ["anthropic", "responses", "chat"]


@asynccontextmanager
async def model_at(address: str, protocol: str) -> AsyncIterator[AnthropicModel | OpenAIModel]:
    model: AnthropicModel | OpenAIModel
    if protocol == "anthropic":
        model = AnthropicModel("test-key", base_url=address, timeout_s=20.0)
    else:
        options = OpenAIOptions(protocol="chat" if protocol == "chat" else "responses", timeout_s=20.0)
        model = OpenAIModel("test-key", base_url=f"{address}/v1", options=options)
    try:
        await _listening(address)
        yield model
    finally:
        await model.aclose()


async def _listening(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return


def request_of(protocol: str, text: str, *more: Message) -> ModelRequest:
    return ModelRequest(
        model="claude-sonnet-4-20260514" if protocol == "anthropic" else "gpt-5.2",
        system="Be brief.",
        messages=(Message(role="user", parts=(Text(text=text),)), *more),
        tools=OFFERS,
        max_output_tokens=500,
    )


async def both_ways(
    model: AnthropicModel | OpenAIModel, request: ModelRequest
) -> tuple[ModelReply, ModelReply, list[str]]:
    pieces: list[str] = []
    whole = await model.complete(request)
    return whole, await model.complete(request, pieces.append), pieces


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_text_whole_and_streamed(address: str, protocol: str) -> None:
    async with model_at(address, protocol) as model:
        whole, streamed, pieces = await both_ways(model, request_of(protocol, "text"))
    for reply in (whole, streamed):
        assert (reply.text, reply.stop, reply.tool_uses) == (TEXT, "end", ())
        assert reply.usage == Usage(input_tokens=12, output_tokens=9)
    assert "".join(pieces) == TEXT
    assert len(pieces) > 5


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_parallel_tool_calls_and_their_results(address: str, protocol: str) -> None:
    async with model_at(address, protocol) as model:
        request = request_of(protocol, "tools")
        whole, streamed, pieces = await both_ways(model, request)
        for reply in (whole, streamed):
            assert reply.stop == "tool_use"
            assert [(use.name, use.args) for use in reply.tool_uses] == [
                ("get_weather", ARGS),
                ("get_news", {}),
            ]
        assert pieces == []
        results = tuple(ToolResult(call_id=use.id, content="[1]") for use in streamed.tool_uses)
        told = request_of(
            protocol,
            "tools",
            Message(role="assistant", parts=streamed.parts),
            Message(role="user", parts=results),
        )
        assert (await model.complete(told)).text == "Done."


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_text_before_a_call(address: str, protocol: str) -> None:
    async with model_at(address, protocol) as model:
        whole, streamed, pieces = await both_ways(model, request_of(protocol, "both"))
    for reply in (whole, streamed):
        assert (reply.text, reply.stop) == ("Looking.", "tool_use")
        assert isinstance(reply.tool_uses[0], ToolUse)
    assert "".join(pieces) == "Looking."


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("sink", [None, lambda piece: None], ids=["whole", "streamed"])
async def test_a_busy_provider_is_asked_once_a_call(
    address: str, protocol: str, sink: Callable[[str], None] | None
) -> None:
    async with model_at(address, protocol) as model:
        request = request_of(protocol, "busy")
        for status in (429, 529):
            with pytest.raises(EffectFailed, match=f"answered {status}") as caught:
                await model.complete(request, sink)
            error = caught.value
            assert (error.code, error.retryable, error.usage) == ("model.unavailable", True, Usage())
        assert (await model.complete(request, sink)).text == "At last."


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("task", ["spent", "wrong"])
async def test_what_waiting_does_not_mend_is_not_tried_again(address: str, protocol: str, task: str) -> None:
    async with model_at(address, protocol) as model:
        with pytest.raises(EffectFailed) as caught:
            await model.complete(request_of(protocol, task))
    assert (caught.value.code, caught.value.retryable) == ("model.failed", False)
