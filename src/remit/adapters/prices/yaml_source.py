"""YAML with its lines: plain values, no key twice, no aliases, and the line of every value.

Any place in the value can be traced to its line, so an error can name `file:line`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from remit.core.errors import RemitError

BYTES_MAX = 1_000_000

_Base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[valid-type,misc]
    """A safe loader of our own, so that what is registered on it changes nobody else's."""


class _ExactLoader(_Loader):
    """The same, with decimal numbers as `Decimal`, digit for digit."""


def _exact_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal:
    try:
        return Decimal(str(node.value).replace("_", ""))
    except InvalidOperation:
        raise yaml.constructor.ConstructorError(None, None, "not a decimal number", node.start_mark) from None


_ExactLoader.add_constructor("tag:yaml.org,2002:float", _exact_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlSource:
    """A parsed file: its plain value, and its nodes for the lines."""

    name: str
    value: Any
    root: yaml.Node | None

    def place(self, path: Sequence[str | int]) -> str:
        """`file:line` of the value at `path`, or of the nearest value above it that exists."""
        node = self.root
        line = node.start_mark.line if node is not None else 0
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            line, node = found
        return f"{self.name}:{line + 1}"


def _child(node: yaml.Node | None, step: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if str(key.value) == str(step):
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        item = node.value[step]
        return item.start_mark.line, item
    return None


def read(path: Path, code: str, *, exact: bool = False) -> YamlSource:
    """The file at `path`. Raises: RemitError `code`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RemitError(code, f"{path} cannot be read", cause=str(error)) from error
    return parse(data, path.name, code, exact=exact)


def parse(data: bytes, name: str, code: str, *, exact: bool = False) -> YamlSource:
    """The YAML in `data`, called `name` in errors; with `exact`, decimal numbers become `Decimal`.

    Raises: RemitError `code`.
    """
    if len(data) > BYTES_MAX:
        raise RemitError(code, f"{name} is larger than {BYTES_MAX} bytes")
    try:
        loader = (_ExactLoader if exact else _Loader)(data.decode())
        try:
            root = loader.get_single_node()
            seen: set[int] = set()
            _check(root, name, code, seen)
            value = None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{name}:{mark.line + 1}" if mark is not None else name
        raise RemitError(code, f"{place}: not YAML", cause=str(getattr(error, "problem", error))) from error
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise RemitError(code, f"{name}: not YAML", cause=str(error)) from error
    return YamlSource(name=name, value=value, root=root)


def _check(node: yaml.Node | None, name: str, code: str, seen: set[int]) -> None:
    if node is None or isinstance(node, yaml.ScalarNode):
        return
    if id(node) in seen:
        raise RemitError(code, f"{name}:{node.start_mark.line + 1}: aliases are not read here")
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check(item, name, code, seen)
        return
    keys: set[str] = set()
    for key, value in node.value:
        place = f"{name}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise RemitError(code, f"{place}: a key is not plain text")
        if key.value in keys:
            raise RemitError(code, f"{place}: the key {key.value!r} stands twice")
        keys.add(key.value)
        _check(value, name, code, seen)
