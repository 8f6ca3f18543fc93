"""The declarations of an HTTP service's tools. Reads the document beside the governance file, and opens nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import yaml

from remit.adapters.tools.http.free import free_spec
from remit.adapters.tools.http.openapi import operations_of
from remit.adapters.tools.http.operations import Operation, Placed, Where, holes, tool_name
from remit.core.canonical import digest
from remit.core.errors import RemitError
from remit.core.tools import Declared, ToolSpec
from remit.governance.toolsets import HttpToolset
from remit.governance.toolsets.http import AuthSection, OperationSection

DOCUMENT_BYTES_MAX = 20_000_000
NODES_MAX = 2_000_000
DESCRIPTION_CHARS_MAX = 1_000
_NOBODY_ASKED = "no service is asked what became of a call: it is idempotent or at_most_once"


def declare_http(name: str, section: HttpToolset, folder: Path) -> Declared:
    """A tool for each listed operation, and one for free requests where there are such. Raises: RemitError `config.invalid`, `config.missing`."""
    if (section.url is None) == (section.url_env is None):
        raise RemitError("config.invalid", "a service has a url or a url_env, and not both")
    _check_auth(section)
    document, content_digest = read_document(section, folder)
    known = {} if document is None else operations_of(document, section.operations)
    specs = [_spec(tool, operation, given) for tool, operation, given in listed(section, known)]
    if section.free:
        if section.tool.idempotency == "reconcilable":
            raise RemitError("config.invalid", _NOBODY_ASKED)
        specs.append(free_spec(name, section))
    if not specs:
        raise RemitError("config.invalid", "it has neither operations nor free requests")
    return Declared(tuple(specs), content_digest)


def read_document(section: HttpToolset, folder: Path) -> tuple[Any, str]:
    """The OpenAPI document of a section, None where it has none, and its digest. Raises: RemitError."""
    if section.openapi is None:
        return None, digest(b"")
    content = _content(folder / section.openapi)
    return parsed(content), digest(content)


def listed(
    section: HttpToolset, known: Mapping[str, Operation]
) -> Iterator[tuple[str, Operation, OperationSection]]:
    """The operations that are tools, with their names. Raises: RemitError `config.invalid`."""
    for key, given in section.operations.items():
        operation = _written(key, given) if section.openapi is None else _found(key, given, known)
        problem = operation.problem or _problem(operation, given)
        if problem:
            raise RemitError("config.invalid", f"{key} can be no tool: {problem}")
        yield given.name or tool_name(key), _without_ours(operation, given, section.auth), given


def _found(key: str, given: OperationSection, known: Mapping[str, Operation]) -> Operation:
    if key not in known:
        raise RemitError(
            "config.invalid",
            f"the document has no operation {key!r}",
            remedy="see those that it has with `remit tools import openapi FILE --name NAME`",
        )
    if given.method or given.path or given.args or given.optional:
        raise RemitError("config.invalid", f"{key}: method, path and args stand in the document")
    return known[key]


def _problem(operation: Operation, given: OperationSection) -> str:
    missing = holes(operation.path) - {name for name, one in operation.placed.items() if one.where == "path"}
    if missing:
        return f"nothing says what {', '.join(sorted(missing))} is"
    if not operation.path.startswith("/") or any(char in operation.path for char in "?#\\ "):
        return "a path begins with / and has no query"
    if given.pages is not None and (given.tool.effect or operation.effect) == "write":
        return "pages are of what is read"
    if given.tool.idempotency == "reconcilable":
        return _NOBODY_ASKED
    return ""


def _without_ours(operation: Operation, given: OperationSection, auth: AuthSection | None) -> Operation:
    """Without the parameters that are filled here, and by no model."""
    headers = {name.lower() for name in (given.idempotency_header, auth and auth.header) if name}
    placed = {
        name: one
        for name, one in operation.placed.items()
        if not (one.where == "header" and name.lower() in headers)
        and not (one.where == "query" and auth is not None and name == auth.query)
    }
    return replace(operation, placed=placed)


def _written(name: str, given: OperationSection) -> Operation:
    if given.method is None or given.path is None:
        raise RemitError("config.invalid", f"{name} has no method and path, and there is no document")
    unknown = set(given.optional) - given.args.keys()
    if unknown:
        raise RemitError("config.invalid", f"{name}: {min(unknown)!r} is none of its args")
    in_path = holes(given.path)
    rest: Where = "query" if given.method in ("GET", "HEAD", "DELETE") else "field"
    placed = {
        argument: Placed(
            where="path" if argument in in_path else rest,
            schema=schema,
            is_required=argument in in_path or argument not in given.optional,
        )
        for argument, schema in given.args.items()
    }
    return Operation(
        name=name,
        method=given.method,
        path=given.path,
        description=given.tool.description or f"{given.method} {given.path}",
        placed=placed,
    )


def _spec(name: str, operation: Operation, given: OperationSection) -> ToolSpec:
    spec = ToolSpec(
        name=name,
        description=operation.description[:DESCRIPTION_CHARS_MAX],
        args_schema=operation.args_schema,
        effect=operation.effect,
        idempotency="idempotent" if given.idempotency_header else operation.idempotency,
        records="records" if given.pages else None,
        timeout_s=30.0,
    )
    applied = given.tool.applied(spec)
    if operation.effect == "read" and applied.effect == "write":
        return replace(applied, idempotency=given.tool.idempotency or "at_most_once")
    return applied


def _check_auth(section: HttpToolset) -> None:
    auth = section.auth
    if auth is None:
        return
    ways = [auth.bearer_env, auth.header_env, auth.basic_env, auth.query_env]
    if sum(way is not None for way in ways) != 1:
        raise RemitError("config.invalid", "auth has one of bearer_env, header_env, basic_env and query_env")
    if (auth.header is None) != (auth.header_env is None) or (auth.query is None) != (auth.query_env is None):
        raise RemitError("config.invalid", "header and header_env need each other, as query and query_env do")


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RemitError("config.missing", f"{path} cannot be read", cause=str(error)) from error
    if len(content) > DOCUMENT_BYTES_MAX:
        raise RemitError("config.too_large", f"{path} is larger than {DOCUMENT_BYTES_MAX} bytes")
    return content


def parsed(content: bytes) -> Any:
    """A document of JSON or YAML. Raises: RemitError `config.invalid`."""
    try:
        if content.lstrip()[:1] == b"{":
            return orjson.loads(content)
        document = yaml.load(content, Loader=_Yaml)  # noqa: S506  a safe one
        if _written_out(document, {}) > NODES_MAX:
            raise ValueError("its anchors make too much of it")
        return document
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise RemitError(
            "config.invalid", "the document is neither JSON nor YAML", cause=str(error)[:300]
        ) from error


def _written_out(value: Any, known: dict[int, int]) -> int:
    """How large a value is where every alias is written out; endless for one that holds itself."""
    if not isinstance(value, dict | list):
        return 1 + (len(value) // 100 if isinstance(value, str) else 0)
    if id(value) not in known:
        known[id(value)] = NODES_MAX + 1
        inner = value if isinstance(value, list) else (*value, *value.values())
        known[id(value)] = 1 + sum(_written_out(one, known) for one in inner)
    return known[id(value)]


class _Yaml(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML whose plain words are those of JSON: a date and `no` are texts."""

    _merged = 0

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the library has it
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if not tag.endswith((":timestamp", ":bool", ":value"))
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put the mappings that `<<` names into one, up to a bound. Raises: yaml.YAMLError."""
        super().flatten_mapping(node)
        self._merged += len(node.value)
        if self._merged > NODES_MAX:
            raise yaml.YAMLError("its merges make too much of it")


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
