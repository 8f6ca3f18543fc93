"""`@tool`: a plain function and what is declared of it. What is not declared has the most careful value."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar, Unpack, get_type_hints, overload

from remit.tools import docstrings
from remit.tools.context import Context
from remit.tools.schemas import ToolError, schema_of

P = ParamSpec("P")
R = TypeVar("R")

DataClass = Literal["public", "internal", "pii", "financial"]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_MARK = "__remit_tool__"


class Example(TypedDict, total=False):
    """A call that `remit tools test` makes: what is given, and what is returned where that is fixed."""

    args: dict[str, Any]
    result: Any


class Declared(TypedDict, total=False):
    """What can be declared of a tool. `rate_key`: the argument whose every value has a limit of its own.

    `isolation`: the least under which it may run; `records`: the field of the result that lists records; `uses`: the
    tools that it calls, of those that the governance file grants to its toolset.
    """

    name: str
    description: str
    effect: Literal["pure", "read", "write"]
    idempotency: Literal["idempotent", "reconcilable", "at_most_once"]
    classes: Sequence[DataClass]
    field_classes: Mapping[str, DataClass]
    result_trust: Literal["untrusted", "directory", "trusted"]
    rate_group: str
    rate_key: str
    records: str
    timeout_s: float
    isolation: Literal["process", "sandboxed", "namespaced"]
    uses: Sequence[str]
    examples: Sequence[Example]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A tool: its schemas, and what was declared."""

    name: str
    description: str
    args_schema: Mapping[str, Any]
    result_schema: Mapping[str, Any] | None
    declared: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """All of it, as plain JSON."""
        return {
            "name": self.name,
            "description": self.description,
            "args_schema": self.args_schema,
            "result_schema": self.result_schema,
            **{key: _plain(value) for key, value in self.declared.items()},
        }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | set | frozenset) else value


@overload
def tool(function: Callable[P, R]) -> Callable[P, R]: ...
@overload
def tool(**declared: Unpack[Declared]) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def tool(function: Callable[P, R] | None = None, **declared: Unpack[Declared]) -> Any:
    """Make a function a tool. It stays the function it is, plain or `async`.

    Its name, its docstring (Google's style) and its types say what the model is told; `declared` says what it does.
    What is wrong with it is said by `declaration_of`, and so by `remit check`: a call in the sandbox loads its whole
    module, and pays for no other tool of it.
    """

    def mark(marked: Callable[P, R]) -> Callable[P, R]:
        setattr(marked, _MARK, declared)
        return marked

    return mark if function is None else mark(function)


def declaration_of(value: object) -> Declaration | None:
    """What is declared of a function; None where it is no tool. Raises: ToolError where that is wrong."""
    declared = declared_of(value)
    return declare(value, declared) if declared is not None and isinstance(value, FunctionType) else None


def declared_of(value: object) -> Mapping[str, Any] | None:
    """What was given to `@tool`, unchecked; None where it is no tool."""
    found = getattr(value, _MARK, None) if isinstance(value, FunctionType) else None
    return found if isinstance(found, dict) else None


def declare(function: Callable[..., Any], declared: Mapping[str, Any]) -> Declaration:
    """The declaration of a function. Raises: ToolError."""
    where = _place(function)
    unknown = sorted(set(declared) - set(Declared.__annotations__))
    if unknown:
        raise ToolError(
            f"{where}: @tool takes no {unknown[0]!r}; it takes {', '.join(Declared.__annotations__)}"
        )
    rest = dict(declared)
    name = rest.pop("name", function.__name__)
    if not _NAME.fullmatch(name):
        raise ToolError(f"{where}: {name!r} is no name; write letters, digits, _ and -, 64 at most")
    documented = docstrings.parse(function.__doc__)
    description = rest.pop("description", documented.summary)
    if not description:
        raise ToolError(f"{where}: the model is told nothing of it; write a docstring")
    context, types = parameters(function)
    unknown = sorted(set(documented.arguments) - set(types) - {context})
    if unknown:
        raise ToolError(f"{where}: the docstring names {unknown[0]!r}, which is no parameter")
    key = rest.get("rate_key")
    if key is not None and key not in types:
        raise ToolError(
            f"{where}: rate_key is {key!r}, which is no parameter; name one of {', '.join(types)}"
        )
    returned = _hints(function).get("return", Any)
    return Declaration(
        name=name,
        description=description,
        args_schema=_args_schema(function, types, documented.arguments, where),
        result_schema=None if returned is Any else schema_of(returned, f"{where}: what it returns"),
        declared=rest,
    )


def parameters(function: Callable[..., Any]) -> tuple[str | None, dict[str, Any]]:
    """The parameter that takes the context, and the types of the others. Raises: ToolError."""
    where, hints = _place(function), _hints(function)
    context, types = None, dict[str, Any]()
    for name, one in inspect.signature(function).parameters.items():
        if one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
            raise ToolError(f"{where}: {one} cannot be named in JSON; write each parameter by its name")
        if name not in hints:
            raise ToolError(f"{where}: {name} has no type; write, say, {name}: str")
        if isinstance(hints[name], type) and issubclass(hints[name], Context):
            context = name
        else:
            types[name] = hints[name]
    return context, types


def _place(function: Callable[..., Any]) -> str:
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno}: {function.__name__}"


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ToolError(f"{_place(function)}: {error}; import what its types name") from error


def _args_schema(
    function: Callable[..., Any], types: Mapping[str, Any], documented: Mapping[str, str], where: str
) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    properties = {}
    for name, kind in types.items():
        schema = schema_of(kind, f"{where}: {name}")
        if name in documented:
            schema.setdefault("description", documented[name])
        default = parameters[name].default
        if isinstance(default, str | int | float | bool) and not dataclasses.is_dataclass(default):
            schema["default"] = getattr(default, "value", default)
        properties[name] = schema
    required = [name for name in types if parameters[name].default is inspect.Parameter.empty]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
