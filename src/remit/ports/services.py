"""The ports of the world around the gate: clock, ids, prices, messages, telemetry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from remit.core.actions import Action
from remit.core.decisions import Decision
from remit.core.messages import Usage
from remit.core.outbox import MessageState, OutboxMessage
from remit.core.outcomes import Outcome
from remit.core.runs import Run, RunEnd
from remit.core.tools import Isolation
from remit.ports.journal import Alert

HasLease: TypeAlias = Callable[[], bool]
"""Whether this process is surely still the one that has its runs."""


class Clock(Protocol):
    """Time and chance. A simulation gives its own."""

    def now_us(self) -> int:
        """Wall time in microseconds since 1970, UTC."""
        ...

    def monotonic_ns(self) -> int:
        """A time that never goes back, in nanoseconds, for durations."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait without keeping anybody else waiting."""
        ...

    def entropy(self, size: int) -> bytes:
        """`size` bytes that nobody can foresee."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What usage costs, in nano-USD, rounded up.

    `saved`: how much more the same tokens would have cost without a cache; below zero where writing to it cost more
    than it saved. `assumed`: the service tier or the place that the provider names is not in the price table, so
    the dearest that is known was charged.
    """

    cost_nano_usd: int
    saved_nano_usd: int = 0
    assumed: bool = False


class Prices(Protocol):
    """What models cost."""

    def charge(self, model: str, usage: Usage) -> Charge:
        """What `usage` costs. Raises: RemitError `price.unknown`."""
        ...

    def worst_cost(self, model: str, input_tokens_max: int, output_tokens_max: int) -> int:
        """The most that a call within these bounds can cost, in nano-USD. Raises: RemitError `price.unknown`."""
        ...


class EffectEnded(NamedTuple):
    """One action came to its outcome. Times are wall microseconds; `started_us` is before the decision.

    `isolation`: in which a tool was called.
    """

    run: Run
    action: Action
    attempt: int
    decision: Decision
    outcome: Outcome
    started_us: int
    duration_us: int
    isolation: Isolation = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstText:
    """The first text of a streamed reply came, `after_us` after its call was begun."""

    run: Run
    model: str
    after_us: int


class ToolProgress(NamedTuple):
    """A tool says how far its call is. The words are its own: for showing to who asked for the call, and kept nowhere."""

    run: Run
    action: Action
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """One attempt of a run ended; `error` is empty where it did not fail."""

    run: Run
    attempt: int
    started_us: int
    duration_us: int
    error: str = ""
    retry_in_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A run was taken up by a worker."""

    run: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStopped:
    """A run ended, or waits for a person."""

    run: Run
    end: RunEnd
    started_us: int
    duration_us: int
    usage: Usage
    cost_nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdCrossed:
    """Spending crossed a threshold of its cap, for the first time in the period.

    `run` is None where no call of a run crossed it, but a hold that expired.
    """

    agent: str
    alert: Alert
    run: Run | None = None


TelemetryEvent: TypeAlias = (
    RunStarted | EffectEnded | FirstText | ToolProgress | AttemptEnded | RunStopped | ThresholdCrossed
)


TextSink: TypeAlias = Callable[[str], None]
"""Told each piece of a reply's text as it comes. For showing alone: what counts is the reply."""


class Stream(Protocol):
    """Where a reply is shown while it is being made. Outside of every record and decision; never raises."""

    def text(self, attempt: int, text: str) -> None:
        """The next piece of the reply of this attempt."""
        ...

    def reset(self, attempt: int) -> None:
        """What was shown of this attempt is void: another attempt begins."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a receiver made of a message. `waiting`: to be tried again, after `retry_after_s` at the earliest.

    `error` may be shown to people, so it holds no secret and no address.
    """

    state: MessageState
    error: str = ""
    retry_after_s: float = 0.0


class Messenger(Protocol):
    """Takes messages to the outside."""

    async def send(self, message: OutboxMessage, at_us: int) -> Receipt:
        """Try once to deliver `message`, in bounded time. Raises only cancellation."""
        ...


class Telemetry(Protocol):
    """Where what happened is shown: spans, metrics, log lines. Never a part of a decision."""

    def emit(self, event: TelemetryEvent) -> None:
        """Take note of `event`. Returns at once and never raises."""
        ...
