"""The other side of the protocol: offers tools to MCP clients, over this process's input and output or over HTTP.

What is called is decided elsewhere; here it only comes in and goes out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import anyio
import mcp_types
import orjson
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server

from remit import __version__
from remit.core.actions import Principal
from remit.core.canonical import Json
from remit.core.tools import ToolSpec

PROGRESS_S = 5.0

Context: TypeAlias = ServerRequestContext[Any]


class Reply(NamedTuple):
    """What a client is told of a call. `is_error`: it was not done, and `value` says why. `note`: beside the value."""

    value: Json
    is_error: bool = False
    note: str = ""


Call: TypeAlias = Callable[[Principal, str, dict[str, Any]], Awaitable[Reply]]
"""Does what a principal asks for by the name of a tool and its arguments. Never raises."""


def server_of(
    name: str,
    tools: Sequence[ToolSpec],
    call: Call,
    who: Callable[[Context], Principal],
    progress_s: float = PROGRESS_S,
) -> Server[Any]:
    """A server that offers `tools`, and nothing else, to whom `who` knows by a request.

    `progress_s`: so often a client that asks for it is told that its call is under way.
    """
    offered = [_offer(tool) for tool in tools]

    async def list_tools(
        _context: Context, _params: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListToolsResult:
        return mcp_types.ListToolsResult(tools=offered)

    async def call_tool(
        context: Context, params: mcp_types.CallToolRequestParams
    ) -> mcp_types.CallToolResult:
        asked = call(who(context), params.name, dict(params.arguments or {}))
        return _result(await _attended(asked, context, progress_s))

    return Server(name, version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)


async def serve_stdio(server: Server[Any]) -> None:
    """Serve one client over standard input and output, until it goes."""
    async with stdio_server() as (heard, said):
        await server.run(heard, said, server.create_initialization_options())


async def _attended(asked: Awaitable[Reply], context: Context, progress_s: float) -> Reply:
    """The reply, with word of its progress meanwhile; a call that is cancelled has ended when this does."""
    # a task of its own: the library's cancellation would strike again at every step of what has to be recorded
    task = asyncio.ensure_future(asked)
    rounds = 0
    try:
        while not (await asyncio.wait({task}, timeout=progress_s))[0]:
            rounds += 1
            await context.session.report_progress(rounds, message="under way")
        return task.result()
    finally:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait({task})


def _offer(tool: ToolSpec) -> mcp_types.Tool:
    # no output schema: what the remit withholds of a result makes it another than the tool's own
    return mcp_types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=dict(tool.args_schema),
        annotations=mcp_types.ToolAnnotations(
            read_only_hint=tool.effect != "write", idempotent_hint=tool.idempotency == "idempotent"
        ),
    )


def _result(reply: Reply) -> mcp_types.CallToolResult:
    texts = [orjson.dumps(reply.value).decode()] + ([reply.note] if reply.note else [])
    return mcp_types.CallToolResult(
        content=[mcp_types.TextContent(type="text", text=text) for text in texts],
        structured_content=reply.value if isinstance(reply.value, dict) else None,
        is_error=reply.is_error,
    )
