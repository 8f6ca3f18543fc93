"""Answers over HTTP of which no message is longer than it may be: more of it is not read.

Of a stream of events each event is bounded, so that one may last; of any other answer the whole is.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx2

_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_TAIL = 3
"""So many bytes of an end may have come with what was before."""


class Bounded(httpx2.AsyncBaseTransport):
    """A transport whose answers end with `httpx2.ReadError` where they are too long."""

    def __init__(self, transport: httpx2.AsyncBaseTransport, bytes_max: int) -> None:
        self._transport = transport
        self._bytes_max = bytes_max

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer. Raises: as the transport."""
        # what is packed may be anything once it is unpacked
        request.headers["accept-encoding"] = "identity"
        response = await self._transport.handle_async_request(request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise httpx2.ReadError("the answer is packed, which was not asked for")
        is_events = response.headers.get("content-type", "").lower().startswith("text/event-stream")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Stream(response.stream, self._bytes_max, is_events=is_events)
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, bytes_max: int, *, is_events: bool) -> None:
        self._stream = stream
        self._bytes_max = bytes_max
        self._is_events = is_events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, tail = 0, b""
        async for part in self._stream:
            ends = list(_EVENT_END.finditer(tail + part)) if self._is_events else []
            # an end that came whole with what was before was counted there
            fresh = [end for end in ends if end.end() > len(tail)]
            size = len(tail) + len(part) - fresh[-1].end() if fresh else size + len(part)
            if size > self._bytes_max:
                raise httpx2.ReadError(f"a message is longer than {self._bytes_max} bytes")
            tail = (tail + part)[-_TAIL:] if self._is_events else b""
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
