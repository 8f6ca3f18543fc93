"""How an answer reaches the client: at once, slowly, in part, or not at all.

The entry on the bill is closed before the last bytes leave, so whoever has read them finds it closed.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remit.ports.services import Clock
from remit.testing.model_server.bill import Entry, EntryOutcome
from remit.testing.model_server.conversation import Fault
from remit.testing.model_server.wire import Event

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

BATCH_BYTES = 16_384
ABORT = "remit.testing.abort"
"""The key of the scope under which the connection's reset stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An answer on its way: status, headers, and its bytes in order. An ASGI application.

    `fault`: what goes wrong with it; `fault_event`: the event of a broken stream's error, from its number.
    `entry`: its line on the bill, None where it has none.
    """

    status: int
    headers: dict[str, str]
    events: Iterable[Event]
    clock: Clock
    entry: Entry | None = None
    delay_s: float = 0.0
    drip_s: float = 0.0
    fault: Fault | None = None
    fault_event: Callable[[int], bytes] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self.fault
        if self.delay_s and await self._gone_within(self.delay_s, receive):
            return
        if fault is None:
            await self._start(send)
            await self._send_all(self._batches(self.events), receive, send)
            return
        before, spoilt = _divide(list(self.events), fault)
        if fault.kind in ("malformed", "error") or fault.after or fault.after_bytes:
            await self._start(send)
            if not await self._send_part(before, receive, send):
                return
        if fault.kind in ("malformed", "error"):
            self._close("failed")
            last = _malformed(spoilt.data)
            if fault.kind == "error" and self.fault_event is not None:
                last = self.fault_event(len(before))
            await send({"type": "http.response.body", "body": last})
            return
        self._close("cut" if fault.kind == "cut" else "hung")
        if fault.kind == "cut":
            scope[ABORT]()
        await _left(receive)

    async def _start(self, send: Send) -> None:
        raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})

    async def _send_all(self, batches: Iterator[bytes], receive: Receive, send: Send) -> None:
        waiting = next(batches, b"")
        for batch in batches:
            await send({"type": "http.response.body", "body": waiting, "more_body": True})
            waiting = batch
            if self.drip_s and await self._gone_within(self.drip_s, receive):
                self._close("cut")
                return
        self._close("ok" if self.status < 400 else "failed")
        await send({"type": "http.response.body", "body": waiting})

    async def _send_part(self, events: list[Event], receive: Receive, send: Send) -> bool:
        """What comes before the fault. False where the client left in the meantime."""
        for batch in self._batches(events):
            await send({"type": "http.response.body", "body": batch, "more_body": True})
            if self.drip_s and await self._gone_within(self.drip_s, receive):
                self._close("cut")
                return False
        return True

    def _batches(self, events: Iterable[Event]) -> Iterator[bytes]:
        """Each event by itself where they drip, else many together: a write costs more than an event."""
        batch: list[bytes] = []
        size = 0
        for event in events:
            batch.append(event.data)
            size += len(event.data)
            if size >= BATCH_BYTES or (self.drip_s and event.delta):
                yield b"".join(batch)
                batch, size = [], 0
        if batch:
            yield b"".join(batch)

    async def _gone_within(self, seconds: float, receive: Receive) -> bool:
        """Wait; true as soon as the client has left."""
        waits = asyncio.ensure_future(self.clock.sleep(seconds))
        left = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait((waits, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waits.cancel()
            left.cancel()
        return left.done() and not left.cancelled()

    def _close(self, outcome: EntryOutcome) -> None:
        if self.entry is not None:
            self.entry.outcome = outcome


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


def _divide(events: list[Event], fault: Fault) -> tuple[list[Event], Event]:
    """The events before the fault, and the first that it spoils; never all of them."""
    if fault.after_bytes is not None:
        data = b"".join(event.data for event in events)
        length = min(fault.after_bytes, len(data) - 1)
        return [Event(data[:length])], Event(data[length:])
    count = 0
    for index, event in enumerate(events[:-1]):
        if event.delta:
            if count >= fault.after:
                return events[:index], event
            count += 1
    return events[:-1], events[-1]


def _malformed(data: bytes) -> bytes:
    """The event, its JSON broken off in the middle."""
    start = data.find(b"data: ") + len(b"data: ") if b"data: " in data else 0
    ending = b"\n\n" if start else b""
    return data[: start + (len(data) - start) // 2].rstrip(b"\n") + ending


def resettable(protocol: type[Any]) -> type[Any]:
    """uvicorn's `protocol`, whose applications can reset their connection: `scope[ABORT]()`."""

    class Resettable(protocol):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            inner: Callable[..., Any] = self.__dict__["app"]

            async def app(scope: Any, receive: Any, send: Any) -> None:
                scope[ABORT] = lambda: _reset(self.transport)
                await inner(scope, receive, send)

            self.app = app

    return Resettable


def _reset(transport: Any) -> None:
    # Without lingering, closing sends RST instead of FIN: what a broken network looks like.
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
