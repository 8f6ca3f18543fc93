"""Model providers behind the `Model` port: one attempt a call, every failure an `EffectFailed`."""

from remit.adapters.models.anthropic_model import AnthropicModel
from remit.adapters.models.openai_model import OpenAIModel, OpenAIOptions
from remit.adapters.models.router import ModelRouter
from remit.core.quota import Quota

__all__ = ["AnthropicModel", "ModelRouter", "OpenAIModel", "OpenAIOptions", "Quota"]
