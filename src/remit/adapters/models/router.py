"""A router sends a call to the provider of its model; a model of no provider is refused."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from remit.core.messages import ModelReply, ModelRequest
from remit.ports.effects import EffectFailed, Model
from remit.ports.services import TextSink


class ModelRouter:
    """The `Model` that picks a provider by patterns of model names, such as `claude-*`; the first fits."""

    def __init__(self, providers: Mapping[str, Model]) -> None:
        self._providers = dict(providers)

    async def complete(self, request: ModelRequest, on_text: TextSink | None = None) -> ModelReply:
        """The reply of the model's provider. Raises: EffectFailed, also `model.no_provider`."""
        return await self.provider(request.model).complete(request, on_text)

    def counts(self, model: str) -> bool:
        """Whether the provider of `model` counts tokens. Raises: EffectFailed `model.no_provider`."""
        return hasattr(self.provider(model), "count_tokens")

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """The input tokens of `request` as its provider counts them; None where it cannot, or does not say."""
        count = getattr(self.provider(request.model), "count_tokens", None)
        if count is None:
            return None
        tokens: int | None = await count(request)
        return tokens

    def provider(self, model: str) -> Model:
        """The provider of `model`. Raises: EffectFailed `model.no_provider`."""
        for pattern, provider in self._providers.items():
            if fnmatchcase(model, pattern):
                return provider
        known = ", ".join(self._providers) or "none"
        raise EffectFailed("model.no_provider", f"no provider serves the model {model!r} (served: {known})")
