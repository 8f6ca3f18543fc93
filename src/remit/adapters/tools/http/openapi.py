"""Reads OpenAPI documents (3.0 and 3.1): operations as methods, paths, and schemas of their arguments.

Only operations that are asked for are read, and what is wrong with one of them is that one's problem. No reference out of
the document is followed; one that leads back to itself is cut there.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson
from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from remit.adapters.tools.http.operations import METHODS, Joined, Operation, Placed
from remit.core.errors import RemitError

NODES_MAX = 50_000
DEPTH_MAX = 50
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_IGNORED_HEADERS = frozenset({"accept", "authorization", "content-type"})  # as OpenAPI has it
_OUR_HEADERS = frozenset(
    [
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ]
)
_STYLES: Mapping[tuple[str, str, bool], Joined] = {
    ("query", "form", True): "",
    ("query", "form", False): ",",
    ("query", "spaceDelimited", False): " ",
    ("query", "pipeDelimited", False): "|",
    ("query", "deepObject", True): "[]",
    ("query", "deepObject", False): "[]",
    ("path", "simple", False): ",",
    ("header", "simple", False): ",",
}
# what a schema may say here; anything else (examples, references to anchors, words of others) is left out
_PLAIN = frozenset(
    [
        "type",
        "enum",
        "const",
        "default",
        "title",
        "description",
        "format",
        "multipleOf",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "uniqueItems",
        "maxContains",
        "minContains",
        "maxProperties",
        "minProperties",
        "required",
        "dependentRequired",
    ]
)
_SCHEMAS = frozenset(
    [
        "items",
        "additionalProperties",
        "unevaluatedProperties",
        "unevaluatedItems",
        "not",
        "contains",
        "propertyNames",
        "if",
        "then",
        "else",
    ]
)
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})


class Listed(NamedTuple):
    """An operation, unread. `shared`: the parameters of its path."""

    name: str
    method: str
    path: str
    given: Mapping[str, Any]
    shared: Any


def listed_operations(document: Any) -> Iterator[Listed]:
    """All operations by name: the operationId, else method and path. Raises: RemitError `config.invalid`."""
    reader = _reader(document)
    for path, item in _object(document.get("paths")).items():
        item = reader.resolved(item)
        for method, given in item.items():
            if isinstance(method, str) and method.upper() in METHODS and isinstance(given, dict):
                name = given.get("operationId")
                named = name if isinstance(name, str) and name else f"{method.lower()} {path}"
                yield Listed(named, method.upper(), str(path), given, item.get("parameters"))


def operations_of(document: Any, only: Container[str] | None = None) -> Mapping[str, Operation]:
    """The operations that `only` names (all by default), by name. Raises: RemitError `config.invalid`."""
    found: dict[str, Operation] = {}
    for listed in listed_operations(document):
        if listed.name in found:
            found[listed.name] = _broken(listed, "there is another operation of this name")
        elif only is None or listed.name in only:
            try:
                found[listed.name] = _reader(document).operation(listed)
            except RemitError as error:
                found[listed.name] = _broken(listed, error.message)
    return found


def _reader(document: Any) -> _Reader:
    version = str(document.get("openapi", "")) if isinstance(document, dict) else ""
    if not version.startswith(("3.0", "3.1")):
        raise RemitError("config.invalid", "this is no OpenAPI document of version 3.0 or 3.1")
    return _Reader(document)


def _broken(listed: Listed, problem: str) -> Operation:
    return Operation(
        name=listed.name,
        method=listed.method,
        path=listed.path,
        description="",
        placed={},
        problem=problem,
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _json_of(content: Any) -> dict[str, Any] | None:
    """What is said of JSON among the media types of a body."""
    for kind, media in _object(content).items():
        if str(kind).partition(";")[0].strip().lower().endswith("json"):
            return _object(media)
    return None


class _Reader:
    """Reads one operation: what is counted is counted for that one."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._nodes = 0

    def operation(self, listed: Listed) -> Operation:
        """The operation, with its problem where it can be no tool. Raises: RemitError."""
        placed: dict[str, Placed] = {}
        problems: list[str] = []
        # a parameter of the operation takes the place of its path's
        given = {
            (parameter.get("in"), parameter.get("name")): parameter
            for one in (*_list(listed.shared), *_list(listed.given.get("parameters")))
            for parameter in [self.resolved(one)]
        }
        for parameter in given.values():
            problem = self._place(parameter, placed)
            if problem and (parameter.get("required") or parameter.get("in") == "path"):
                problems.append(problem)
        body = self.resolved(listed.given.get("requestBody"))
        if body:
            media = _json_of(body.get("content"))
            if media is None:
                kinds = ", ".join(map(str, _object(body.get("content")))) or "a body"
                problems.append(f"it takes {kinds[:100]} and no JSON")
            elif "body" in placed:
                problems.append("it has a parameter named body beside its body")
            else:
                schema = self.schema(media.get("schema"))
                placed["body"] = Placed(where="body", schema=schema, is_required=body.get("required") is True)
        texts = [listed.given.get("summary"), listed.given.get("description")]
        operation = Operation(
            name=listed.name,
            method=listed.method,
            path=listed.path,
            description="\n".join(str(text).strip() for text in texts if text)
            or f"{listed.method} {listed.path}",
            placed=placed,
            problem="; ".join(problems),
        )
        return operation if problems else _checked(operation, listed)

    def _place(self, parameter: dict[str, Any], placed: dict[str, Placed]) -> str:
        """Puts a parameter where it belongs; or says why it cannot be one."""
        where, name = parameter.get("in"), parameter.get("name")
        if not isinstance(name, str) or not name or (where not in ("path", "query", "header")):
            return f"it takes the {where} {name!r}"
        if where == "header":
            if name.lower() in _IGNORED_HEADERS:
                return ""
            if name.lower() in _OUR_HEADERS or not _HEADER.fullmatch(name):
                return f"it takes the header {name[:60]!r}"
        if name in placed:
            return f"it takes two arguments named {name!r}"
        media = _json_of(parameter.get("content"))
        style = str(parameter.get("style", "form" if where == "query" else "simple"))
        explode = parameter.get("explode", style == "form") is True and where == "query"
        joined = "json" if media is not None else _STYLES.get((where, style, explode))
        if joined is None:
            return f"it takes {name!r} in the style {style}"
        schema = self.schema((media or parameter).get("schema", {"type": "string"}))
        if "description" in parameter:
            schema = {"description": str(parameter["description"]), **schema}
        required = parameter.get("required") is True or where == "path"
        placed[name] = Placed(where=where, schema=schema, is_required=required, joined=joined)
        return ""

    def resolved(self, value: Any) -> dict[str, Any]:
        """An object, or that to which its $ref leads. Raises: RemitError."""
        seen: set[str] = set()
        while isinstance(value, dict) and isinstance(value.get("$ref"), str):
            if value["$ref"] in seen:
                raise RemitError("config.invalid", f"{value['$ref'][:80]} leads back to itself")
            seen.add(value["$ref"])
            value = self._at(value["$ref"])
        return _object(value)

    def schema(self, value: Any, above: tuple[str, ...] = (), depth: int = 0) -> dict[str, Any]:
        """A JSON Schema (2020-12) of what is sent, without references. Raises: RemitError `config.too_large`."""
        self._nodes += 1
        if self._nodes > NODES_MAX or depth > DEPTH_MAX:
            raise RemitError("config.too_large", "its schema is too large")
        if isinstance(value, dict) and isinstance(value.get("$ref"), str):
            ref = value["$ref"]
            if ref in above:
                return {"description": f"again {ref.rpartition('/')[2]}, which may hold itself"}
            return self.schema(self._at(ref), (*above, ref), depth + 1)
        if value is False:
            return {"not": {}}
        made: dict[str, Any] = {}
        for key, inner in _object(value).items():
            if key in ("properties", "patternProperties"):
                made[key] = {
                    str(name): self.schema(one, above, depth + 1)
                    for name, one in _object(inner).items()
                    if (key == "properties" or _is_pattern(name)) and not self._is_only_read(one)
                }
            elif key in _SCHEMAS and isinstance(inner, dict | bool):
                made[key] = inner if isinstance(inner, bool) else self.schema(inner, above, depth + 1)
            elif key in _LISTS and isinstance(inner, list) and inner:
                made[key] = [self.schema(one, above, depth + 1) for one in inner]
            elif key in _PLAIN and (key != "pattern" or _is_pattern(inner)):
                made[key] = inner
        made = self._without_only_read(made, _object(value))
        return _of_3_0(made, _object(value).get("nullable") is True)

    def _is_only_read(self, value: Any) -> bool:
        return self.resolved(value).get("readOnly") is True

    def _without_only_read(self, made: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
        """Nobody is asked for what only answers have."""
        declared, required = _object(value.get("properties")), made.get("required")
        if declared and isinstance(required, list):
            made["required"] = [
                name
                for name in required
                if not (isinstance(name, str) and name in declared and self._is_only_read(declared[name]))
            ]
        return made

    def _at(self, ref: str) -> Any:
        if not ref.startswith("#/"):
            raise RemitError("config.invalid", f"the reference {ref[:80]!r} leads out of the document")
        value: Any = self._document
        for part in unquote(ref[2:]).split("/"):
            if isinstance(value, list):
                value = value[int(part)] if part.isdecimal() and int(part) < len(value) else None
            else:
                value = _object(value).get(part.replace("~1", "/").replace("~0", "~"))
        if value is None:
            raise RemitError("config.invalid", f"the reference {ref[:80]!r} leads nowhere")
        return value


def _of_3_0(schema: dict[str, Any], is_nullable: bool) -> dict[str, Any]:
    """What 3.0 says in words of its own (and many documents of 3.1 too), in those of JSON Schema."""
    for bound, key in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(key), bool) and schema.pop(key) and bound in schema:
            schema[key] = schema.pop(bound)
    if not is_nullable:
        return schema
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
        if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
        return schema
    return {"anyOf": [schema, {"type": "null"}]} if schema else schema


def _is_pattern(pattern: Any) -> bool:
    """Whether a pattern takes linear time; one that does not is the service's to check."""
    try:
        Draft202012Validator({"pattern": pattern}, pattern_options=RegexOptions())
    except ValidationError:
        return False
    return True


def _checked(operation: Operation, listed: Listed) -> Operation:
    try:
        orjson.dumps(
            [operation.description, operation.args_schema]
        )  # else YAML has made something else of it
        Draft202012Validator(operation.args_schema, offline=True, pattern_options=RegexOptions())
    except (ValidationError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0][:100]
        return _broken(listed, f"the schema of its arguments is none: {reason}")
    return operation
