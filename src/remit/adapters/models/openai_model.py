"""GPT models, and whatever speaks their protocols, through the official client. One attempt a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

from remit.adapters.models import openai_chat_wire, openai_responses_wire
from remit.adapters.models.exchange import Dialect
from remit.adapters.models.loading import load
from remit.adapters.models.openai_parts import PROVIDER
from remit.adapters.models.provider import DEFAULT_TIMEOUT_S, Endpoint, QuotaWatch
from remit.core.messages import ModelReply, ModelRequest, Usage
from remit.core.quota import Quota
from remit.ports.effects import EffectFailed
from remit.ports.services import TextSink

if TYPE_CHECKING:
    import httpx2

    from remit.adapters.models.openai_sdk import OpenAIClient

Protocol: TypeAlias = Literal["responses", "chat"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIOptions:
    """How a server is spoken to. `prefix` stands before its models' names in the remit, and is not sent."""

    protocol: Protocol = "responses"
    prefix: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S


class OpenAIModel:
    """The `Model` of OpenAI, or of a compatible server. `base_url` None is OpenAI's address.

    Loads the SDK with the first call, or in `warm`. The key appears in no representation or message; it may
    be empty where a server wants none. `on_quota` is told what the provider still allows, after each
    response that says so.
    """

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str | None = None,
        options: OpenAIOptions = OpenAIOptions(),
        http_client: httpx2.AsyncClient | None = None,
        on_quota: Callable[[tuple[Quota, ...]], None] | None = None,
    ) -> None:
        self._endpoint = Endpoint(
            api_key=api_key, base_url=base_url, timeout_s=options.timeout_s, http_client=http_client
        )
        self._options = options
        self._watch = QuotaWatch(options.prefix.rstrip("/") or PROVIDER, on_quota)
        self._client: OpenAIClient | None = None

    def __repr__(self) -> str:
        return f"OpenAIModel({self._endpoint!r}, {self._options!r})"

    def quota(self) -> tuple[Quota, ...]:
        """What the provider still allows, as its last response says; empty before the first."""
        return self._watch.quotas

    async def warm(self) -> None:
        """Load the SDK in a thread, so that the first call does not wait for it."""
        await load("remit.adapters.models.openai_sdk")

    async def complete(self, request: ModelRequest, on_text: TextSink | None = None) -> ModelReply:
        """The reply to `request`; it is streamed where `on_text` is given.

        Raises: EffectFailed `model.unavailable` or `model.timeout` (a later try may succeed),
        `model.failed`; its usage is None where the call may have been billed an unknown amount.
        """
        client = self._client
        if client is None:
            await self.warm()
            client = self._connect()
        asked = replace(request, model=request.model.removeprefix(self._options.prefix))
        try:
            if self._options.protocol == "chat":
                reply = await client.chat(_CHAT.exchange(asked, on_text))
            else:
                reply = await client.respond(_RESPONSES.exchange(asked, on_text))
        except EffectFailed as error:
            error.usage = None if error.usage is None else self._placed(error.usage)
            raise
        return replace(reply, usage=self._placed(reply.usage))

    def _placed(self, usage: Usage) -> Usage:
        """`usage` with the place that costs a surcharge: the address says it, no reply does."""
        region = self._endpoint.region
        return replace(usage, inference_geo=region) if region else usage

    async def aclose(self) -> None:
        """Close the connections; a later call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _connect(self) -> OpenAIClient:
        if self._client is None:  # another call may have been faster while the SDK was loading
            # Loaded by now; at the top it would cost every command half a second.
            from remit.adapters.models.openai_sdk import OpenAIClient  # noqa: PLC0415

            self._client = OpenAIClient(self._endpoint, self._watch.see)
        return self._client


_RESPONSES = Dialect(
    write=openai_responses_wire.write_request,
    read=openai_responses_wire.read_reply,
    stream=openai_responses_wire.ResponsesStream,
    streaming=MappingProxyType({"stream": True}),
)
_CHAT = Dialect(
    write=openai_chat_wire.write_request,
    read=openai_chat_wire.read_reply,
    stream=openai_chat_wire.ChatStream,
    streaming=MappingProxyType({"stream": True, "stream_options": {"include_usage": True}}),
)
