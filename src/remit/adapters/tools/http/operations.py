"""An operation of an HTTP service: what it takes, where that goes, and the request that a call becomes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import quote, urlencode

import orjson

from remit.core.canonical import Json
from remit.core.tools import Effect, Idempotency
from remit.ports.effects import EffectFailed

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
READS = frozenset({"GET", "HEAD"})
NAME_CHARS_MAX = 64
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_HOLE = re.compile(r"\{([^{}]+)\}")

Where: TypeAlias = Literal["path", "query", "header", "body", "field"]
Joined: TypeAlias = Literal["", ",", " ", "|", "[]", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An argument: where it goes (`field`: into the JSON body, under its name), and its schema.

    `joined`: how several values become one text; `""`: each is a parameter of its own, `[]`: `name[key]=value`.
    """

    where: Where
    schema: Mapping[str, Any]
    is_required: bool
    joined: Joined = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation. `problem`: why it can be no tool."""

    name: str
    method: str
    path: str
    description: str
    placed: Mapping[str, Placed]
    problem: str = ""

    @property
    def effect(self) -> Effect:
        """By its method: what is not a plain read writes."""
        return "read" if self.method in READS else "write"

    @property
    def idempotency(self) -> Idempotency:
        """By its method, as RFC 9110 (9.2.2) has it."""
        return "at_most_once" if self.method in ("POST", "PATCH") else "idempotent"

    @property
    def args_schema(self) -> dict[str, Any]:
        """The JSON Schema of the arguments."""
        return {
            "type": "object",
            "properties": {name: dict(one.schema) for name, one in self.placed.items()},
            "required": [name for name, one in self.placed.items() if one.is_required],
            "additionalProperties": False,
        }

    def request(self, base: str, args: Mapping[str, Json]) -> tuple[str, dict[str, str], bytes]:
        """The URL, headers and body of a call. Raises: EffectFailed `args.invalid`."""
        at: dict[str, list[tuple[str, Json]]] = {}
        for name, value in args.items():
            at.setdefault(self.placed[name].where, []).append((name, value))
        path = _HOLE.sub(lambda hole: _segment(hole[1], args.get(hole[1])), self.path)
        query = urlencode(
            [
                pair
                for name, value in at.get("query", [])
                for pair in _pairs(name, value, self.placed[name].joined)
            ],
            quote_via=quote,
        )
        headers = {"accept": "application/json"} | {
            name: _one_text(value, self.placed[name].joined)
            for name, value in at.get("header", [])
            if value is not None
        }
        body: Json = None
        if "field" in at:
            body = dict(at["field"])
        elif "body" in at:
            body = at["body"][0][1]
        content = b""
        if "field" in at or "body" in at:
            content = orjson.dumps(body)
            headers["content-type"] = "application/json"
        return f"{base.rstrip('/')}{path}{'?' + query if query else ''}", headers, content


def tool_name(operation: str) -> str:
    """The name of an operation as that of a tool: what no such name may hold becomes `_`."""
    name = _NO_NAME.sub("_", operation).strip("_")
    return (name if name[:1].isalpha() else f"_{name}")[:NAME_CHARS_MAX]


def holes(path: str) -> set[str]:
    """The arguments that stand in a path."""
    return set(_HOLE.findall(path))


def _segment(name: str, value: Json) -> str:
    """A value as one segment of a path, which it can neither leave nor be more than."""
    text = "" if value is None else _one_text(value, ",")
    if not text or text in (".", "..") or any(char in "/\\" or ord(char) < 32 for char in text):
        raise EffectFailed("args.invalid", f"{name} can be no part of a path: {text[:60]!r}")
    return quote(text, safe="")


def _pairs(name: str, value: Json, joined: Joined) -> list[tuple[str, str]]:
    """A value as parameters of a query."""
    if value is None:
        return []
    if isinstance(value, dict) and joined in ("", "[]"):
        return [(key if joined == "" else f"{name}[{key}]", _text(inner)) for key, inner in value.items()]
    if isinstance(value, list) and joined in ("", "[]"):
        return [(name, _text(one)) for one in value]
    return [(name, _one_text(value, joined))]


def _one_text(value: Json, joined: Joined) -> str:
    """A value as one text."""
    if joined == "json":
        return orjson.dumps(value).decode()
    if isinstance(value, dict):
        return joined.join(_text(part) for pair in value.items() for part in pair)
    return joined.join(_text(one) for one in value) if isinstance(value, list) else _text(value)


def _text(value: Json) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None or isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    return str(value)
