"""The tools that the suite asks for, as far as they are tools of the kind that a remit governs."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server

NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
    "additionalProperties": False,
}
TOOLS = {
    "test_simple_text": NOTHING,
    "test_error_handling": NOTHING,
    "test_tool_with_progress": NOTHING,
    "json_schema_2020_12_tool": SCHEMA,
}


async def list_tools(_context: ServerRequestContext[Any], _params: Any) -> mcp_types.ListToolsResult:
    return mcp_types.ListToolsResult(
        tools=[
            mcp_types.Tool(name=name, description="For the suite.", input_schema=schema)
            for name, schema in TOOLS.items()
        ]
    )


async def call_tool(
    _context: ServerRequestContext[Any], params: mcp_types.CallToolRequestParams
) -> mcp_types.CallToolResult:
    is_error = params.name == "test_error_handling"
    text = "This tool returns an error." if is_error else "This is a simple text response for testing."
    return mcp_types.CallToolResult(
        content=[mcp_types.TextContent(type="text", text=text)], is_error=is_error
    )


async def main() -> None:
    server: Server[Any] = Server("suite", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (heard, said):
        await server.run(heard, said, server.create_initialization_options())


asyncio.run(main())
