"""The official `anthropic` client: one attempt a call, every failure an `EffectFailed`.

The only module that imports the SDK (1 to 2 s); `AnthropicModel` imports it on first need.
"""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import httpx2

from remit.adapters.models.attempts import Attempts, SdkErrors, timeouts
from remit.adapters.models.exchange import Exchange
from remit.adapters.models.provider import Endpoint, Seen
from remit.adapters.models.replies import TOKENS_MAX
from remit.core.messages import ModelReply

COUNT_TIMEOUT_S = 10.0


class AnthropicClient:
    """A connection pool to the provider. The key is never shown."""

    def __init__(self, endpoint: Endpoint, seen: Seen) -> None:
        self._sdk = anthropic.AsyncAnthropic(
            api_key=endpoint.api_key,
            base_url=endpoint.base_url,
            timeout=timeouts(endpoint.timeout_s),
            max_retries=0,  # retries need a hold of their own, so they are the runtime's
            http_client=endpoint.http_client
            or (httpx2.AsyncClient(trust_env=False) if endpoint.is_here else None),
            open_telemetry=False,  # the gate records the call; the SDK's spans would say it twice
        )
        errors = SdkErrors(
            timeout=anthropic.APITimeoutError,
            status=anthropic.APIStatusError,
            connection=anthropic.APIConnectionError,
            any=anthropic.AnthropicError,
        )
        self._attempts = Attempts(errors, endpoint.api_key, seen)

    def __repr__(self) -> str:
        return f"AnthropicClient({str(self._sdk.base_url)!r})"

    async def create(self, exchange: Exchange) -> ModelReply:
        """The reply of POST /v1/messages. Raises: EffectFailed."""
        create = self._sdk.messages.with_streaming_response.create
        return await self._attempts.make(lambda: create(**exchange.body), exchange)

    async def count(self, body: dict[str, Any]) -> int | None:
        """The answer of POST /v1/messages/count_tokens; None where there is none, or none that can be."""
        try:
            # the SDK's own timeout is for each read, and a body may come drop by drop
            async with asyncio.timeout(COUNT_TIMEOUT_S):
                counted = await self._sdk.messages.count_tokens(**body, timeout=COUNT_TIMEOUT_S)
        except (anthropic.AnthropicError, httpx2.HTTPError, TimeoutError, ValueError, TypeError):
            return None  # it would have been of help, no more
        tokens: Any = getattr(counted, "input_tokens", None)
        return tokens if type(tokens) is int and 0 < tokens <= TOKENS_MAX else None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sdk.close()
