"""What of arguments, results and texts may be shown.

Promise: without the operator's word only the named, non-personal fields of known tools leave this module.
With it (`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`), each part is cut at `PART_CHARS_MAX`
characters before it is encoded, so that what is cut is still valid JSON; of a long history the newest
messages are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from remit.adapters.telemetry import names
from remit.core.actions import Action, ModelCall
from remit.core.canonical import Json
from remit.core.messages import Attachment, Message, ModelReply, Opaque, Part, Text, ToolResult, ToolUse
from remit.core.outcomes import Done, Failed, Outcome

CAPTURE_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
PART_CHARS_MAX: Final = 4096
MESSAGES_CHARS_MAX: Final = 65536
SHOWN_CHARS_MAX: Final = 100

# tool -> its field -> the name it is shown under; looked up in the result, then in the arguments
SHOWN_FIELDS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "create_ticket": {"ticket_id": names.TICKET_ID, "priority": names.PRIORITY},
        "get_customer": {"found": names.CUSTOMER_EXISTS},
    }
)
CAPTURED_FIELDS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {"search_kb": {"query": names.QUERY}}
)
RECORD_FIELDS: Final = ("results", "rows", "records")


def captures_content(environ: Mapping[str, str]) -> bool:
    """Whether the operator has asked for message content on spans; anything unclear means no."""
    return environ.get(CAPTURE_VARIABLE, "").strip().upper() in ("SPAN_ONLY", "SPAN_AND_EVENT")


def shown_fields(action: Action, outcome: Outcome, *, capture: bool) -> dict[str, Any]:
    """The fields of a tool call that are shown by name, and `result_count` where records came back."""
    value = outcome.value if isinstance(outcome, Done) else None
    shown: dict[str, Any] = {}
    count = record_count(value)
    if count is not None:
        shown[names.RESULT_COUNT] = count
    fields = SHOWN_FIELDS.get(action.resource)
    if fields is not None:
        _take(shown, fields, value, action)
    if capture and (fields := CAPTURED_FIELDS.get(action.resource)) is not None:
        _take(shown, fields, value, action)
    return shown


def record_count(value: object) -> int | None:
    """How many records a result lists: in its `results`, `rows` or `records`, or in its only list."""
    if isinstance(value, list):
        return len(value)
    if not isinstance(value, dict):
        return None
    for field in RECORD_FIELDS:
        found = value.get(field)
        if isinstance(found, list):
            return len(found)
    lists = [item for item in value.values() if isinstance(item, list)]
    return len(lists[0]) if len(lists) == 1 else None


def content_of(action: Action, outcome: Outcome) -> dict[str, str]:
    """Arguments, texts and results, each cut, by attribute name; to be called only where capture is on."""
    content: dict[str, str] = {}
    if isinstance(action, ModelCall):
        content[names.SYSTEM_INSTRUCTIONS] = _dumps([_text(action.request.system)])
        content[names.INPUT_MESSAGES] = _history(action.request.messages)
        if isinstance(outcome, Done) and isinstance(outcome.value, ModelReply):
            reply = outcome.value
            said = {"role": "assistant", "parts": [_part(part) for part in reply.parts]}
            content[names.OUTPUT_MESSAGES] = _dumps([{**said, "finish_reason": reply.stop}])
    elif action.kind == "tool":
        content[names.TOOL_CALL_ARGUMENTS] = cut(action.args.decode())
        if isinstance(outcome, Done):
            content[names.TOOL_CALL_RESULT] = cut(_dumps(outcome.value))
    elif isinstance(outcome, Done) and action.kind == "release":
        content[names.ANSWER] = cut(str(outcome.value))
    if isinstance(outcome, Failed):
        content[names.ERROR_MESSAGE] = cut(outcome.message)
        if outcome.output:
            content[names.TOOL_OUTPUT] = cut(outcome.output)
    return content


def cut(text: str, chars_max: int = PART_CHARS_MAX) -> str:
    """`text`, or its beginning and an ellipsis: at most `chars_max` characters."""
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def _take(shown: dict[str, Any], fields: Mapping[str, str], value: object, action: Action) -> None:
    args: Json = None
    for field, name in fields.items():
        found = value.get(field) if isinstance(value, dict) else None
        if (
            found is None and value is not None
        ):  # arguments are known to fit the schema where there is a result
            args = action.args_value() if args is None else args
            found = args.get(field) if isinstance(args, dict) else None
        if isinstance(found, (bool, int)):
            shown[name] = found
        elif isinstance(found, str):
            shown[name] = cut(found, SHOWN_CHARS_MAX)


def _history(messages: tuple[Message, ...]) -> str:
    kept: list[str] = []
    room = MESSAGES_CHARS_MAX
    for message in reversed(messages):
        encoded = _dumps({"role": message.role, "parts": [_part(part) for part in message.parts]})
        room -= len(encoded)
        if room < 0 and kept:
            break
        kept.append(encoded)
    return "[" + ",".join(reversed(kept)) + "]"


def _part(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return _text(part.text)
        case ToolUse():
            return {
                "type": "tool_call",
                "id": part.id,
                "name": part.name,
                "arguments": cut(_dumps(part.args)),
            }
        case ToolResult():
            return {"type": "tool_call_response", "id": part.call_id, "response": cut(part.content)}
        case Attachment():
            return {"type": "attachment", "media_type": part.media_type, "name": part.name}
        case Opaque():
            return {"type": "opaque", "provider": part.provider}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": cut(text)}


def _dumps(value: object) -> str:
    # `default` takes what is not plain JSON; whatever still fails (a lone surrogate) is only named
    try:
        return orjson.dumps(value, default=repr).decode()
    except (TypeError, ValueError) as error:
        return orjson.dumps(f"not shown: {type(error).__name__}").decode()
