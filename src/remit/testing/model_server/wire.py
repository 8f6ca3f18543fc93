"""What a wire protocol is to the server: it reads requests, says answers and errors, and tells the limits.

Everything between the two (scripts, cache, tokens, bill) speaks no protocol's dialect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from remit.testing.model_server.conversation import STANDARD, Call, Conversation, Failure, Served
from remit.testing.model_server.limits import Allowance

Stop: TypeAlias = Literal["end", "tool_use", "max_tokens", "stop_sequence", "refusal"]
Lifetime: TypeAlias = Literal["5m", "1h"]
DELTA_CHARS = 12
DELTAS_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens of one call. `input` excludes both cache counts; `reasoning` is within `output`."""

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def cache_write(self) -> int:
        return self.cache_write_5m + self.cache_write_1h

    @property
    def prompt(self) -> int:
        """All that was read, cached or not."""
        return self.input + self.cache_read + self.cache_write


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The prompt up to the end of one of its pieces: digest, tokens, and the cache marker that stands there."""

    digest: bytes
    tokens: int
    mark: Lifetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, read and checked.

    `cache`: only what is `marked` is cached, or every prefix is (`automatic`). `request` is the JSON itself.
    """

    conversation: Conversation
    output_tokens_max: int
    stream: bool
    segments: tuple[Segment, ...]
    cache: Literal["marked", "automatic"]
    thinks: bool = True
    stops: tuple[str, ...] = ()
    request: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt_tokens(self) -> int:
        return max(self.segments[-1].tokens if self.segments else 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is answered: cut to the most tokens that were asked for, and counted. `seed` makes its ids."""

    asked: Asked
    created_s: int
    think: str
    text: str
    calls: tuple[Call, ...]
    refusal: str | None
    stop: Stop
    stop_sequence: str | None
    tokens: Tokens
    served: Served = STANDARD

    @property
    def seed(self) -> str:
        conversation = self.asked.conversation
        return f"{conversation.digest}:{conversation.turn}"


class Event(NamedTuple):
    """Bytes of a stream; `delta`: they carry a piece of the answer itself."""

    data: bytes
    delta: bool = False


class Wire(Protocol):
    """A provider's wire protocol at one path."""

    @property
    def path(self) -> str: ...

    def check_headers(self, headers: Mapping[str, str]) -> None:
        """Raises: BadRequest, where the key or the version is missing."""
        ...

    def read(self, body: bytes) -> Asked:
        """The request in `body`. Raises: BadRequest."""
        ...

    def unknown_model(self, model: str) -> Failure:
        """The error of a model that is not served."""
        ...

    def message(self, answer: Answer) -> dict[str, Any]:
        """The whole answer, as JSON."""
        ...

    def events(self, answer: Answer) -> Iterator[Event]:
        """The answer as a stream."""
        ...

    def failure(self, failure: Failure, request_id: str) -> bytes:
        """The body of an error: the script's own, or the protocol's."""
        ...

    def stream_failure(self, failure: Failure, request_id: str, number: int) -> bytes:
        """The event, the stream's `number`th from 0, that ends it with an error."""
        ...

    def headers(self, request_id: str, allowance: Allowance) -> dict[str, str]:
        """The headers that every answer carries."""
        ...


def pieces(text: str) -> Iterator[str]:
    """`text` in the small pieces of a stream: 12 characters each, longer ones where these would be many."""
    size = max(DELTA_CHARS, -(-len(text) // DELTAS_MAX))
    for start in range(0, len(text), size):
        yield text[start : start + size]
