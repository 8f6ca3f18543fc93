"""What OpenAI's two protocols have in common: data URLs, strictness, names. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from remit.adapters.models.replies import args_object, malformed, term, tokens
from remit.core.messages import Attachment, ToolOffer, ToolUse, Usage

PROVIDER = "openai"
ANSWER = "answer"
"""The name that a schema of the final answer must have."""


def function_of(tool: ToolOffer) -> dict[str, Any]:
    """What a model is told of `tool`. Not strict: strict takes a part of JSON Schema alone."""
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.args_schema),
        "strict": False,
    }


def arguments_of(use: ToolUse) -> str:
    """The arguments of a call as the JSON text of an object, which compatible servers read again."""
    return orjson.dumps(args_object(use.args)).decode()


def data_url(attachment: Attachment) -> str:
    """`attachment` as a URL that holds it."""
    return f"data:{attachment.media_type};base64,{attachment.data}"


def file_name(attachment: Attachment) -> str:
    """A name for `attachment`; the provider wants one."""
    return attachment.name or "attachment.pdf"


def usage_of(response: Mapping[str, Any], names: tuple[str, str, str]) -> Usage:
    """The usage in `response`, whose fields for input, its details and output are called `names`.

    The provider's input includes what was cached; ours does not. Its output includes reasoning.
    Raises: EffectFailed `model.failed`.
    """
    value = response.get("usage")
    if not isinstance(value, dict):
        raise malformed("usage is missing")
    input_name, details_name, output_name = names
    read = tokens(value, input_name, required=True)
    details: Mapping[str, Any] = value.get(details_name) or {}
    if not isinstance(details, dict):
        raise malformed(f"usage.{details_name} is not an object")
    cached = tokens(details, "cached_tokens")
    written = tokens(details, "cache_write_tokens")
    # some servers count what was cached beside the input: rather too much than too little
    rest = read - cached - written
    return Usage(
        input_tokens=rest if rest >= 0 else read,
        output_tokens=tokens(value, output_name, required=True),
        cache_read_tokens=cached,
        cache_write_tokens=written,
        service_tier=term(response, "service_tier"),
    )
