"""The router: a model's provider, or a refusal that names the model."""

from __future__ import annotations

import pytest

from remit.adapters.models import ModelRouter
from remit.core.messages import ModelReply, ModelRequest, Usage
from remit.ports.effects import EffectFailed


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    async def complete(self, request: ModelRequest, on_text: object = None) -> ModelReply:
        return ModelReply(parts=(), stop="end", usage=Usage(), model=f"{self.name}/{request.model}")


def request(model: str) -> ModelRequest:
    return ModelRequest(model=model, system="", messages=(), tools=(), max_output_tokens=1)


async def test_the_first_pattern_that_fits_is_the_provider() -> None:
    router = ModelRouter({"claude-mini-*": Named("mini"), "claude-*": Named("big")})
    assert (await router.complete(request("claude-mini-1"))).model == "mini/claude-mini-1"
    assert (await router.complete(request("claude-1"))).model == "big/claude-1"


@pytest.mark.parametrize("model", ["", "gpt-5", "Claude-1", "my-claude-1"])
async def test_a_model_of_no_provider_is_refused(model: str) -> None:
    with pytest.raises(EffectFailed) as caught:
        await ModelRouter({"claude-*": Named("big")}).complete(request(model))
    assert caught.value.code == "model.no_provider"
    assert repr(model) in caught.value.message
