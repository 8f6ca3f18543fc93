"""Claude models through the official client. One attempt a call; nothing but a reply or EffectFailed."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

from remit.adapters.models import anthropic_wire
from remit.core.messages import ModelReply, ModelRequest
from remit.ports.effects import TextSink

if TYPE_CHECKING:
    import httpx2

    from remit.adapters.models.anthropic_sdk import AnthropicClient

DEFAULT_TIMEOUT_S = 120.0


class AnthropicModel:
    """The `Model` of Anthropic. `base_url` None is the official address; `timeout_s` bounds each wait.

    Loads the SDK with the first call, or in `warm`. The key appears in no representation or message.
    """

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._timeout_s = timeout_s
        self._http_client = http_client
        self._client: AnthropicClient | None = None

    def __repr__(self) -> str:
        return f"AnthropicModel(base_url={self._base_url!r}, timeout_s={self._timeout_s!r})"

    async def warm(self) -> None:
        """Load the SDK in a thread, so that the first call does not wait for it."""
        await asyncio.to_thread(_load_sdk)

    async def complete(self, request: ModelRequest, on_text: TextSink | None = None) -> ModelReply:
        """The reply to `request`.

        Raises: EffectFailed `model.unavailable` or `model.timeout` (a later try may succeed),
        `model.failed`; its usage is None where the call may have been billed.
        """
        client = self._client
        if client is None:
            await self.warm()
            client = self._connect()
        data = await client.create(anthropic_wire.write_request(request))
        return anthropic_wire.read_reply(data, request.model)

    async def aclose(self) -> None:
        """Close the connections; a later call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _connect(self) -> AnthropicClient:
        if self._client is None:  # another call may have been faster while the SDK was loading
            # Loaded by now; at the top it would cost every command 1 to 2 s.
            from remit.adapters.models.anthropic_sdk import AnthropicClient  # noqa: PLC0415

            self._client = AnthropicClient(self._api_key, self._base_url, self._timeout_s, self._http_client)
        return self._client


def _load_sdk() -> None:
    """Import the SDK. Collecting garbage meanwhile finds none and takes about 15 % of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        import remit.adapters.models.anthropic_sdk  # noqa: F401, PLC0415 - 1 to 2 s, so on first need
    finally:
        if was_enabled:
            gc.enable()
