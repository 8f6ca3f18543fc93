"""A receiver of webhooks on loopback that answers as it is told, and remembers what came."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from remit.adapters.journal.sqlite import SqliteJournal
from remit.core.outbox import BUDGET_ALERTS
from remit.core.webhooks import verify
from remit.testing.fakes import FakeClock
from remit.testing.journal_values import admission_of, completion_of, hold_of, started

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
HANG = b""
"""No answer; the connection stays open."""


@dataclass
class Post:
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The message's id, once its signature was verified as of its own time."""
        return verify([SECRET], self.headers, self.body, now_s=int(self.headers["webhook-timestamp"]))


def answers(status: str, *headers: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "content-length: 0", "", "")).encode()


@dataclass
class Receiver:
    """`script` has the answers to come; then it takes everything."""

    url: str = ""
    script: list[bytes] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")[1:]
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in lines if line)
                }
                body = await reader.readexactly(int(headers["content-length"]))
                self.posts.append(Post(headers, body))
                self.came.set()
                answer = self.script.pop(0) if self.script else OK
                if answer == HANG:
                    await reader.read()  # until whoever asked has gone
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@contextmanager
def taken_port() -> Iterator[socket.socket]:
    """A port of this test's own at which nobody answers yet."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved


def url_of(at: socket.socket) -> str:
    return f"http://127.0.0.1:{at.getsockname()[1]}/hook?token=hidden-in-the-url"


@asynccontextmanager
async def receiving(at: socket.socket | None = None) -> AsyncIterator[Receiver]:
    with contextlib.ExitStack() as stack:
        at = at or stack.enter_context(taken_port())
        receiver = Receiver(url=url_of(at))
        server = await asyncio.start_server(receiver.serve, sock=at)
        try:
            yield receiver
        finally:
            server.close()
            await server.wait_closed()


def environment_of(receiver: Receiver) -> dict[str, str]:
    return {"REMIT_WEBHOOK_URL": receiver.url, "REMIT_WEBHOOK_SECRET": SECRET}


class Crossed:
    """A journal in which thresholds are crossed when a test says so."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        self.clock = clock
        self.path = path
        self._numbers = iter(range(1000))
        self.journal: SqliteJournal

    def open(self) -> SqliteJournal:
        return SqliteJournal.open(self.path, self.clock)

    async def cross(self) -> None:
        """One more scope passes its threshold."""
        number = next(self._numbers)
        hold = hold_of(100, f"day:{number}", percent=50)
        await self.journal.admit(admission_of(f"r.{number}.t", self.clock, holds=(hold,), amount_nano_usd=90))
        await self.journal.complete(completion_of(f"r.{number}.t", self.clock, cost_nano_usd=90))


@asynccontextmanager
async def crossed(path: Path, count: int, clock: FakeClock | None = None) -> AsyncIterator[Crossed]:
    """A journal whose outbox holds `count` messages."""
    place = Crossed(path, clock or FakeClock())
    opened = await started(place)
    assert isinstance(opened, SqliteJournal)
    place.journal = opened
    await place.journal.subscribe(frozenset({BUDGET_ALERTS}))
    for _ in range(count):
        await place.cross()
    try:
        yield place
    finally:
        await place.journal.close()
