"""Calls a tool with JSON, and gives what it returns as JSON."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from remit.tools.context import Context
from remit.tools.declarations import parameters
from remit.tools.schemas import from_json, to_json


def call_tool(tool: Callable[..., Any], args: Mapping[str, Any], context: Context) -> Any:
    """What `tool` returns for `args`, which fit its schema. Raises: ToolError, and whatever the tool raises."""
    takes_context, types = parameters(tool)
    given = {name: from_json(types[name], value) for name, value in args.items()}
    if takes_context is not None:
        given[takes_context] = context
    value = tool(**given)
    if inspect.iscoroutine(value):
        import asyncio  # noqa: PLC0415 - most tools do without an event loop, which takes 40 ms to import

        value = asyncio.run(value)
    return to_json(value)
