"""Whether a failed attempt is followed by another, and when: after 1, 2, 4 ... s, within what is left of the run."""

from __future__ import annotations

from dataclasses import dataclass

from remit.core.runs import RunEnd
from remit.governance.gate import GovernedRun
from remit.governance.remit import Remit
from remit.ports.services import Clock
from remit.runtime.context import Conversation
from remit.runtime.endings import AttemptFailed
from remit.runtime.health import Health
from remit.runtime.loop import AgentLoop
from remit.runtime.slots import left_s

_BACKOFF_MAX_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Another attempt is made, in `wait_s` seconds."""

    wait_s: float


class Retries:
    """Of one agent's runs."""

    def __init__(self, remit: Remit, health: Health, clock: Clock) -> None:
        self._remit = remit
        self._health = health
        self._clock = clock

    def after(self, failed: AttemptFailed, governed: GovernedRun, loop: AgentLoop) -> RunEnd | Retry:
        """Another attempt, and when; or the run's end, where none is left, none is due, or none would be in time."""
        conversation = loop.conversation
        if governed.attempt > self._remit.max_retries:
            return RunEnd(status="failed", code=failed.code, message=failed.message)
        if not self._health.take_retry(conversation.model):
            message = f"{failed.message}; not retried, because too many calls are being retried"
            return RunEnd(status="failed", code=failed.code, message=message)
        following = self._next_model(conversation)
        if following is not None and not loop.streaming.has_shown:
            conversation.fail_over(following)
            return Retry(wait_s=0.0)
        wait_s = max(self._backoff_s(governed.attempt), failed.retry_after_s or 0.0)
        if wait_s >= left_s(governed.run, self._clock):
            message = f"{failed.message}; the next attempt is due in {wait_s:.0f} s, after the run's deadline"
            return RunEnd(status="failed", code=failed.code, message=message)
        return Retry(wait_s=wait_s)

    def _backoff_s(self, attempt: int) -> float:
        """1, 2, 4 ... s and up to a quarter more, so that runs that failed together do not return together."""
        jitter = int.from_bytes(self._clock.entropy(2), "big") / 65_536 / 4
        return min(2.0 ** (attempt - 1), _BACKOFF_MAX_S) * (1 + jitter)

    def _next_model(self, conversation: Conversation) -> str | None:
        """The model to fail over to; None where there is no further one, or tools have been called already."""
        models = (self._remit.model, *self._remit.fallback_models)
        following = models.index(conversation.model) + 1
        return models[following] if conversation.step == 0 and following < len(models) else None
