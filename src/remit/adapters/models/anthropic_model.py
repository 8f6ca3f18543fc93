"""Claude models through the official client. One attempt a call; nothing but a reply or EffectFailed."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING

from remit.adapters.models import anthropic_wire
from remit.adapters.models.anthropic_stream import AnthropicStream
from remit.adapters.models.exchange import Dialect
from remit.adapters.models.loading import load
from remit.adapters.models.provider import DEFAULT_TIMEOUT_S, Endpoint, QuotaWatch
from remit.core.messages import ModelReply, ModelRequest
from remit.core.quota import Quota
from remit.ports.services import TextSink

if TYPE_CHECKING:
    import httpx2

    from remit.adapters.models.anthropic_sdk import AnthropicClient


class AnthropicModel:
    """The `Model` of Anthropic. `base_url` None is the official address; `timeout_s` bounds each wait.

    Loads the SDK with the first call, or in `warm`. The key appears in no representation or message.
    `on_quota` is told what the provider still allows, after each response that says so.
    """

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        http_client: httpx2.AsyncClient | None = None,
        on_quota: Callable[[tuple[Quota, ...]], None] | None = None,
    ) -> None:
        self._endpoint = Endpoint(
            api_key=api_key, base_url=base_url, timeout_s=timeout_s, http_client=http_client
        )
        self._watch = QuotaWatch(anthropic_wire.PROVIDER, on_quota)
        self._client: AnthropicClient | None = None

    def __repr__(self) -> str:
        return f"AnthropicModel({self._endpoint!r})"

    def quota(self) -> tuple[Quota, ...]:
        """What the provider still allows, as its last response says; empty before the first."""
        return self._watch.quotas

    async def warm(self) -> None:
        """Load the SDK in a thread, so that the first call does not wait for it."""
        await load("remit.adapters.models.anthropic_sdk")

    async def complete(self, request: ModelRequest, on_text: TextSink | None = None) -> ModelReply:
        """The reply to `request`; it is streamed where `on_text` is given.

        Raises: EffectFailed `model.unavailable` or `model.timeout` (a later try may succeed),
        `model.failed`; its usage is None where the call may have been billed an unknown amount.
        """
        client = await self._connected()
        return await client.create(_DIALECT.exchange(request, on_text))

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """The input tokens of `request` as the provider counts them; None where it does not say."""
        body = anthropic_wire.write_request(request)
        del body["max_tokens"]
        client = await self._connected()
        return await client.count(body)

    async def aclose(self) -> None:
        """Close the connections; a later call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _connected(self) -> AnthropicClient:
        if self._client is None:
            await self.warm()
        if self._client is None:  # another call may have been faster while the SDK was loading
            # Loaded by now; at the top it would cost every command 1 to 2 s.
            from remit.adapters.models.anthropic_sdk import AnthropicClient  # noqa: PLC0415

            self._client = AnthropicClient(self._endpoint, self._watch.see)
        return self._client


_DIALECT = Dialect(
    write=anthropic_wire.write_request,
    read=anthropic_wire.read_reply,
    stream=AnthropicStream,
    streaming=MappingProxyType({"stream": True}),
)
