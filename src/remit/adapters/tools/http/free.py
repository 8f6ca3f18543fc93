"""Free requests to a service: any path below its address, by the methods that the file lists.

A path is text: each part of it is one segment of what is sent, whatever stands in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remit.adapters.tools.http.operations import READS, Operation, Placed
from remit.core.canonical import Json
from remit.core.tools import ToolSpec
from remit.governance.toolsets import HttpToolset
from remit.ports.effects import EffectFailed

PARTS_MAX = 50
_SEGMENT = Placed(where="path", schema={}, is_required=True)
_QUERY = Placed(where="query", schema={}, is_required=False)
_BODY = Placed(where="body", schema={}, is_required=False)


def free_tool(name: str) -> str:
    """The name of the tool of the toolset `name`."""
    return f"request_{name}"


def free_spec(name: str, section: HttpToolset) -> ToolSpec:
    """The tool. One that may write is a tool that writes, also where it reads."""
    methods = list(section.free)
    properties: dict[str, Any] = {
        "method": {"enum": methods},
        "path": {"type": "string", "pattern": "^/", "maxLength": 2_000, "description": "Not encoded."},
        "query": {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        },
    }
    reads = READS.issuperset(methods)
    if not reads:
        properties["body"] = {"description": "JSON."}
    spec = ToolSpec(
        name=free_tool(name),
        description=f"A request to the service {name} ({', '.join(methods)}), below its address.",
        args_schema={
            "type": "object",
            "properties": properties,
            "required": ["method", "path"],
            "additionalProperties": False,
        },
        effect="read" if reads else "write",
        idempotency="idempotent" if reads else "at_most_once",
        timeout_s=30.0,
    )
    return section.tool.applied(spec)


def free_request(args: Mapping[str, Json], section: HttpToolset) -> tuple[Operation, dict[str, Json]]:
    """The operation that a free request comes to, and its arguments. Raises: EffectFailed `args.invalid`."""
    method, path, query = args["method"], args["path"], args.get("query", {})
    if section.auth is not None and section.auth.query in query:
        raise EffectFailed("args.invalid", f"{section.auth.query} is put in by the connector")
    if "body" in args and method in READS:
        raise EffectFailed("args.invalid", f"a {method} has no body")
    parts = path.strip("/").split("/") if path.strip("/") else []
    if len(parts) > PARTS_MAX:
        raise EffectFailed("args.invalid", f"the path has more than {PARTS_MAX} parts")
    segments = {str(number): part for number, part in enumerate(parts)}
    placed = dict.fromkeys(segments, _SEGMENT) | {"query": _QUERY, "body": _BODY}
    template = "".join(f"/{{{number}}}" for number in segments) + ("/" if path.endswith("/") else "")
    operation = Operation(name=method, method=method, path=template, description="", placed=placed)
    return operation, segments | {name: args[name] for name in ("query", "body") if name in args}
