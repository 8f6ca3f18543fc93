"""Reads YAML so that every error can name its line, and so that no file can exhaust the reader.

YAML is read by the 1.2 core rules where the two versions differ: only `true` and `false` are booleans,
only decimal digits are numbers; a decimal fraction stays exact.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePath
from types import UnionType
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from remit.core.errors import RemitError

BYTES_MAX = 256 * 1024
NODES_MAX = 10_000
DEPTH_MAX = 32

Path: TypeAlias = tuple[str | int, ...]

_INTEGER = re.compile(r"[-+]?[0-9]{1,30}")
_DECIMAL = re.compile(r"[-+]?(?:[0-9]{1,30}\.[0-9]{0,30}|\.[0-9]{1,30})")
_PREFIX = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in a file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigError:
    """One thing wrong with a file."""

    file: str
    position: Position
    code: str
    message: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.position.line}:{self.position.column}"
        return f"{place}  {self.code}  {self.message}  {self.remedy}"


class ConfigErrors(RemitError):
    """Everything that is wrong with one file, in the order of its lines."""

    def __init__(self, errors: list[ConfigError]) -> None:
        self.errors = tuple(sorted(errors, key=lambda error: (error.position.line, error.position.column)))
        first = self.errors[0]
        super().__init__("config.invalid", f"{first.file}: {len(errors)} error(s)", cause=str(first))


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A YAML file as plain values, and where each key (or list item) stands."""

    file: str
    value: Any
    positions: Mapping[Path, Position]
    errors: tuple[ConfigError, ...] = ()

    def position(self, path: Path) -> Position:
        """Where `path` stands, or the nearest part of it that is there."""
        while path not in self.positions:
            path = path[:-1]
        return self.positions[path]

    def place(self, path: Path) -> str:
        """`file:line` of `path`, or of the nearest part of it that is there."""
        return f"{self.file}:{self.position(path).line}"

    def places(self, section: str) -> dict[str, str]:
        """`file:line`, by its bare name, of everything in a section; the section itself has the name ``""``."""
        file = PurePath(self.file).name
        return {
            ".".join(str(part) for part in path[1:]): f"{file}:{position.line}"
            for path, position in self.positions.items()
            if path[:1] in ((), (section,))
        }

    def error(self, path: Path, code: str, message: str, remedy: str) -> ConfigError:
        """An error at `path`."""
        return ConfigError(
            file=self.file, position=self.position(path), code=code, message=message, remedy=remedy
        )


def read(text: str, file: str) -> Document:
    """The document in `text`; `file` is the name that errors carry.

    Raises: ConfigErrors, with every duplicate key and unreadable value at once.
    """
    document = scan(text, file)
    if document.errors:
        raise ConfigErrors(list(document.errors))
    return document


def scan(text: str, file: str) -> Document:
    """What can be read of `text`, with the errors found on the way, for a reader who looks for more.

    Raises: ConfigErrors where nothing can be read.
    """
    reader = _Reader(file)
    if len(text.encode(errors="surrogatepass")) > BYTES_MAX:
        reader.fail(
            _START, "config.too_large", f"the file is larger than {BYTES_MAX} bytes", "make it smaller"
        )
        raise ConfigErrors(reader.errors)
    node = reader.compose(text)
    if node is None:
        reader.fail(_START, "config.empty", "the file is empty", "start from `remit init`")
        raise ConfigErrors(reader.errors)
    value = reader.value(node, ())
    return Document(file=file, value=value, positions=reader.positions, errors=tuple(reader.errors))


def schema_errors(document: Document, model: type[BaseModel], error: ValidationError) -> ConfigErrors:
    """What pydantic found wrong with the document, in the words and at the places of the file."""
    return ConfigErrors([_schema_error(document, model, detail) for detail in error.errors()])


_START = Position(line=1, column=1)


class _TooLarge(Exception):
    """The document has more nodes, or deeper ones, than anybody writes by hand."""


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.errors: list[ConfigError] = []
        self.positions: dict[Path, Position] = {(): _START}
        self._nodes = 0

    def fail(self, position: Position, code: str, message: str, remedy: str) -> None:
        self.errors.append(
            ConfigError(file=self.file, position=position, code=code, message=message, remedy=remedy)
        )

    def compose(self, text: str) -> yaml.Node | None:
        """The node tree. PyYAML's own reader recurses, so depth is bounded by Python's recursion limit."""
        try:
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            position = _START if mark is None else Position(line=mark.line + 1, column=mark.column + 1)
            self.fail(position, "config.syntax", f"this is not YAML: {error.problem}", "mend the YAML")
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            place = Position(line=before.count("\n") + 1, column=len(before) - before.rfind("\n"))
            self.fail(place, "config.syntax", f"this is not YAML: {error.reason}", "remove the character")
        except yaml.YAMLError as error:
            self.fail(
                _START, "config.syntax", f"this is not YAML: {error}".replace("\n", " "), "mend the YAML"
            )
        except RecursionError:
            self.fail(
                _START, "config.too_large", "the file is nested too deeply", f"use {DEPTH_MAX} levels at most"
            )
        raise ConfigErrors(self.errors)

    def value(self, node: yaml.Node, path: Path) -> Any:
        try:
            return self._value(node, path)
        except _TooLarge:
            remedy = "write the values out, without aliases"
            message = f"the file unfolds to more than {NODES_MAX} values or {DEPTH_MAX} levels"
            self.fail(_position(node), "config.too_large", message, remedy)
            return None

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > NODES_MAX or len(path) > DEPTH_MAX:
            raise _TooLarge
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                self.positions[(*path, index)] = _position(item)
                items.append(self._value(item, (*path, index)))
            return items
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != f"{_PREFIX}str":
                self.fail(_position(key_node), "config.wrong_type", "a key must be text", "write a plain key")
                continue
            key = key_node.value
            if _holds_surrogate(key):
                self._surrogate(key_node)
                continue
            if key in entries:
                first = self.positions[(*path, key)].line
                message = f"the key {key!r} stands here and in line {first}"
                self.fail(_position(key_node), "config.duplicate_key", message, "keep one of the two")
                continue
            self.positions[(*path, key)] = _position(key_node)
            entries[key] = self._value(value_node, (*path, key))
        return entries

    def _surrogate(self, node: yaml.Node) -> None:
        message = "a text holds a lone surrogate"
        self.fail(_position(node), "config.wrong_type", message, "write the character itself")

    def _scalar(self, node: yaml.Node) -> Any:
        text = str(node.value)
        if _holds_surrogate(text):
            return self._surrogate(node)
        match node.tag.removeprefix(_PREFIX):
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int" if _INTEGER.fullmatch(text):
                return int(text)
            case "float" if _DECIMAL.fullmatch(text):
                return Decimal(text)
            case "int" | "float":
                self.fail(
                    _position(node),
                    "config.wrong_type",
                    f"{text!r} is not a plain number",
                    "write decimal digits",
                )
                return None
            case "str" | "bool" | "timestamp" | "value":
                return text
        self.fail(
            _position(node), "config.wrong_type", f"the tag {node.tag!r} is not allowed", "remove the tag"
        )
        return None


def _holds_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _position(node: yaml.Node) -> Position:
    return Position(line=node.start_mark.line + 1, column=node.start_mark.column + 1)


def _schema_error(document: Document, model: type[BaseModel], detail: ErrorDetails) -> ConfigError:
    """One of pydantic's findings in the words and at the place of the file."""
    path = place_of(document.value, detail["loc"])
    kind = detail["type"]
    name = ".".join(str(part) for part in path)
    if kind == "extra_forbidden":
        remedy = nearest(str(path[-1]), _known_keys(model, detail["loc"][:-1]), "remove it")
        return document.error(path, "config.unknown_key", f"there is no key {name!r}", remedy)
    if kind == "union_tag_not_found":
        known = _known_keys(model, detail["loc"])
        return document.error(
            path, "config.missing_key", f"the key {name}.kind is missing", f"give one of {', '.join(known)}"
        )
    if kind == "union_tag_invalid":
        given, known = str(detail["ctx"]["tag"]), _known_keys(model, detail["loc"])
        remedy = nearest(given, known, f"give one of {', '.join(known)}")
        return document.error(
            (*path, "kind"), "config.out_of_range", f"there is no kind {given[:60]!r} of toolset", remedy
        )
    if kind == "missing":
        return document.error(path, "config.missing_key", f"the key {name!r} is missing", "add it")
    message = detail["msg"].replace("Input should be", "must be").replace("Decimal input", "the number")
    given = detail.get("input")
    shown = "" if isinstance(given, dict | list) else f", not {_shown(given)}"
    is_type = kind.endswith(("_type", "_parsing")) or kind == "is_instance_of"
    code = "config.wrong_type" if is_type else "config.out_of_range"
    remedy = "give a value of that type" if code == "config.wrong_type" else "give a value within that range"
    return document.error(path, code, f"{name or 'the file'} {message}{shown}", remedy)


def _shown(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | Decimal) else repr(str(value)[:60])


def place_of(value: Any, loc: Sequence[str | int]) -> Path:
    """The path of the file for one of pydantic's, which also names the kind of a section that has one."""
    path: list[str | int] = []
    for part in loc[:-1]:
        if isinstance(value, dict):
            if part not in value:
                continue
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part]
        path.append(part)
    return (*path, *loc[-1:])


def _known_keys(root: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys of the section at `loc`; where it can be of several kinds, the kinds."""
    annotation: Any = root
    for part in loc:
        kinds = _kinds(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(part))
            annotation = None if field is None else field.annotation
        elif part in kinds:
            annotation = kinds[str(part)]
        else:  # a key of a mapping, or a place in a list
            annotation = next(reversed(get_args(annotation)), None)
        annotation = _plain(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return list(annotation.model_fields)
    return list(_kinds(annotation))


def _plain(annotation: Any) -> Any:
    """The type without what is said of it, and without None."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        given = [one for one in get_args(annotation) if one is not type(None)]
        return _plain(given[0]) if len(given) == 1 else annotation
    return annotation


def _kinds(annotation: Any) -> dict[str, type[BaseModel]]:
    """Of a union of sections, each by the value of its `kind`."""
    if get_origin(annotation) not in (Union, UnionType):
        return {}
    return {
        str(kind): model
        for model in get_args(annotation)
        if isinstance(model, type) and issubclass(model, BaseModel) and "kind" in model.model_fields
        for kind in get_args(model.model_fields["kind"].annotation)
    }


def nearest(name: str, known: Iterable[str], otherwise: str) -> str:
    """A suggestion of the known name that is nearest to `name`, or `otherwise`."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else otherwise
