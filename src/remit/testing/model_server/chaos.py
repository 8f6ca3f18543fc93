"""Faults by chance, the same for the same seed: each depends on the request and on how often it came."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from remit.testing.model_server.conversation import Failure, Fault, Reply

REMEMBERED_MAX = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Chaos:
    """How many of 1,000 requests meet which fault; the rest are answered as scripted.

    `limited`: 429; `failed`: 500, 503 or 529; `cut`: the connection is reset within the answer; `hung`:
    billed, but never answered; `slow`: `slow_s` later.
    """

    seed: int
    limited: int = 50
    failed: int = 50
    cut: int = 40
    hung: int = 10
    slow: int = 50
    slow_s: float = 0.05

    def __post_init__(self) -> None:
        shares = (self.limited, self.failed, self.cut, self.hung, self.slow)
        if min(shares) < 0 or sum(shares) > 1_000:
            raise ValueError("the shares of chaos must be 0 to 1,000 together")


class Mischief:
    """Chaos at work: remembers how often each request came."""

    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos
        self._seen: dict[str, int] = {}

    def reset(self) -> None:
        """Forget which requests came."""
        self._seen.clear()

    def meddle(self, reply: Reply, request_digest: str) -> Reply | Failure:
        """`reply`, or what happens instead."""
        chaos = self._chaos
        count = self._seen.pop(request_digest, 0)
        if len(self._seen) >= REMEMBERED_MAX:
            del self._seen[next(iter(self._seen))]
        self._seen[request_digest] = count + 1
        draw = hashlib.sha256(f"{chaos.seed}/{request_digest}/{count}".encode()).digest()
        lot, detail = int.from_bytes(draw[:8]) % 1_000, draw[8]
        if lot < (bound := chaos.limited):
            return Failure(status=429, message="chaos: rate limited", retry_after_s=detail % 2)
        if lot < (bound := bound + chaos.failed):
            return Failure(status=(500, 503, 529)[detail % 3], message="chaos: the provider failed")
        if lot < (bound := bound + chaos.cut):
            return replace(reply, fault=Fault(kind="cut", after=detail % 8))
        if lot < (bound := bound + chaos.hung):
            return replace(reply, fault=Fault(kind="hang", after=detail % 4))
        if lot < bound + chaos.slow:
            return replace(reply, delay_s=reply.delay_s + chaos.slow_s)
        return reply
