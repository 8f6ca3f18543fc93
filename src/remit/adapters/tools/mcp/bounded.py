"""Answers over HTTP that are no longer than they may be, and streams that are not asked for without end.

A message that nobody took, because there was nobody or nobody knew the session, is answered here with an error that says so.
Of a stream of events the protocol's library bounds each event, so that one may last; any other answer is bounded here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

import httpx2

from remit.ports.services import Clock

STREAMS_MAX = 10
PERIOD_S = 10.0
NOT_SENT = -32099
FORGOTTEN = -32098
"""The codes of errors that answer, in the server's place, a message which was certainly not taken."""
_TOLD = {NOT_SENT: "nobody could be connected to", FORGOTTEN: "the server does not know the session"}
_PERIOD_NS = int(PERIOD_S * 1e9)


class Bounded(httpx2.AsyncBaseTransport):
    """A transport whose answers end with `httpx2.ReadError` where they are too long.

    Streams (GET) are opened no faster than `STREAMS_MAX` within `PERIOD_S`: the library opens one that has ended
    again, as soon and as often as the server says.
    """

    def __init__(self, transport: httpx2.AsyncBaseTransport, bytes_max: int, clock: Clock) -> None:
        self._transport = transport
        self._bytes_max = bytes_max
        self._clock = clock
        self._opened_ns: deque[int] = deque(maxlen=STREAMS_MAX)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer. Raises: as the transport."""
        if request.method == "GET":
            await self._turn()
        # what is packed may be anything once it is unpacked
        request.headers["accept-encoding"] = "identity"
        try:
            response = await self._transport.handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout):
            if request.method != "POST":
                raise
            # raised, it would end the whole connection, and all that others wait for would be unknown
            return _error(NOT_SENT, request)
        if response.status_code == 404 and "mcp-session-id" in request.headers:
            await response.aclose()
            return _error(FORGOTTEN, request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise httpx2.ReadError("the answer is packed, which was not asked for")
        if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _Stream(response.stream, self._bytes_max)
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _turn(self) -> None:
        at_ns = self._clock.monotonic_ns()
        if len(self._opened_ns) == STREAMS_MAX:
            at_ns = max(at_ns, self._opened_ns[0] + _PERIOD_NS)
        self._opened_ns.append(at_ns)
        await self._clock.sleep(max(0, at_ns - self._clock.monotonic_ns()) / 1e9)


def _error(code: int, request: httpx2.Request) -> httpx2.Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": _TOLD[code]}}
    return httpx2.Response(503, json=body, request=request)


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, bytes_max: int) -> None:
        self._stream = stream
        self._bytes_max = bytes_max

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._stream:
            size += len(part)
            if size > self._bytes_max:
                raise httpx2.ReadError(f"the answer is longer than {self._bytes_max} bytes")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
