"""JSON Schema (2020-12) of Python types, and the values of those types from JSON and back.

What has no plain JSON is an error that says where it stands and what can be written in its place.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

DEPTH_MAX = 12
KNOWN = "str, int, float, bool, None, list, dict[str, ...], Literal, Optional, Enum, TypedDict, a dataclass, Annotated"


class ToolError(TypeError):
    """The declaration of a tool is wrong: what, where, and what can be done."""


class Range(NamedTuple):
    """Of a number, in `Annotated[int, Range(1, 10)]`: both bounds are included."""

    least: float | None = None
    most: float | None = None


class Length(NamedTuple):
    """Of a text or a list, in `Annotated[str, Length(1, 200)]`."""

    least: int = 0
    most: int | None = None


class Pattern(NamedTuple):
    """Of a text, in `Annotated[str, Pattern("^[A-Z]{3}$")]`; it matches anywhere unless anchored."""

    text: str


_PLAIN: Mapping[Any, dict[str, Any]] = types.MappingProxyType(
    {
        str: {"type": "string"},
        int: {"type": "integer"},
        float: {"type": "number"},
        bool: {"type": "boolean"},
        type(None): {"type": "null"},
        datetime: {"type": "string", "format": "date-time"},
        date: {"type": "string", "format": "date"},
        Any: {},
    }
)


def schema_of(kind: Any, where: str, depth: int = 0) -> dict[str, Any]:
    """The schema of a type; `where` is named in errors. Raises: ToolError."""
    if depth > DEPTH_MAX:
        raise ToolError(f"{where}: the type is nested too deep, or holds itself; use dict[str, Any]")
    if kind in (list, dict):
        kind = list[Any] if kind is list else dict[str, Any]
    try:
        plain = _PLAIN.get(kind)
    except TypeError:  # what cannot be hashed is no plain type
        plain = None
    if plain is not None:
        return dict(plain)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _annotated(kind, where, depth)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(one, where, depth + 1) for one in arguments]}
    if origin in (list, Sequence):
        return {"type": "array", "items": schema_of(arguments[0], where, depth + 1)}
    if origin in (dict, Mapping):
        if arguments[0] is not str:
            raise ToolError(f"{where}: the keys of a JSON object are texts; write dict[str, ...]")
        return {"type": "object", "additionalProperties": schema_of(arguments[1], where, depth + 1)}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [one.value for one in kind]}
    fields = _fields(kind)
    if fields is None:
        raise ToolError(f"{where}: there is no JSON for {_name(kind)}; write one of {KNOWN}")
    return {
        "type": "object",
        "properties": {
            name: schema_of(one.kind, f"{where}.{name}", depth + 1) for name, one in fields.items()
        },
        "required": [name for name, one in fields.items() if one.required],
        "additionalProperties": False,
    }


def _annotated(kind: Any, where: str, depth: int) -> dict[str, Any]:
    inner, *notes = get_args(kind)
    schema = schema_of(inner, where, depth)
    for note in notes:
        bounds: dict[str, Any]
        match note:
            case Range(least=least, most=most):
                bounds = {"minimum": least, "maximum": most}
            case Length(least=least, most=most):
                of = "Items" if schema.get("type") == "array" else "Length"
                bounds = {f"min{of}": least, f"max{of}": most}
            case Pattern(text=text):
                bounds = {"pattern": text}
            case str():
                bounds = {"description": note}
            case _:
                continue  # made for others
        schema.update({key: bound for key, bound in bounds.items() if bound is not None})
    return schema


class _Field(NamedTuple):
    kind: Any
    required: bool


def _fields(kind: Any) -> dict[str, _Field] | None:
    """The fields of a dataclass or a TypedDict; None of anything else."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind, include_extras=True)
        return {
            one.name: _Field(
                hints[one.name],
                one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING,
            )
            for one in dataclasses.fields(kind)
            if one.init
        }
    if typing.is_typeddict(kind):
        hints = get_type_hints(kind, include_extras=True)
        required = kind.__required_keys__
        return {name: _Field(_bare(one), _must(one, name in required)) for name, one in hints.items()}
    return None


def _must(kind: Any, otherwise: bool) -> bool:
    """Whether a key must be there. Python itself does not see the mark where annotations are texts."""
    marks = {typing.Required: True, typing.NotRequired: False}
    return marks.get(get_origin(kind), otherwise)


def _bare(kind: Any) -> Any:
    """Without the mark of a key that must or need not be there."""
    return get_args(kind)[0] if get_origin(kind) in (typing.Required, typing.NotRequired) else kind


def from_json(kind: Any, value: Any) -> Any:
    """`value`, which fits the schema of `kind`, as a value of `kind`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return from_json(arguments[0], value)
    if origin in (Union, types.UnionType):
        fitting = (one for one in arguments if _fits(one, value))
        return from_json(next(fitting, Any), value)
    if origin in (list, Sequence) and arguments:
        return [from_json(arguments[0], one) for one in value]
    if origin in (dict, Mapping) and arguments:
        return {key: from_json(arguments[1], one) for key, one in value.items()}
    if kind is float:
        return float(value)
    if kind in (datetime, date):
        return kind.fromisoformat(value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    fields = _fields(kind)
    if fields is None:
        return value
    given = {name: from_json(fields[name].kind, one) for name, one in value.items()}
    return kind(**given)


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value is of this part of a union: by its JSON type, and an object by its keys."""
    schema = schema_of(kind, "")
    if "enum" in schema:
        return value in schema["enum"]
    match schema.get("type"):
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
        case "object":
            keys = set(schema.get("properties", value if isinstance(value, dict) else ()))
            return isinstance(value, dict) and set(schema.get("required", ())) <= set(value) <= keys
    return True


def to_json(value: Any, where: str = "the result") -> Any:
    """`value` as plain JSON. Raises: ToolError where it has none."""
    if value is None or (isinstance(value, str | bool | int | float) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, enum.Enum):
        return to_json(value.value, where)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = ((one.name, getattr(value, one.name)) for one in dataclasses.fields(value))
        return {name: to_json(one, f"{where}.{name}") for name, one in named}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ToolError(f"{where}: the keys of a JSON object are texts")
        return {key: to_json(one, f"{where}.{key}") for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(one, f"{where}[{index}]") for index, one in enumerate(value)]
    raise ToolError(f"{where}: there is no JSON for {_name(type(value))}; return one of {KNOWN}")


def _name(kind: Any) -> str:
    return getattr(kind, "__qualname__", None) or str(kind)
