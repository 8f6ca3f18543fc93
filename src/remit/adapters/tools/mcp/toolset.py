"""Calls of an MCP server's tools, each only while it says of itself what was accepted.

What a server answers is a stranger's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import mcp_types
from mcp.shared.exceptions import MCPError

from remit.adapters.tools.mcp.connection import Connection, Unheard, transport_of
from remit.adapters.tools.mcp.pins import Pins, read_pins, shown
from remit.adapters.tools.mcp.specs import pins_file
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.tools import Declared, ToolSpec
from remit.governance.toolsets import McpToolset
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.services import Clock

RESERVE = 0.95  # our own deadline comes a little before the caller's, so that the reason gets through
_TOLD_CHARS_MAX = 300


async def open_mcp(
    name: str,
    section: McpToolset,
    declared: Declared,
    folder: Path,
    environment: Mapping[str, str],
    clock: Clock,
) -> McpTools:
    """The tools of `section`, once its server was connected to. Raises: RemitError `toolset.unavailable`."""
    pins = read_pins(pins_file(name, section, folder), name)
    if pins.digest != declared.digest:
        raise RemitError(
            "toolset.unavailable", f"what was accepted of {name} has changed since it was declared"
        )
    remote = {given.name or theirs: theirs for theirs, given in section.tools.items()}
    tools = McpTools(
        name, declared.specs, remote, pins, Connection(transport_of(section, folder, environment, clock))
    )
    await tools.connect()
    return tools


class McpTools:
    """A `ToolHost` of one server's tools. To be closed."""

    def __init__(
        self,
        name: str,
        specs: tuple[ToolSpec, ...],
        remote: Mapping[str, str],
        pins: Pins,
        connection: Connection,
    ) -> None:
        self.notices: tuple[str, ...] = ()
        self._name = name
        self._specs = {spec.name: spec for spec in specs}
        self._remote = remote
        self._pins = pins
        self._connection = connection
        self._connecting = asyncio.Lock()
        self._changed: frozenset[str] = frozenset()

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The declarations."""
        return tuple(self._specs.values())

    async def connect(self) -> None:
        """Connect, and see which of the tools are still what was accepted. Raises: RemitError `toolset.unavailable`."""
        await self._connection.open()
        await self._look()

    async def close(self) -> None:
        """Disconnect, and end the server where it was started."""
        await self._connection.close()

    async def call(self, tool: str, args: Json, context: CallContext) -> Json:
        """What the server answers: `{"text"}` or `{"structured"}`, and what else there was.

        Raises: EffectFailed where nothing happened; anything else where nobody knows.
        """
        remote, spec = self._remote[tool], self._specs[tool]
        await self._ready(tool)
        timeout_s = context.constraints.timeout_s * RESERVE
        try:
            answer = await self._connection.ask(lambda client: client.call_tool(remote, args), timeout_s)
        except MCPError as error:
            raise EffectFailed(
                "tool.failed", f"the server refused: {str(error)[:_TOLD_CHARS_MAX]}"
            ) from error
        except Unheard as error:
            if spec.effect != "write" or spec.idempotency == "idempotent":
                raise EffectFailed("tool.timeout", str(error), retryable=True) from error
            raise
        result = _result(answer)
        if answer.is_error:
            raise EffectFailed(
                "tool.failed", f"the tool failed: {str(result.get('text', ''))[:_TOLD_CHARS_MAX]}"
            )
        return result

    async def _ready(self, tool: str) -> None:
        """Return where the tool can be called as it was accepted. Raises: EffectFailed."""
        async with self._connecting:
            try:
                if not self._connection.is_open:
                    await self.connect()
                elif self._connection.has_changed:
                    await self._look()
            except (RemitError, Unheard, MCPError) as error:
                raise EffectFailed(
                    "tool.failed", f"the server {self._name} is away", retryable=True
                ) from error
        if tool in self._changed:
            message = f"the server describes {tool} otherwise than it was accepted"
            raise EffectFailed("mcp.changed", f"{message}: a person has to look at it (remit tools accept)")

    async def _look(self) -> None:
        try:
            now = await self._connection.tools()
        except (Unheard, MCPError) as error:
            raise RemitError("toolset.unavailable", "the MCP server does not say what it has") from error
        self._changed = frozenset(
            tool
            for tool, theirs in self._remote.items()
            if theirs not in now or now[theirs].digest != self._pins.tools[theirs].digest
        )
        self.notices = tuple(self._noticed())

    def _noticed(self) -> Iterator[str]:
        server, accepted = self._connection.server, self._pins.server
        if server != accepted:
            yield f"the server {self._name} is {server}, and was {shown(accepted)} when it was accepted"
        if self._changed:
            names = ", ".join(sorted(self._changed))
            yield f"the server {self._name} has changed {names}: refused until accepted"


def _result(answer: mcp_types.CallToolResult) -> dict[str, Json]:
    """What a model is shown of an answer: its data, its texts, and what is left out of it."""
    result: dict[str, Json] = {}
    if answer.structured_content is not None:
        result["structured"] = answer.structured_content
    texts, others = [], []
    for block in answer.content:
        match block:
            case mcp_types.TextContent(text=text):
                texts.append(text)
            case mcp_types.EmbeddedResource(resource=mcp_types.TextResourceContents(text=text, uri=uri)):
                texts.append(f"{uri}:\n{text}")
            case mcp_types.ResourceLink(uri=uri, name=name):
                others.append(f"a link to {name}: {uri}")
            case _:
                others.append(f"{block.type}, which is not shown")
    if texts and answer.structured_content is None:
        result["text"] = "\n".join(texts)
    if others:
        result["others"] = others
    return result
