"""Real MCP servers for the tests: a program, and one over HTTP; sections that name them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server import MCPServer
from starlette.responses import Response

from remit.adapters.tools.mcp.connection import described, transport_of
from remit.adapters.tools.mcp.pins import Pins, written
from remit.adapters.tools.mcp.specs import pins_file
from remit.core.decisions import Constraints
from remit.governance.toolsets import McpToolset
from remit.ports.effects import CallContext
from remit.runtime.clock import SystemClock

CLOCK = SystemClock()
SERVER = Path(__file__).parent / "server.py"
TOOLS = {
    "add": {},
    "words": {"tool": {"effect": "read"}},
    "wait": {},
    "fail": {},
    "end": {},
    "environment": {},
}


def section_of(**keys: Any) -> McpToolset:
    given = {
        "kind": "mcp",
        "command": [sys.executable, str(SERVER)],
        "env": {"ODD": "ODD"},
        "readable": [sys.prefix, sys.base_prefix, str(SERVER)],
        "tools": TOOLS,
    } | keys
    return McpToolset.model_validate({key: value for key, value in given.items() if value is not None})


def context(timeout_s: float = 60.0) -> CallContext:
    return CallContext(
        run_id="r",
        tenant="t",
        agent="a",
        idempotency_key="k",
        constraints=Constraints(timeout_s=timeout_s, output_bytes_max=65_536),
    )


def odd_section(*tools: str) -> McpToolset:
    """The server that speaks by hand, and so starts at once."""
    server = SERVER.with_name("odd_server.py")
    return section_of(
        command=[sys.executable, "-I", "-S", str(server)],
        env={},
        readable=[sys.prefix, sys.base_prefix, str(server)],
        tools={name: {} for name in tools},
    )


async def accept(section: McpToolset, folder: Path, **environment: str) -> None:
    server, now = await described(transport_of(section, folder, {"ODD": "", **environment}, CLOCK))
    pins = {name: now[name] for name in section.tools}
    pins_file("shop", section, folder).write_bytes(written(Pins(server=server, tools=pins)))


@asynccontextmanager
async def served_over_http(*, is_old: bool = False, port: int = 0) -> AsyncIterator[str]:
    server = MCPServer("shop")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    @server.tool()
    def words(count: int) -> str:
        """So many words."""
        return "word " * count

    app = server.streamable_http_app()

    async def old(scope: Any, receive: Any, send: Any) -> None:
        """A server of the older protocol, which answers with streams of events."""
        if (b"mcp-method", b"server/discover") in scope.get("headers", ()):
            await Response(status_code=404)(scope, receive, send)
        else:
            await app(scope, receive, send)

    asgi = old if is_old else app
    http = uvicorn.Server(uvicorn.Config(asgi, host="127.0.0.1", port=port, log_level="error"))
    serving = asyncio.create_task(http.serve())
    async with asyncio.timeout(60):
        while not http.started:
            await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{http.servers[0].sockets[0].getsockname()[1]}/mcp"
    finally:
        http.should_exit = True
        await serving


def over_http(url: str, **keys: Any) -> McpToolset:
    given = {"command": None, "env": {}, "readable": [], "url": url, "inner_hosts": ["127.0.0.1"]}
    return section_of(**given | {"tools": {"add": {}, "words": {}}} | keys)
