"""What the ratelimit headers speak of: an allowance that is used up within a minute and then is whole again."""

from __future__ import annotations

from dataclasses import dataclass

from remit.ports.services import Clock

WINDOW_US = 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may be used in a minute; with `enforced`, a request beyond it is answered with 429."""

    requests: int = 4_000
    input_tokens: int = 2_000_000
    output_tokens: int = 400_000
    enforced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What is left of `limits`, until `reset_us` (wall time); `reset_in_us` from now."""

    limits: Limits
    requests: int
    input_tokens: int
    output_tokens: int
    reset_us: int
    reset_in_us: int

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def is_used_up(self) -> bool:
        return min(self.requests, self.input_tokens, self.output_tokens) <= 0


class Meter:
    """Counts what is used in the current minute. Cache reads do not count, as at the providers."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Begin a new minute."""
        self._since_us = self._clock.now_us()
        self._requests = self._input_tokens = self._output_tokens = 0

    def use(self, *, requests: int = 0, input_tokens: int = 0, output_tokens: int = 0) -> None:
        """Count what is used."""
        if self._clock.now_us() - self._since_us >= WINDOW_US:
            self.reset()
        self._requests += requests
        self._input_tokens += input_tokens
        self._output_tokens += output_tokens

    def left(self) -> Allowance:
        """What is left of this minute."""
        now_us = self._clock.now_us()
        if now_us - self._since_us >= WINDOW_US:
            self.reset()
        limits = self._limits
        reset_us = self._since_us + WINDOW_US
        return Allowance(
            limits=limits,
            requests=max(limits.requests - self._requests, 0),
            input_tokens=max(limits.input_tokens - self._input_tokens, 0),
            output_tokens=max(limits.output_tokens - self._output_tokens, 0),
            reset_us=reset_us,
            reset_in_us=reset_us - now_us,
        )
