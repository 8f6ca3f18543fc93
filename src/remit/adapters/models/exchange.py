"""One exchange with a provider: how a body or a stream becomes a reply, whichever of the two comes.

A reader takes the response's bytes as they come and always knows what would be billed if no more came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from remit.adapters.models import failures
from remit.adapters.models.replies import malformed, parse
from remit.adapters.models.sse import SseDecoder
from remit.core.messages import ModelReply, ModelRequest, Usage
from remit.ports.effects import EffectFailed
from remit.ports.services import TextSink

REPLY_BYTES_MAX = 64 * 2**20


class Reader(Protocol):
    """Reads one response."""

    @property
    def billed(self) -> Usage | None:
        """The most that has been billed so far; None where that is not known."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether the reply is whole, though the response may go on."""
        ...

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes. Raises: EffectFailed."""
        ...

    def reply(self) -> ModelReply:
        """The reply, once all bytes were taken. Raises: EffectFailed."""
        ...


class EventStream(Protocol):
    """Builds a reply from a provider's events."""

    @property
    def billed(self) -> Usage | None:
        """As in `Reader`."""
        ...

    @property
    def is_done(self) -> bool:
        """As in `Reader`."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing, should no more events come."""
        ...

    def end(self) -> None:
        """Take the mark that there are no more events."""
        ...

    def take(self, event: dict[str, Any]) -> None:
        """Take the next event. Raises: EffectFailed."""
        ...

    def reply(self) -> ModelReply:
        """The reply, where `is_done` or `is_whole`. Raises: EffectFailed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request's body, and how its response is read: as one body, or as events where it streams."""

    body: dict[str, Any]
    read_body: Callable[[bytes], ModelReply]
    events: EventStream | None = None
    relay: TextRelay | None = None

    @property
    def model(self) -> str:
        """The model that is asked, by the name that the provider knows."""
        return str(self.body.get("model", ""))

    def reader(self, content_type: str) -> Reader:
        """The reader for a response of this type; a server may answer whole where a stream was asked for."""
        if self.events is not None and content_type.lower().startswith("text/event-stream"):
            return _StreamReader(self.events)
        return _BodyReader(self.read_body, self.relay)


class TextRelay:
    """Tells a sink the text as it comes, so that the pieces join to the reply's text."""

    def __init__(self, sink: TextSink) -> None:
        self._sink = sink
        self._told: list[str] = []
        self._parts = 0

    def begin_part(self) -> None:
        """A text part begins; parts are joined by a new line."""
        self._parts += 1
        if self._parts > 1:
            self.tell("\n")

    def tell(self, piece: str) -> None:
        """Pass on the next piece."""
        if piece:
            self._told.append(piece)
            self._sink(piece)

    def finish(self, text: str) -> None:
        """Pass on what is still missing of the reply's `text`."""
        told = "".join(self._told)
        if text.startswith(told):
            self.tell(text[len(told) :])


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One wire protocol: how a request is written, a body read, events read, and how a stream is asked for."""

    write: Callable[[ModelRequest], dict[str, Any]]
    read: Callable[[bytes, str], ModelReply]
    stream: Callable[[ModelRequest, TextRelay], EventStream]
    streaming: Mapping[str, Any]

    def exchange(self, request: ModelRequest, on_text: TextSink | None) -> Exchange:
        """The exchange for `request`; it is streamed where `on_text` is given."""
        body = self.write(request)

        def read(data: bytes) -> ModelReply:
            return self.read(data, request.model)

        if on_text is None:
            return Exchange(body=body, read_body=read)
        relay = TextRelay(on_text)
        events = self.stream(request, relay)
        return Exchange(body={**body, **self.streaming}, read_body=read, events=events, relay=relay)


class _BodyReader:
    def __init__(self, read: Callable[[bytes], ModelReply], relay: TextRelay | None) -> None:
        self._read = read
        self._relay = relay
        self._chunks: list[bytes] = []
        self._size = 0

    billed = None
    is_done = False

    def feed(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > REPLY_BYTES_MAX:
            raise malformed("the body is too large")
        self._chunks.append(chunk)

    def reply(self) -> ModelReply:
        reply = self._read(b"".join(self._chunks))
        if self._relay is not None:
            self._relay.finish(reply.text)
        return reply


class _StreamReader:
    def __init__(self, events: EventStream) -> None:
        self._events = events
        self._decoder = SseDecoder()
        self._size = 0

    @property
    def billed(self) -> Usage | None:
        return self._events.billed

    @property
    def is_done(self) -> bool:
        return self._events.is_done

    def feed(self, chunk: bytes) -> None:
        self._size += len(chunk)
        try:
            if self._size > REPLY_BYTES_MAX:
                raise malformed("the stream is too large")
            for data in self._decoder.feed(chunk):
                if self.is_done:
                    return
                if data.strip() == b"[DONE]":
                    self._events.end()
                else:
                    self._events.take(_event(data))
        except EffectFailed as error:
            raise self._as_billed(error) from None

    def reply(self) -> ModelReply:
        if not self.is_done and not self._events.is_whole:
            raise failures.of_cut("the stream ended before the reply did", self.billed)
        try:
            return self._events.reply()
        except EffectFailed as error:
            raise self._as_billed(error) from None

    def _as_billed(self, error: EffectFailed) -> EffectFailed:
        """`error` with what was billed until then, where it does not know better."""
        usage = self.billed if error.usage is None else error.usage
        return EffectFailed(
            error.code,
            error.message,
            retryable=error.retryable,
            retry_after_s=error.retry_after_s,
            usage=usage,
        )


def _event(data: bytes) -> dict[str, Any]:
    try:
        event = parse(data)
    except ValueError:
        raise malformed("an event is not JSON") from None
    if not isinstance(event, dict):
        raise malformed("an event is not an object")
    return event
