"""Reads OpenAPI documents (3.0 and 3.1): each operation becomes a method, a path, and the schema of its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remit.adapters.tools.http.operations import METHODS, Operation, Placed
from remit.core.errors import RemitError

REFS_MAX = 10_000
_DROPPED = frozenset(
    {"example", "examples", "xml", "externalDocs", "discriminator", "deprecated", "readOnly", "writeOnly"}
)
_PLACES = frozenset({"path", "query", "header"})


def operations_of(document: Any) -> Mapping[str, Operation]:
    """The operations by their operationId. Raises: RemitError `config.invalid` where it is no document of that kind."""
    version = str(document.get("openapi", "")) if isinstance(document, dict) else ""
    if not version.startswith(("3.0", "3.1")):
        raise RemitError("config.invalid", "this is no OpenAPI document of version 3.0 or 3.1")
    reader = _Reader(document, nullable=version.startswith("3.0"))
    found: dict[str, Operation] = {}
    for path, item in _object(document.get("paths")).items():
        item = reader.resolved(item)
        for method, operation in item.items():
            if method.upper() not in METHODS or not isinstance(operation, dict):
                continue
            name = operation.get("operationId")
            if isinstance(name, str):
                if name in found:
                    raise RemitError("config.invalid", f"two operations are named {name!r}")
                shared = item.get("parameters", [])
                found[name] = reader.operation(name, (method.upper(), path), operation, shared)
    return found


def server_of(document: Mapping[str, Any]) -> str:
    """The address of the first server that the document names, empty where it names none."""
    servers = document.get("servers")
    first = servers[0] if isinstance(servers, list) and servers else None
    url = first.get("url", "") if isinstance(first, dict) else ""
    return url if isinstance(url, str) and url.startswith(("http://", "https://")) and "{" not in url else ""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


class _Reader:
    def __init__(self, document: dict[str, Any], *, nullable: bool) -> None:
        self._document = document
        self._nullable = nullable
        self._refs = 0

    def operation(
        self, name: str, at: tuple[str, str], given: dict[str, Any], shared: list[Any]
    ) -> Operation:
        placed: dict[str, Placed] = {}
        problem = ""
        for one in (*shared, *(given.get("parameters") or [])):
            parameter = self.resolved(one)
            where, parameter_name = parameter.get("in"), str(parameter.get("name"))
            required = bool(parameter.get("required")) or where == "path"
            if where not in _PLACES:
                problem = problem or (f"it takes the {where} {parameter_name!r}" if required else "")
                continue
            schema = self.schema(parameter.get("schema") or {"type": "string"})
            if "description" in parameter:
                schema = {"description": parameter["description"], **schema}
            placed[parameter_name] = Placed(where=where, schema=schema, is_required=required)
        body = self.resolved(given.get("requestBody") or {})
        if body:
            content = _object(body.get("content"))
            media = next((kind for kind in content if kind.partition(";")[0].endswith("json")), None)
            if media is None:
                problem = problem or f"it takes {', '.join(content) or 'a body'} and no JSON"
            elif "body" in placed:
                problem = problem or "it has a parameter named body beside its body"
            else:
                schema = self.schema(_object(content[media]).get("schema") or {})
                placed["body"] = Placed(where="body", schema=schema, is_required=bool(body.get("required")))
        method, path = at
        described = [given.get("summary"), given.get("description")]
        return Operation(
            name=name,
            method=method,
            path=path,
            description="\n".join(str(text).strip() for text in described if text) or f"{method} {path}",
            placed=placed,
            result_schema=self._result(given),
            problem=problem,
        )

    def _result(self, given: dict[str, Any]) -> dict[str, Any] | None:
        responses = _object(given.get("responses"))
        code = next((code for code in responses if str(code).startswith("2")), None)
        content = _object(self.resolved(responses[code]).get("content")) if code is not None else {}
        media = next((kind for kind in content if kind.partition(";")[0].endswith("json")), None)
        return None if media is None else self.schema(_object(content[media]).get("schema") or {})

    def resolved(self, value: Any) -> dict[str, Any]:
        """An object, or that to which its $ref leads."""
        seen: set[str] = set()
        while isinstance(value, dict) and isinstance(value.get("$ref"), str):
            if value["$ref"] in seen:
                raise RemitError("config.invalid", f"{value['$ref']} leads back to itself")
            seen.add(value["$ref"])
            value = self._at(value["$ref"])
        return _object(value)

    def schema(self, value: Any, above: tuple[str, ...] = ()) -> dict[str, Any]:
        """A JSON Schema (2020-12) without references; one that leads back to itself is cut there, to anything."""
        if isinstance(value, dict) and isinstance(value.get("$ref"), str):
            ref = value["$ref"]
            if ref in above:
                return {"description": f"again {ref.rpartition('/')[2]}, which may hold itself"}
            return self.schema(self._at(ref), (*above, ref))
        made: dict[str, Any] = {}
        for key, inner in _object(value).items():
            if key in _DROPPED or key.startswith("x-"):
                continue
            if key in ("properties", "patternProperties", "$defs"):
                made[key] = {name: self.schema(one, above) for name, one in _object(inner).items()}
            elif key in ("items", "additionalProperties", "not", "contains") and isinstance(inner, dict):
                made[key] = self.schema(inner, above)
            elif key in ("allOf", "anyOf", "oneOf", "prefixItems") and isinstance(inner, list):
                made[key] = [self.schema(one, above) for one in inner]
            else:
                made[key] = inner
        return _of_3_0(made) if self._nullable else made

    def _at(self, ref: str) -> Any:
        self._refs += 1
        if self._refs > REFS_MAX:
            raise RemitError("config.too_large", f"the document has more than {REFS_MAX} references")
        if not ref.startswith("#/"):
            raise RemitError("config.invalid", f"the reference {ref[:80]!r} leads out of the document")
        value: Any = self._document
        for part in ref[2:].split("/"):
            value = _object(value).get(part.replace("~1", "/").replace("~0", "~"))
        if value is None:
            raise RemitError("config.invalid", f"the reference {ref[:80]!r} leads nowhere")
        return value


def _of_3_0(schema: dict[str, Any]) -> dict[str, Any]:
    """What 3.0 says in words of its own, in those of JSON Schema."""
    if schema.pop("nullable", False) and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
        if isinstance(schema.get("enum"), list):
            schema["enum"] = [*schema["enum"], None]
    for bound, key in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(key), bool) and schema.pop(key) and bound in schema:
            schema[key] = schema.pop(bound)
    return schema
