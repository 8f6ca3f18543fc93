"""The other side of the protocol: offers tools to an MCP client over this process's input and output.

What is called is decided elsewhere; here it only comes in and goes out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import mcp_types
import orjson
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server

from remit import __version__
from remit.core.canonical import Json
from remit.core.tools import ToolSpec


class Reply(NamedTuple):
    """What a client is told of a call. `is_error`: it was not done, and `value` says why."""

    value: Json
    is_error: bool = False


Call: TypeAlias = Callable[[str, dict[str, Any], str], Awaitable[Reply]]
"""Does what is asked for by the name of a tool, its arguments, and the client's own name of the call. Never raises."""


def server_of(name: str, tools: Sequence[ToolSpec], call: Call) -> Server[Any]:
    """A server that offers `tools`, and nothing else."""
    offered = [
        mcp_types.Tool(
            name=tool.name,
            description=tool.description,
            input_schema=dict(tool.args_schema),
            annotations=mcp_types.ToolAnnotations(
                read_only_hint=tool.effect != "write", idempotent_hint=tool.idempotency == "idempotent"
            ),
        )
        for tool in tools
    ]

    async def list_tools(
        _context: ServerRequestContext[Any], _params: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListToolsResult:
        return mcp_types.ListToolsResult(tools=offered)

    async def call_tool(
        context: ServerRequestContext[Any], params: mcp_types.CallToolRequestParams
    ) -> mcp_types.CallToolResult:
        reply = await call(params.name, dict(params.arguments or {}), f"mcp-{context.request_id}")
        text = mcp_types.TextContent(type="text", text=orjson.dumps(reply.value).decode())
        structured = reply.value if isinstance(reply.value, dict) and not reply.is_error else None
        return mcp_types.CallToolResult(
            content=[text], structured_content=structured, is_error=reply.is_error
        )

    return Server(name, version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)


async def serve_stdio(server: Server[Any]) -> None:
    """Serve one client over standard input and output, until it goes."""
    async with stdio_server() as (heard, said):
        await server.run(heard, said, server.create_initialization_options())
