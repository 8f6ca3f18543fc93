"""What people have accepted of a server's tools: description and schemas, each tool under a digest.

A tool that says anything else of itself than it said then is another tool. What a server says beside (titles, hints,
icons) is not kept, because nobody is shown it and nothing is decided by it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
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
    output_schema: Mapping[str, Any] | None = None

    @property
    def digest(self) -> str:
        """Of all of it."""
        covered = {
            "description": self.description,
            "input_schema": self.input_schema,
            "output_schema": self.output_schema,
        }
        return canonical.digest(canonical.canonical(covered))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """What was accepted of a server's tools, by their names; `server`: what it called itself, for people alone.

    `digest`: of the file in which it stands.
    """

    server: str = ""
    tools: Mapping[str, Pin] = field(default_factory=dict)
    digest: str = ""


def read_pins(path: Path, toolset: str) -> Pins:
    """What was accepted. Raises: RemitError `mcp.unpinned`, `config.missing`, `config.invalid`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        message = f"nothing of the server {toolset} has been accepted yet: there is no {path}"
        raise RemitError("mcp.unpinned", message) from error
    except OSError as error:
        raise RemitError("config.missing", f"{path} cannot be read", cause=str(error)) from error
    try:
        document = orjson.loads(content)
        tools = document["tools"]
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
    return Pins(server=str(document.get("server", "")), tools=pins, digest=canonical.digest(content))


def written(pins: Pins) -> bytes:
    """The file of accepted tools."""
    tools = {
        name: {
            "description": pin.description,
            "input_schema": pin.input_schema,
            "output_schema": pin.output_schema,
            "digest": pin.digest,
        }
        for name, pin in sorted(pins.tools.items())
    }
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps({"server": pins.server, "tools": tools}, option=options)


def shown(text: str) -> str:
    """A stranger's text on one line, with nothing hidden in it: what cannot be seen is named."""
    return "".join(one if _is_plain(one) else f"<U+{ord(one):04X}>" for one in text)


def _is_plain(char: str) -> bool:
    return char.isprintable() and unicodedata.category(char) not in ("Cf", "Co", "Cn", "Mn", "Me")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What stood at a place of a tool's description of itself, and what stands there now: lines, as people see them."""

    place: str
    old: tuple[str, ...]
    new: tuple[str, ...]


def differences(old: Pin | None, new: Pin) -> Iterator[Difference]:
    """All in which a tool differs; everything where it is new."""
    before = [] if old is None else old.description.split("\n")
    after = new.description.split("\n")
    for kind, start, end, at, until in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind != "equal":
            yield Difference(
                place="description",
                old=tuple(map(shown, before[start:end])),
                new=tuple(map(shown, after[at:until])),
            )
    was, now = ({} if pin is None else dict(_leaves(_schemas(pin), "")) for pin in (old, new))
    for place in (*was, *(place for place in now if place not in was)):
        if was.get(place) != now.get(place):
            lines = [(shown(one),) if one is not None else () for one in (was.get(place), now.get(place))]
            yield Difference(place=shown(place), old=lines[0], new=lines[1])


def _schemas(pin: Pin) -> dict[str, Any]:
    given = {"input_schema": pin.input_schema}
    return given if pin.output_schema is None else given | {"output_schema": pin.output_schema}


def _leaves(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Each value that has no further ones in it, or is a list of such, as JSON, by where it stands."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            name = key if key.replace("$", "_").isidentifier() and key.isascii() else _json(key)
            yield from _leaves(inner, f"{place}.{name}" if place else name)
    elif isinstance(value, list) and any(isinstance(inner, (Mapping, list)) for inner in value):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{place}[{index}]")
    else:
        yield place, _json(value)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
