"""What people have accepted of a server's tools: name, description and schemas, each under a digest.

A tool that says anything else of itself than it said then is another tool.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from remit.core import canonical
from remit.core.errors import RemitError

PINS_BYTES_MAX = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One tool as the server describes it."""

    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any] | None

    @property
    def digest(self) -> str:
        """Of all of it."""
        covered = {
            "description": self.description,
            "input_schema": self.input_schema,
            "output_schema": self.output_schema,
        }
        return canonical.digest(canonical.canonical(covered))


def read_pins(path: Path, toolset: str) -> tuple[Mapping[str, Pin], str]:
    """What was accepted, and the digest of the file. Raises: RemitError `mcp.unpinned`, `config.invalid`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        message = f"nothing of the server {toolset} has been accepted yet: there is no {path}"
        raise RemitError("mcp.unpinned", message) from error
    except OSError as error:
        raise RemitError("config.missing", f"{path} cannot be read", cause=str(error)) from error
    try:
        tools = orjson.loads(content)["tools"]
        pins = {
            str(name): Pin(
                description=str(one["description"]),
                input_schema=dict(one["input_schema"]),
                output_schema=None if one["output_schema"] is None else dict(one["output_schema"]),
            )
            for name, one in tools.items()
        }
        is_whole = all(pins[name].digest == one["digest"] for name, one in tools.items())
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RemitError(
            "config.invalid", f"{path} is no file of accepted tools", cause=str(error)[:200]
        ) from error
    if not is_whole:
        raise RemitError(
            "config.invalid", f"{path} was changed by hand: a digest does not fit", remedy="accept it anew"
        )
    return pins, canonical.digest(content)


def written(server: str, pins: Mapping[str, Pin]) -> bytes:
    """The file of accepted tools."""
    tools = {
        name: {
            "description": pin.description,
            "input_schema": pin.input_schema,
            "output_schema": pin.output_schema,
            "digest": pin.digest,
        }
        for name, pin in sorted(pins.items())
    }
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps({"server": server, "tools": tools}, option=options)


def shown(text: str) -> str:
    """A text of a stranger's with nothing hidden in it: what cannot be seen is named."""
    return "".join(one if one == "\n" or _is_plain(one) else f"<U+{ord(one):04X}>" for one in text)


def _is_plain(char: str) -> bool:
    return char.isprintable() and unicodedata.category(char) not in ("Cf", "Co", "Cn", "Mn", "Me")


def differences(old: Pin | None, new: Pin | None) -> Iterator[tuple[str, str]]:
    """The lines in which a tool differs: `+` or `-`, and the line."""
    before, after = _lines(old), _lines(new)
    for line in before:
        if line not in after:
            yield "-", line
    for line in after:
        if line not in before:
            yield "+", line


def _lines(pin: Pin | None) -> list[str]:
    if pin is None:
        return []
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
    schemas = [pin.input_schema] + ([pin.output_schema] if pin.output_schema is not None else [])
    text = "\n".join(
        [pin.description, *(orjson.dumps(schema, option=options).decode() for schema in schemas)]
    )
    return shown(text).splitlines()
