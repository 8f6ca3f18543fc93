"""What comes over HTTP is bounded, and a stream that ends at once is not opened again at once for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from remit.adapters.tools.mcp.bounded import PERIOD_S, STREAMS_MAX, Bounded
from remit.testing.fakes import FakeClock

MOST = 50


class Parts(httpx2.AsyncByteStream):
    def __init__(self, parts: list[bytes]) -> None:
        self.parts = parts
        self.given = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            self.given += 1
            yield part


class Answers(httpx2.AsyncBaseTransport):
    def __init__(self, parts: list[bytes], headers: dict[str, str]) -> None:
        self.stream = Parts(parts)
        self.headers = headers

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        assert request.headers["accept-encoding"] == "identity"
        return httpx2.Response(200, headers=self.headers, stream=self.stream)


async def read(answers: Answers) -> bytes:
    async with httpx2.AsyncClient(transport=Bounded(answers, MOST, FakeClock())) as client:
        return (await client.get("http://a.test/")).content


EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}


async def test_an_answer_that_is_too_long_is_read_no_further() -> None:
    assert await read(Answers([b"12345"] * 10, JSON)) == b"12345" * 10
    answers = Answers([b"12345"] * 1_000, JSON)
    with pytest.raises(httpx2.ReadError, match="longer than 50 bytes"):
        await read(answers)
    assert answers.stream.given == 11


async def test_a_stream_may_last() -> None:
    assert await read(Answers([b"data: 1\n\n"] * 100, EVENTS)) == b"data: 1\n\n" * 100


@pytest.mark.parametrize("headers", [EVENTS, JSON])
async def test_what_is_packed_is_not_unpacked(headers: dict[str, str]) -> None:
    with pytest.raises(httpx2.ReadError, match="packed"):
        await read(Answers([b"x"], headers | {"content-encoding": "gzip"}))


async def test_streams_are_opened_at_a_pace_and_calls_are_not_kept_waiting() -> None:
    clock = FakeClock()
    began_us = clock.now_us()
    async with httpx2.AsyncClient(transport=Bounded(Answers([], EVENTS), MOST, clock)) as client:
        for _ in range(STREAMS_MAX):
            await client.get("http://a.test/")
        assert clock.now_us() == began_us
        for _ in range(100):
            await client.post("http://a.test/")
        assert clock.now_us() == began_us
        for _ in range(STREAMS_MAX * 4):
            await client.get("http://a.test/")
    assert clock.now_us() - began_us == 4 * PERIOD_S * 1_000_000
