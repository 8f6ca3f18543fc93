"""The conversation, in no provider's dialect.

`Opaque` keeps a block that only its provider understands (signed reasoning, say) and gives it back
unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from remit.core.errors import RemitError

StopReason: TypeAlias = Literal["end", "tool_use", "max_tokens", "refusal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """A tool call that the model proposes. `args` is what it sent, unchecked."""

    id: str
    name: str
    args: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """The answer to a `ToolUse`: `content` is JSON text or plain text."""

    call_id: str
    content: str
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Opaque:
    """A provider's own block, as JSON."""

    provider: str
    block: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An image or a PDF that the principal gave with the task. `data` is base 64, `media_type` such as `image/png`."""

    media_type: str
    data: str
    name: str = ""


Part: TypeAlias = Text | ToolUse | ToolResult | Attachment | Opaque


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn. `role` is who speaks; tool results are spoken by the user."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOffer:
    """What the model is told of a tool."""

    name: str
    description: str
    args_schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPrefix:
    """The first `messages` messages of a request, with system and tools, are at most `tokens` tokens.

    Known from the provider's own usage of the call before.
    """

    messages: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One call of a model. `max_output_tokens` is always explicit: the cost is held from it.

    `answer_schema`: the final answer must be JSON of this schema. `cache_prefix`: let the provider cache what
    stays the same from call to call (system, tools and the messages but the last).
    """

    model: str
    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolOffer, ...]
    max_output_tokens: int
    known_prefix: KnownPrefix | None = None
    answer_schema: Mapping[str, Any] | None = None
    cache_prefix: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call or sum of calls. `input_tokens` excludes both cache counts.

    `cache_write_1h_tokens` are those of the `cache_write_tokens` that were written to the one-hour cache.
    `service_tier` and `inference_geo`: how and where the provider says that it served the call, empty where it says
    nothing; a sum has neither.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    service_tier: str = ""
    inference_geo: str = ""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
        )

    @property
    def prompt_tokens(self) -> int:
        """All tokens that were read, cached or not."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """What the model answered, and what the provider says it used."""

    parts: tuple[Part, ...]
    stop: StopReason
    usage: Usage
    model: str

    @property
    def text(self) -> str:
        """The reply's text parts, joined."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_uses(self) -> tuple[ToolUse, ...]:
        """The tool calls that the reply proposes, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolUse))


def part_to_json(part: Part) -> dict[str, Any]:
    """`part` as JSON, tagged by `type`."""
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case ToolUse():
            return {"type": "tool_use", "id": part.id, "name": part.name, "args": part.args}
        case ToolResult():
            return {
                "type": "tool_result",
                "call_id": part.call_id,
                "content": part.content,
                "is_error": part.is_error,
            }
        case Attachment():
            return {"type": "attachment", "media_type": part.media_type, "data": part.data, "name": part.name}
        case Opaque():
            return {"type": "opaque", "provider": part.provider, "block": part.block}


def part_from_json(value: Mapping[str, Any]) -> Part:
    """The part that `part_to_json` made `value` from. Raises: RemitError `value.invalid`."""
    match value:
        case {"type": "text", "text": text}:
            return Text(text=text)
        case {"type": "tool_use", "id": call_id, "name": name, "args": args}:
            return ToolUse(id=call_id, name=name, args=args)
        case {"type": "tool_result", "call_id": call_id, "content": content, "is_error": is_error}:
            return ToolResult(call_id=call_id, content=content, is_error=is_error)
        case {"type": "attachment", "media_type": media_type, "data": data, "name": name}:
            return Attachment(media_type=media_type, data=data, name=name)
        case {"type": "opaque", "provider": provider, "block": block}:
            return Opaque(provider=provider, block=block)
    raise RemitError("value.invalid", "a recorded message part is of no known type")


def message_to_json(message: Message) -> dict[str, Any]:
    """`message` as JSON."""
    return {"role": message.role, "parts": [part_to_json(part) for part in message.parts]}


def reply_to_json(reply: ModelReply) -> dict[str, Any]:
    """`reply` as JSON; `reply_from_json` is its inverse."""
    usage = reply.usage
    return {
        "model": reply.model,
        "parts": [part_to_json(part) for part in reply.parts],
        "stop": reply.stop,
        "usage": [
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            usage.cache_write_1h_tokens,
            usage.service_tier,
            usage.inference_geo,
        ],
    }


def reply_from_json(value: Mapping[str, Any]) -> ModelReply:
    """The reply that `reply_to_json` made `value` from. Raises: RemitError `value.invalid`."""
    match value:
        case {
            "model": model,
            "parts": parts,
            "stop": stop,
            "usage": [read, written, cache_read, cache_write, *terms],
        }:
            # a record from before 0.2 says nothing of the terms
            cache_write_1h, tier, geo = terms or (0, "", "")
            return ModelReply(
                parts=tuple(part_from_json(part) for part in parts),
                stop=stop,
                usage=Usage(
                    input_tokens=read,
                    output_tokens=written,
                    cache_read_tokens=cache_read,
                    cache_write_tokens=cache_write,
                    cache_write_1h_tokens=cache_write_1h,
                    service_tier=tier,
                    inference_geo=geo,
                ),
                model=model,
            )
    raise RemitError("value.invalid", "a recorded model reply is of no known shape")
