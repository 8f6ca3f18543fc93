"""The most tokens that a provider can count as the input of a request: found without a tokenizer, never too few.

A token is at least one byte, of the text as it is or as NFKC makes it, whichever is longer (Claude's
tokenizer normalises; one ligature can become many bytes). What providers write anew themselves, arguments
and schemas, counts as the longest JSON they can make of it: spaced, and with every other letter escaped.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

import orjson

from remit.core import attachments
from remit.core.messages import Attachment, Message, ModelRequest, Opaque, Part, Text, ToolResult, ToolUse

MESSAGE_OVERHEAD_TOKENS = 16
"""For the role and the marks around a message, a part, an argument or a tool."""

CALL_ID_TOKENS = 64
"""For the id of a call, which no provider takes longer than this."""

REQUEST_OVERHEAD_TOKENS = 1024
"""For what a provider adds to a request with tools (Anthropic: up to about 800 tokens)."""


def text_tokens_max(text: str) -> int:
    """The most tokens that `text` can be."""
    if text.isascii():
        return len(text)
    size = len(text.encode(errors="replace"))
    return max(size, len(unicodedata.normalize("NFKC", text).encode(errors="replace")))


def structure_tokens_max(value: Any) -> int:
    """The most tokens that `value` can be as JSON, however it is spaced and escaped."""
    text = orjson.dumps(value).decode()
    spaces = text.count(",") + text.count(":")
    if text.isascii():
        return len(text) + spaces
    plain = len(text.encode("ascii", "ignore"))
    escaped = plain + 6 * (len(text.encode("utf-16-le", "replace")) // 2 - plain)
    return max(escaped, text_tokens_max(text)) + spaces


def message_tokens_max(message: Message, model: str) -> int:
    """The most tokens that `message` can be to `model`. Raises: RemitError `value.invalid`, `price.unknown`."""
    return MESSAGE_OVERHEAD_TOKENS + sum(_part_tokens_max(part, model) for part in message.parts)


def _part_tokens_max(part: Part, model: str) -> int:
    match part:
        case Text():
            tokens = text_tokens_max(part.text)
        case ToolUse():
            tokens = CALL_ID_TOKENS + text_tokens_max(part.name) + _args_tokens_max(part.args)
        case ToolResult():
            tokens = CALL_ID_TOKENS + text_tokens_max(part.content)
        case Attachment():
            tokens = attachments.tokens_max(part, model)
        case Opaque():
            tokens = structure_tokens_max(dict(part.block))
    return MESSAGE_OVERHEAD_TOKENS + tokens


def _args_tokens_max(args: Any) -> int:
    """Arguments, which a provider may write one by one, each between marks that hold its name."""
    marks = MESSAGE_OVERHEAD_TOKENS * len(args) if isinstance(args, Mapping) else MESSAGE_OVERHEAD_TOKENS
    return marks + structure_tokens_max(args)


def input_tokens_max(request: ModelRequest) -> int:
    """The most tokens that a provider can count as the input of `request`.

    Raises: RemitError `value.invalid`, `price.unknown` where an attachment cannot be bounded.
    """
    known = request.known_prefix
    fresh = request.messages[known.messages :] if known is not None else request.messages
    suffix = sum(message_tokens_max(message, request.model) for message in fresh)
    if request.answer_schema is not None:
        suffix += structure_tokens_max(dict(request.answer_schema))
    if known is not None:
        return known.tokens + suffix
    tools = sum(
        MESSAGE_OVERHEAD_TOKENS + structure_tokens_max([tool.name, tool.description, dict(tool.args_schema)])
        for tool in request.tools
    )
    return REQUEST_OVERHEAD_TOKENS + text_tokens_max(request.system) + tools + suffix
