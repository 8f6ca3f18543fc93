"""The official `openai` client: one attempt a call, every failure an `EffectFailed`.

The only module that imports the SDK (half a second); `OpenAIModel` imports it on first need. Bodies go
through `extra_body`, because the SDK's own walk over a request takes 40 ms of the event loop at 100 items.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import httpx2
import openai

from remit.adapters.models.attempts import Attempts, SdkErrors, timeouts
from remit.adapters.models.exchange import Exchange
from remit.adapters.models.provider import Endpoint, Seen
from remit.core.messages import ModelReply

if TYPE_CHECKING:
    from remit.adapters.models.attempts import Response

OFFICIAL_URL = "https://api.openai.com/v1"
NO_KEY = "none"
"""Sent where a server wants no key; an empty one is no header."""


class OpenAIClient:
    """A connection pool to the provider. The key is never shown."""

    def __init__(self, endpoint: Endpoint, seen: Seen) -> None:
        self._sdk = openai.AsyncOpenAI(
            api_key=endpoint.api_key or NO_KEY,
            # named here, or the SDK would take both from the process's environment
            base_url=endpoint.base_url or OFFICIAL_URL,
            timeout=timeouts(endpoint.timeout_s),
            max_retries=0,  # retries need a hold of their own, so they are the runtime's
            http_client=endpoint.http_client
            or (httpx2.AsyncClient(trust_env=False) if endpoint.is_here else None),
        )
        if not str(self._sdk.base_url.host).endswith("openai.com"):
            # what the SDK found in the process's environment is nobody else's business
            self._sdk.organization = self._sdk.project = None
        errors = SdkErrors(
            timeout=openai.APITimeoutError,
            status=openai.APIStatusError,
            connection=openai.APIConnectionError,
            any=openai.OpenAIError,
        )
        self._attempts = Attempts(errors, endpoint.api_key, seen)

    def __repr__(self) -> str:
        return f"OpenAIClient({str(self._sdk.base_url)!r})"

    async def respond(self, exchange: Exchange) -> ModelReply:
        """The reply of POST /responses. Raises: EffectFailed."""
        create = self._sdk.responses.with_streaming_response.create

        def opening() -> AbstractAsyncContextManager[Response]:
            return create(extra_body=exchange.body)

        return await self._attempts.make(opening, exchange)

    async def chat(self, exchange: Exchange) -> ModelReply:
        """The reply of POST /chat/completions. Raises: EffectFailed."""
        create = self._sdk.chat.completions.with_streaming_response.create
        body = exchange.body

        def opening() -> AbstractAsyncContextManager[Response]:
            # the two that it insists on; the extra body stands over them
            return create(model=body["model"], messages=[], extra_body=body)

        return await self._attempts.make(opening, exchange)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sdk.close()
