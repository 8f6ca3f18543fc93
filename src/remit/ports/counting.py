"""The port through which a provider is asked how many tokens a request has. Free of charge, and an estimate.

It sends the request's data out, so the gate alone is built with it, and asks only what it has decided on.
"""

from __future__ import annotations

from typing import Protocol

from remit.core.messages import ModelRequest


class TokenCounter(Protocol):
    """Whoever can count a request's input tokens as its provider does."""

    def counts(self, model: str) -> bool:
        """Whether there is somebody to ask about calls of `model`."""
        ...

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """The input tokens of `request`; None where its provider does not say, for whatever reason."""
        ...
