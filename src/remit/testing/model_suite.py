"""The conformance suite of the `Model` port.

Subclass `ModelSuite` in a test module and set `wire`: a `ModelWire`, which says in a provider's words what
the suite wants said. The model under test speaks to a transport in this process, or to a loopback server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import httpx2
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.core.canonical import INTEGER_MAX, canonical
from remit.core.messages import (
    Message,
    ModelReply,
    ModelRequest,
    Opaque,
    StopReason,
    Text,
    ToolResult,
    ToolUse,
    Usage,
    reply_to_json,
)
from remit.ports.effects import EffectFailed, Model

KEY = "sk-very-secret-0123456789"
ADDRESS = "http://provider.test/v1"
_SHARED = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a provider says: a text, tool calls (id, name, arguments as JSON text), and its count of tokens."""

    text: str = ""
    calls: tuple[tuple[str, str, str], ...] = ()
    stop: StopReason = "end"
    usage: Usage = field(
        default_factory=partial(Usage, input_tokens=11, output_tokens=7, cache_read_tokens=5)
    )
    reasons: bool = False


class ClosableModel(Model, Protocol):
    """A model that holds connections."""

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class ModelWire(Protocol):
    """How one provider speaks."""

    provider: str
    model: str

    def open(self, base_url: str, client: httpx2.AsyncClient | None, timeout_s: float) -> ClosableModel:
        """The model under test, with the key `KEY`."""
        ...

    def body(self, said: Said) -> bytes:
        """`said` in one piece."""
        ...

    def events(self, said: Said) -> Sequence[bytes]:
        """`said` as server-sent events; the last makes it whole."""
        ...


class Server:
    """A transport that answers every request with the same bytes, and counts them."""

    def __init__(self, *chunks: bytes, status: int = 200, stream: bool = False, broken: bool = False) -> None:
        self.requests: list[httpx2.Request] = []
        self.headers = {"content-type": "text/event-stream" if stream else "application/json"}
        self._chunks = chunks
        self._status = status
        self._broken = broken

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        """The response to `request`."""
        self.requests.append(request)
        return httpx2.Response(self._status, headers=self.headers, content=self._content())

    async def _content(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        if self._broken:
            raise httpx2.ReadError("the connection is gone")


async def ask(
    wire: ModelWire, server: Server, request: ModelRequest, on_text: Callable[[str], None] | None = None
) -> ModelReply | EffectFailed:
    """What the model under test makes of the server's answer."""
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(server.answer))
    model = wire.open(ADDRESS, client, 5.0)
    try:
        return await model.complete(request, on_text)
    except EffectFailed as error:
        failure = error
    finally:
        await model.aclose()
    canonical(failure.message)
    assert KEY not in failure.message
    return failure


def request_of(wire: ModelWire, *messages: Message) -> ModelRequest:
    """A small request, or one with `messages`."""
    hello = Message(role="user", parts=(Text(text="Hello"),))
    return ModelRequest(
        model=wire.model, system="Be brief.", messages=messages or (hello,), tools=(), max_output_tokens=500
    )


def failed(result: ModelReply | EffectFailed) -> EffectFailed:
    """`result`, which is a failure."""
    assert isinstance(result, EffectFailed), result
    return result


def answered(result: ModelReply | EffectFailed) -> ModelReply:
    """`result`, which is a reply that can be recorded."""
    assert isinstance(result, ModelReply), vars(result)
    canonical(reply_to_json(result))
    return result


def chunks_of(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """`data` cut at `cuts`, which are taken modulo its length."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


_args = st.recursive(
    st.none() | st.booleans() | st.integers(-INTEGER_MAX, INTEGER_MAX) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
_calls = st.lists(
    st.tuples(
        st.from_regex(r"\A[A-Za-z0-9_-]{1,12}\Z"),
        st.from_regex(r"\A[a-z_]{1,10}\Z"),
        st.dictionaries(st.text(max_size=4), _args, max_size=3).map(json.dumps),
    ),
    max_size=3,
    unique_by=lambda call: call[0],
)
_counts = st.integers(0, 10**6)


@st.composite
def said_values(draw: st.DrawFn) -> Said:
    """Anything that a provider may well say."""
    calls = tuple(draw(_calls))
    ends: list[StopReason] = ["end", "max_tokens"]
    usage = Usage(
        input_tokens=draw(_counts),
        output_tokens=draw(_counts),
        cache_read_tokens=draw(_counts),
        cache_write_tokens=draw(_counts),
    )
    return Said(
        text=draw(st.text(st.characters(codec="utf-8"), max_size=30)),
        calls=calls,
        stop="tool_use" if calls else draw(st.sampled_from(ends)),
        usage=usage,
        reasons=draw(st.booleans()),
    )


class ModelSuite:
    """What every model promises."""

    wire: ModelWire

    @given(said=said_values(), cuts=st.lists(st.integers(0, 10**6), max_size=8))
    @_SHARED
    def test_a_reply_is_the_same_in_one_piece_and_streamed(self, said: Said, cuts: list[int]) -> None:
        async def both() -> None:
            pieces: list[str] = []
            request = request_of(self.wire)
            whole = answered(await ask(self.wire, Server(self.wire.body(said)), request))
            data = b"".join(self.wire.events(said))
            server = Server(*chunks_of(data, cuts), stream=True)
            streamed = answered(await ask(self.wire, server, request, pieces.append))
            assert streamed == whole
            assert "".join(pieces) == whole.text == said.text
            assert (whole.stop, whole.usage) == (said.stop, said.usage)
            uses = [(use.id, use.name, use.args) for use in whole.tool_uses]
            assert uses == [(call_id, name, json.loads(args)) for call_id, name, args in said.calls]
            assert any(isinstance(part, Opaque) for part in whole.parts) <= said.reasons
            assert len(server.requests) == 1

        asyncio.run(both())

    async def test_a_server_may_answer_whole_where_a_stream_was_asked_for(self) -> None:
        pieces: list[str] = []
        server = Server(self.wire.body(Said(text="Hi")))
        reply = answered(await ask(self.wire, server, request_of(self.wire), pieces.append))
        assert ("".join(pieces), reply.text) == ("Hi", "Hi")

    @pytest.mark.parametrize("broken", [False, True], ids=["ended", "broken"])
    async def test_a_stream_that_is_cut_may_be_tried_again_and_is_billed_in_full(self, broken: bool) -> None:
        said = Said(text="One two", calls=(("c1", "look", '{"q": 1}'),), stop="tool_use", reasons=True)
        events = self.wire.events(said)
        request = request_of(self.wire)
        whole = answered(await ask(self.wire, Server(*events, stream=True), request, lambda piece: None))
        for count in range(len(events)):
            server = Server(*events[:count], stream=True, broken=broken)
            result = await ask(self.wire, server, request, lambda piece: None)
            if isinstance(result, ModelReply):
                # only a mark after the whole reply was missing
                assert (result, count) == (whole, len(events) - 1)
                continue
            assert (result.code, result.retryable) == ("model.unavailable", True)
            if result.usage is not None:
                assert result.usage.output_tokens >= request.max_output_tokens
                assert result.usage.prompt_tokens == said.usage.prompt_tokens

    @given(said=said_values(), data=st.data())
    @_SHARED
    def test_any_response_gives_a_reply_or_a_failure(self, said: Said, data: st.DataObject) -> None:
        stream = data.draw(st.booleans())
        good = b"".join(self.wire.events(said)) if stream else self.wire.body(said)
        start = data.draw(st.integers(0, len(good)))
        end = data.draw(st.integers(start, min(len(good), start + 30)))
        junk = data.draw(
            st.binary(max_size=8) | st.sampled_from([b"null", b"1e999", b'"', b"[" * 3000, b"\n\n"])
        )
        server = Server(good[:start] + junk + good[end:], stream=stream)

        async def once() -> None:
            sink: list[str] = []
            result = await ask(self.wire, server, request_of(self.wire), sink.append if stream else None)
            if isinstance(result, ModelReply):
                orjson.dumps(reply_to_json(result))
            else:
                assert result.code in ("model.failed", "model.unavailable")

        asyncio.run(once())

    @given(events=st.lists(st.integers(0, 50), max_size=30), said=said_values())
    @_SHARED
    def test_any_order_of_events_gives_a_reply_or_a_failure(self, events: list[int], said: Said) -> None:
        good = self.wire.events(said)
        server = Server(*(good[index % len(good)] for index in events), stream=True)

        async def once() -> None:
            result = await ask(self.wire, server, request_of(self.wire), lambda piece: None)
            if isinstance(result, ModelReply):
                orjson.dumps(reply_to_json(result))

        asyncio.run(once())

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    @pytest.mark.parametrize(
        "args",
        ['{"n": 9007199254740992}', '{"n": 1' + "0" * 5000 + "}", '{"a": ' + "[" * 3000 + "]" * 3000 + "}"],
        ids=["large", "huge", "deep"],
    )
    async def test_arguments_beyond_the_record_reach_the_gate_as_a_text(
        self, args: str, stream: bool
    ) -> None:
        said = Said(text="x", calls=(("c1", "look", args), ("c2", "look", "{}")), stop="tool_use")
        chunks = self.wire.events(said) if stream else (self.wire.body(said),)
        sink: list[str] = []
        server = Server(*chunks, stream=stream)
        reply = answered(await ask(self.wire, server, request_of(self.wire), sink.append if stream else None))
        assert [type(use.args) for use in reply.tool_uses] == [str, dict]
        assert "cannot be taken" in reply.tool_uses[0].args

    async def test_history_of_another_provider_is_taken(self) -> None:
        """Blocks of the other are left out; ids of any form are accepted, and each result finds its call."""
        foreign = "openai" if self.wire.provider == "anthropic" else "anthropic"
        opaque = Opaque(provider=foreign, block={"type": "thinking", "thinking": "FOREIGN"})
        ids = ("functions.look:0", "x" * 80, "call_1")
        uses = tuple(ToolUse(id=one, name="what is this?", args="no object") for one in ids)
        results = tuple(ToolResult(call_id=one, content="[1]") for one in ids)
        history = (
            Message(role="user", parts=(Text(text="Hello"),)),
            Message(role="assistant", parts=(opaque, *uses)),
            Message(role="user", parts=results),
        )
        server = Server(self.wire.body(Said(text="Hi")))
        answered(await ask(self.wire, server, request_of(self.wire, *history)))
        sent = server.requests[0].content.decode()
        assert "FOREIGN" not in sent
        found = _ids(json.loads(sent))
        assert len(found) == 6
        assert len(set(found)) == 3
        assert all(len(one) <= 64 and one.replace("_", "").replace("-", "").isalnum() for one in found)
        assert found[2] == "call_1"

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (400, "model.failed"),
            (401, "model.failed"),
            (429, "model.unavailable"),
            (503, "model.unavailable"),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    async def test_an_error_is_one_attempt_and_no_bill(self, status: int, code: str, stream: bool) -> None:
        body = json.dumps({"error": {"type": "x", "message": f"no, {KEY}"}}).encode()
        server = Server(body, status=status)
        server.headers["retry-after"] = "7"
        sink: list[str] = []
        result = await ask(self.wire, server, request_of(self.wire), sink.append if stream else None)
        error = failed(result)
        assert (error.code, error.retryable, error.usage) == (code, code != "model.failed", Usage())
        assert error.retry_after_s == (7.0 if error.retryable else None)
        assert "no, [key]" in error.message
        assert (len(server.requests), sink) == (1, [])

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    async def test_a_call_that_is_cancelled_leaves_no_connection(self, stream: bool) -> None:
        reached, closed = asyncio.Event(), asyncio.Event()
        first = self.wire.events(Said(text="Hello there"))[0] if stream else b""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            kind = b"text/event-stream" if stream else b"application/json"
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\ncontent-length: 99999\r\n\r\n" + first
            )
            await writer.drain()
            reached.set()
            while await reader.read(65536):
                continue
            closed.set()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        model = self.wire.open(f"http://127.0.0.1:{port}/v1", None, 30.0)
        call = asyncio.create_task(
            model.complete(request_of(self.wire), (lambda piece: None) if stream else None)
        )
        async with asyncio.timeout(20):
            await reached.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await closed.wait()
        await model.aclose()
        server.close()
        await server.wait_closed()

    async def test_a_request_that_is_not_unicode_is_not_sent(self) -> None:
        bad = replace(request_of(self.wire), system="\ud800")
        server = Server(self.wire.body(Said(text="Hi")))
        error = failed(await ask(self.wire, server, bad))
        assert (error.code, error.usage, server.requests) == ("model.failed", Usage(), [])

    async def test_the_key_is_in_no_representation(self) -> None:
        model = self.wire.open(ADDRESS, None, 1.0)
        assert KEY not in repr(model)
        assert KEY not in repr(vars(model))
        await model.aclose()


def _ids(value: Any) -> list[str]:
    """Every id of a tool call in a request's body, in order."""
    if isinstance(value, list):
        return [one for item in value for one in _ids(item)]
    if not isinstance(value, dict):
        return []
    named = [value[name] for name in ("id", "call_id", "tool_use_id", "tool_call_id") if name in value]
    return named + [one for item in value.values() for one in _ids(item)]
