"""Calls a tool with JSON, and gives what it returns as JSON."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from remit.tools.context import Context
from remit.tools.declarations import Declaration
from remit.tools.schemas import from_json, to_json


def call_tool(tool: Declaration, args: Mapping[str, Any], context: Context) -> Any:
    """What `tool` returns for `args`, which fit its schema. Raises: ToolError, and whatever the tool raises."""
    given = {name: from_json(tool.types[name], value) for name, value in args.items()}
    if tool.context is not None:
        given[tool.context] = context
    value = tool.function(**given)
    if inspect.iscoroutine(value):
        import asyncio  # noqa: PLC0415 - most tools do without an event loop, which takes 40 ms to import

        value = asyncio.run(value)
    return to_json(value)
