"""What providers' replies have in common: plain JSON from any bytes, tool arguments, token counts.

Nothing here fails but with EffectFailed or, in `parse`, ValueError. Arguments of a tool call never fail a
reply: what our record cannot hold is replaced by a text that says so, which the gate refuses and the model
can mend.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import orjson

from remit.core.canonical import DEPTH_MAX, INTEGER_MAX
from remit.core.messages import ModelReply, ToolUse, Usage
from remit.ports.effects import EffectFailed

TOKENS_MAX = 10**9
EMPTY_TEXT = "(empty)"
"""Stands where a message would be empty: providers refuse empty messages, some also empty texts."""

PART_DEPTH_MAX = DEPTH_MAX - 8
"""How deep a part may be nested, so that the reply around it can still be recorded."""

_CUT_DEPTH = 2 * DEPTH_MAX
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_MARKS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]', re.DOTALL)
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_TERM = re.compile(r"[a-z0-9_-]{1,32}")
_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def parse(data: bytes) -> Any:
    """`data` as JSON, its lone surrogates replaced. Raises: ValueError where that is not JSON.

    Integers are exact or far beyond 2**53 - 1; what is nested very deeply is None down there.
    """
    if _LONG_NUMBER.search(data) is None:  # orjson would round large integers
        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.loads(data)
    try:
        return _clean(json.loads(_cut_deep(data), parse_constant=_no_constant, parse_int=_integer))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def tool_args(value: Any) -> Any:
    """Arguments as the model sent them, or the reason why they cannot be taken."""
    fault = plain_fault(value)
    return f"(these arguments cannot be taken: {fault})" if fault else value


def tool_args_of_text(text: str) -> Any:
    """The arguments in the JSON `text`; the text itself where it is not JSON, {} where it is empty."""
    if not text.strip():
        return {}
    try:
        return tool_args(parse(text.encode("utf-8", "replace")))
    except ValueError:
        return text


def args_object(args: Any) -> Mapping[str, Any]:
    """`args` as providers take them back: objects alone, also from their own model's mouth."""
    return args if isinstance(args, Mapping) else {"not_an_object": args}


def safe_id(call_id: str) -> str:
    """`call_id` in the letters and the length that every provider accepts; the same for the same id."""
    if _SAFE_ID.fullmatch(call_id):
        return call_id
    return "call_" + hashlib.sha256(call_id.encode("utf-8", "replace")).hexdigest()[:32]


def safe_name(name: str) -> str:
    """A tool's `name` in the letters that every provider accepts, also where the model made it up."""
    return name if _SAFE_ID.fullmatch(name) else (_UNSAFE.sub("_", name)[:64] or "_")


def plain_fault(value: Any, depth: int = 0) -> str:
    """Why parsed JSON could not be recorded within a reply; empty where it can."""
    kind = type(value)
    if kind is int and not -INTEGER_MAX <= value <= INTEGER_MAX:
        return "an integer is beyond 2**53 - 1; send it as a string"
    if kind is float and not math.isfinite(value):
        return "a number is too large"
    if kind is dict or kind is list:
        if depth >= PART_DEPTH_MAX:
            return f"nested deeper than {PART_DEPTH_MAX}"
        for item in value.values() if kind is dict else value:
            if fault := plain_fault(item, depth + 1):
                return fault
    return ""


def tokens(usage: Mapping[str, Any], name: str, *, required: bool = False) -> int:
    """The count `name` of a provider's usage. Raises: EffectFailed `model.failed`."""
    count = usage.get(name)
    if count is None and not required:
        return 0
    if type(count) is not int or not 0 <= count <= TOKENS_MAX:
        raise malformed(f"usage.{name} is not a number of tokens")
    return count


def term(usage: Mapping[str, Any], name: str) -> str:
    """On what terms a call was served, in the provider's word; `unknown` where that is no word, empty where none."""
    value = usage.get(name)
    if value is None:
        return ""
    return value if isinstance(value, str) and _TERM.fullmatch(value) else "unknown"


def check_reply(reply: ModelReply) -> ModelReply:
    """`reply`, whose calls can be told apart and are there where its stop says so.

    Raises: EffectFailed `model.failed`.
    """
    ids = [part.id for part in reply.parts if isinstance(part, ToolUse)]
    if len(set(ids)) != len(ids):
        raise malformed("two tool calls have one id", reply.usage)
    if reply.stop == "tool_use" and not ids:
        raise malformed("it stopped for a tool call, but there is none", reply.usage)
    return reply


def malformed(why: str, usage: Usage | None = None) -> EffectFailed:
    """The failure of a reply that cannot be read; `usage` None: billed, nobody knows how much."""
    return EffectFailed("model.failed", f"the provider's reply is malformed: {why}", usage=usage)


def _cut_deep(data: bytes) -> bytes:
    """`data` with null in place of what is nested too deeply for any parser; it is refused later."""
    pieces: list[bytes] = []
    depth = kept = 0
    for match in _MARKS.finditer(data):
        mark = data[match.start()]
        if mark in b"[{":
            depth += 1
            if depth == _CUT_DEPTH:
                pieces += (data[kept : match.start()], b"null")
        elif mark in b"]}":
            if depth == _CUT_DEPTH:
                kept = match.end()
            depth -= 1
    if depth < _CUT_DEPTH:
        pieces.append(data[kept:])
    return b"".join(pieces)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int:
    # all of them are too large, and Python refuses to read the largest
    return int(digits) if len(digits) < 40 else 2**64


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value
