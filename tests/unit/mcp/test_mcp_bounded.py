"""What comes over HTTP is bounded by the message: a long stream of short events is read, an endless event is not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.adapters.tools.mcp.bounded import Bounded

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
    async with httpx2.AsyncClient(transport=Bounded(answers, MOST)) as client:
        return (await client.get("http://a.test/")).content


EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}


@given(
    st.lists(
        st.tuples(st.integers(0, MOST - 10), st.sampled_from(["\n\n", "\r\n\r\n", "\r\r"])), max_size=20
    ),
    st.lists(st.integers(1, 70), min_size=1, max_size=60),
)
async def test_a_stream_of_events_that_are_short_enough_is_read_however_it_comes(
    events: list[tuple[int, str]], cuts: list[int]
) -> None:
    whole = b"".join(b"data:" + b"x" * size + end.encode() for size, end in events)
    parts, rest = [], whole
    for cut in cuts:
        # of what comes at once the last event alone is held: the ends before it are seen
        parts.append(rest[:cut])
        rest = rest[cut:]
    parts += [rest[at : at + 7] for at in range(0, len(rest), 7)]
    assert await read(Answers(parts, EVENTS)) == whole


@pytest.mark.parametrize("headers", [EVENTS, JSON])
async def test_what_has_no_end_is_read_no_further(headers: dict[str, str]) -> None:
    answers = Answers([b"data: x\n"] * 1_000, headers)
    with pytest.raises(httpx2.ReadError, match="longer than 50 bytes"):
        await read(answers)
    assert answers.stream.given < 10


async def test_what_is_no_stream_is_bounded_as_a_whole() -> None:
    assert await read(Answers([b"{}\n\n"] * 12, JSON)) == b"{}\n\n" * 12
    with pytest.raises(httpx2.ReadError):
        await read(Answers([b"{}\n\n"] * 13, JSON))


async def test_what_is_packed_is_not_unpacked() -> None:
    with pytest.raises(httpx2.ReadError, match="packed"):
        await read(Answers([b"x"], JSON | {"content-encoding": "gzip"}))
