"""How the providers are: whether to ask one again, and whether there have been too many retries.

A circuit breaker for each provider opens after some failures in a row and lets one call through when its
pause is over. A retry budget lets retries be about a tenth of all calls, so that they cannot become a storm.
Neither decides what is permitted: they only keep calls from being made.
"""

from __future__ import annotations

from dataclasses import dataclass

from remit.core.models import provider_of
from remit.ports.services import Clock

FAILURES_MAX = 5
PAUSE_S = 30.0
RETRIES_MAX = 10.0
RETRIES_PER_CALL = 0.1


@dataclass(slots=True, kw_only=True)
class _Provider:
    failures: int = 0
    open_until_us: int = 0
    retries_left: float = RETRIES_MAX


class Health:
    """The breakers and budgets of one process, by provider."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._providers: dict[str, _Provider] = {}

    def blocked_s(self, model: str) -> float:
        """How long the model's provider is not to be asked; 0 where it may be. Lets one call through after a pause."""
        provider = self._of(model)
        if provider.failures < FAILURES_MAX:
            return 0.0
        left_us = provider.open_until_us - self._clock.now_us()
        if left_us > 0:
            return left_us / 1_000_000
        provider.open_until_us = self._clock.now_us() + int(PAUSE_S * 1_000_000)
        return 0.0

    def heard(self, model: str, *, available: bool) -> None:
        """Take note of a call's outcome."""
        provider = self._of(model)
        provider.retries_left = min(provider.retries_left + RETRIES_PER_CALL, RETRIES_MAX)
        if available:
            provider.failures = 0
            return
        provider.failures += 1
        if provider.failures >= FAILURES_MAX:
            provider.open_until_us = self._clock.now_us() + int(PAUSE_S * 1_000_000)

    def take_retry(self, model: str) -> bool:
        """Whether one more retry is within the budget; it is taken from it."""
        provider = self._of(model)
        if provider.retries_left < 1:
            return False
        provider.retries_left -= 1
        return True

    def _of(self, model: str) -> _Provider:
        return self._providers.setdefault(provider_of(model), _Provider())
