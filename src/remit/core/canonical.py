"""One canonical form for every value that is decided on, recorded and executed.

`canonical` gives the bytes of RFC 8785; `bounded` gives a clean, cut copy of a foreign value.
What either accepts is plain JSON: no NaN or infinity, no lone surrogates, no cycles, string keys.

Source: RFC 8785 (JSON Canonicalization Scheme), RFC 7493 (I-JSON: integers within 2**53 - 1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import orjson
import rfc8785

from remit.core.errors import RemitError

Json: TypeAlias = Any
"""None, bool, int, float, str, list of Json, or dict of str to Json."""

DEPTH_MAX = 64
INTEGER_MAX = 2**53 - 1
_ESCAPED_BYTES_MAX = 8
"""More than JSON ever needs for one character of a text, its quotes counted in."""

_CUT = "… [cut by remit]"


def canonical(value: Json) -> bytes:
    """The RFC 8785 bytes of `value`.

    Raises: RemitError `value.invalid` where the value is not plain JSON.
    """
    if _is_simple(value, 0):
        # copied, because orjson's own result keeps the 4 KB that it was written into, and these bytes are kept
        return bytes(memoryview(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)))
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise RemitError("value.invalid", "the value is not plain JSON", cause=str(error)) from error


def canonical_own(value: Mapping[str, Json]) -> bytes:
    """The RFC 8785 bytes of a mapping that we made ourselves: ASCII keys, no floats, small integers."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest(data: bytes) -> str:
    """The SHA-256 of `data` in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _is_simple(value: Json, depth: int) -> bool:
    """Whether orjson's sorted output is RFC 8785's.

    The two differ in the form of floats and in the order of keys outside ASCII, which the slow path
    takes. Raises on what is not plain JSON, with the reason.
    """
    kind = type(value)
    if kind is str:
        if not value.isascii():
            _check_text(value)
        return True
    if kind is bool or value is None:
        return True
    if kind is int:
        if not -INTEGER_MAX <= value <= INTEGER_MAX:
            raise RemitError("value.invalid", "an integer is beyond 2**53 - 1", remedy="send it as a string")
        return True
    if kind is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise RemitError("value.invalid", "NaN and infinity are not JSON")
        return False
    if depth >= DEPTH_MAX:
        raise RemitError("value.invalid", f"the value is nested deeper than {DEPTH_MAX}")
    simple = True
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise RemitError("value.invalid", f"a key is {type(key).__name__}, not text")
            if not key.isascii():
                _check_text(key)
                simple = False
            simple = _is_simple(item, depth + 1) and simple
        return simple
    if kind is list or kind is tuple:
        for item in value:
            simple = _is_simple(item, depth + 1) and simple
        return simple
    raise RemitError("value.invalid", f"{kind.__name__} is not JSON")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RemitError("value.invalid", "a text holds a lone surrogate") from error


class _Budget:
    """What is left of the byte cap while a value is copied."""

    __slots__ = ("cut", "left")

    def __init__(self, bytes_max: int) -> None:
        self.left = bytes_max
        self.cut = False


def bounded(value: Json, bytes_max: int) -> tuple[Json, bool]:
    """A plain-JSON copy of a foreign `value` of at most about `bytes_max` bytes, and whether it was cut.

    Texts are cut at the end, lists and mappings lose their last entries; the work done is bounded by
    the cap and not by the value's size. Mappings, tuples and integers beyond 2**53 - 1 are made plain.

    Raises: RemitError `value.invalid` where the value is not JSON.
    """
    budget = _Budget(bytes_max)
    return _copy(value, budget, 0), budget.cut


def _copy(value: Json, budget: _Budget, depth: int) -> Json:
    kind = type(value)
    if kind is str:
        return _copy_text(value, budget)
    if value is None or kind is bool:
        budget.left -= 5
        return value
    if kind is int:
        budget.left -= 20
        if -INTEGER_MAX <= value <= INTEGER_MAX:
            return value
        if value.bit_length() > 4096:
            raise RemitError("value.invalid", "an integer has more than 1,200 digits")
        return _copy_text(str(value), budget)
    if kind is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise RemitError("value.invalid", "NaN and infinity are not JSON")
        budget.left -= 24
        return value
    if depth >= DEPTH_MAX:
        raise RemitError("value.invalid", f"the value is nested deeper than {DEPTH_MAX}, or holds itself")
    if isinstance(value, Mapping):
        return _copy_mapping(value, budget, depth)
    if isinstance(value, list | tuple):
        items: list[Json] = []
        budget.left -= 2
        for item in value:
            if budget.left <= 0:
                budget.cut = True
                break
            budget.left -= 1
            items.append(_copy(item, budget, depth + 1))
        return items
    raise RemitError("value.invalid", f"{kind.__name__} is not JSON")


def _copy_mapping(value: Mapping[Any, Any], budget: _Budget, depth: int) -> dict[str, Json]:
    entries: dict[str, Json] = {}
    budget.left -= 2
    for key, item in value.items():
        if type(key) is not str:
            raise RemitError("value.invalid", f"a key is {type(key).__name__}, not text")
        if budget.left <= 0:
            budget.cut = True
            break
        budget.left -= 2
        name = _copy_text(key, budget)
        if budget.cut:
            break  # under a name that was cut nobody would know the class of the value
        entries[name] = _copy(item, budget, depth + 1)
    return entries


def _copy_text(text: str, budget: _Budget) -> str:
    room = max(budget.left, 0)
    if len(text) * _ESCAPED_BYTES_MAX <= room:
        budget.left -= _json_bytes(text)
        return text
    head = text[: room + 1]
    size = _json_bytes(head)
    if len(head) == len(text) and size <= room:
        budget.left -= size
        return text
    budget.left = 0
    budget.cut = True
    return head[: _longest_prefix(head, room)] + _CUT


def _longest_prefix(text: str, room: int) -> int:
    """How many characters of `text` fit: JSON may need six bytes for one of them."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if _json_bytes(text[:middle]) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _json_bytes(text: str) -> int:
    try:
        return len(orjson.dumps(text))
    except orjson.JSONEncodeError as error:
        raise RemitError("value.invalid", "a text holds a lone surrogate") from error
