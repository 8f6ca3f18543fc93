"""Whose model a name is."""

from __future__ import annotations

from functools import lru_cache

_PREFIXES = (
    ("claude", "anthropic"),
    ("gpt", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("chatgpt", "openai"),
    ("gemini", "gcp.gemini"),
    ("mistral", "mistral_ai"),
    ("codestral", "mistral_ai"),
    ("ministral", "mistral_ai"),
)


@lru_cache(maxsize=256)
def provider_of(model: str) -> str:
    """The `gen_ai.provider.name` of a model, by the way its maker names models; `unknown` otherwise.

    A name with a slash says its provider before it.
    """
    if "/" in model:
        return model.partition("/")[0]
    return next((provider for prefix, provider in _PREFIXES if model.startswith(prefix)), "unknown")
