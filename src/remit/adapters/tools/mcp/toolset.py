"""Calls of an MCP server's tools, each only while it says of itself what was accepted.

What a server answers is a stranger's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import mcp_types
import orjson
from mcp.shared.exceptions import MCPError

from remit.adapters.tools.mcp.connection import (
    Connection,
    NotAsked,
    Unheard,
    is_refusal,
    transport_of,
)
from remit.adapters.tools.mcp.pins import Pins, read_pins, shown
from remit.adapters.tools.mcp.specs import pins_file
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.tools import Declared, ToolSpec
from remit.governance.toolsets import McpToolset
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.services import Clock

RESERVE = 0.95  # our own deadline comes a little before the caller's, so that the reason gets through
PAUSE_S_MAX = 60
LOOK_NS = 60 * 10**9
"""So long what a server said of its tools is taken for what it says of them, unless it says that it has changed."""
_TOLD_CHARS_MAX = 300
_WITHHELD = "a text that is not shown, because the tool returns fields that this agent may not see"


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
    connection = Connection(transport_of(section, folder, environment, clock))
    tools = McpTools(name, section, declared.specs, pins, connection, clock)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(tools.close)
        await tools.connect()
        stack.pop_all()
    return tools


class _Backoff:
    """When a server that was lost, or not reached, is tried again: at once, and each further time later."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._until_ns = 0

    def failed(self) -> None:
        """It was lost before it answered a call, or not reached."""
        self._failures += 1
        pause_s = 0 if self._failures == 1 else min(PAUSE_S_MAX, 2 ** min(self._failures - 2, 10))
        self._until_ns = self._clock.monotonic_ns() + pause_s * 10**9

    def answered(self) -> None:
        """It answered a call."""
        self._failures = 0

    def left_s(self) -> float:
        """So long it is not tried."""
        return max(0, self._until_ns - self._clock.monotonic_ns()) / 1e9


class McpTools:
    """A `ToolHost` of one server's tools. To be closed."""

    def __init__(
        self,
        name: str,
        section: McpToolset,
        specs: tuple[ToolSpec, ...],
        pins: Pins,
        connection: Connection,
        clock: Clock,
    ) -> None:
        self.notices: tuple[str, ...] = ()
        self._name = name
        self._remote = {given.name or theirs: theirs for theirs, given in section.tools.items()}
        self._specs = {spec.name: spec for spec in specs}
        self._pins = pins
        self._connection = connection
        self._clock = clock
        self._backoff = _Backoff(clock)
        self._restoring: asyncio.Task[bool] | None = None
        self._changed: frozenset[str] = frozenset()
        self._seen_changes = -1
        self._looked_ns = 0

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
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.wait({self._restoring})
        await self._connection.close()

    async def call(self, tool: str, args: Json, context: CallContext) -> Json:
        """What the server answers: `{"text"}` or `{"structured"}`, and what else there was.

        Raises: EffectFailed where nothing happened; anything else where nobody knows.
        """
        remote = self._remote[tool]
        timeout_s = context.constraints.timeout_s * RESERVE
        by_fields = self._specs[tool].hides_fields(context.constraints.denied_classes)
        began_ns = self._clock.monotonic_ns()
        await self._ready(tool, timeout_s)
        left_s = timeout_s - (self._clock.monotonic_ns() - began_ns) / 1e9
        try:
            answer = await self._connection.ask(
                lambda client: client.call_tool(remote, args), max(left_s, 0.001)
            )
        except NotAsked as error:
            self._backoff.failed()
            raise self._away() from error
        except MCPError as error:
            self._backoff.answered()
            words = _WITHHELD if by_fields else shown(str(error))[:_TOLD_CHARS_MAX]
            told = f"the server answered with an error: {words}"
            if is_refusal(error) or self._may_repeat(tool):
                raise EffectFailed("tool.failed", told) from error
            raise Unheard(told) from error
        except Unheard as error:
            if not self._connection.is_open:
                self._backoff.failed()
            if self._may_repeat(tool):
                raise EffectFailed("tool.timeout", str(error), retryable=True) from error
            raise
        self._backoff.answered()
        result = _result(answer, by_fields=by_fields)
        if answer.is_error:
            told = str(result.get("text", _WITHHELD if by_fields else ""))[:_TOLD_CHARS_MAX]
            raise EffectFailed("tool.failed", f"the tool failed: {told}")
        return result

    def _may_repeat(self, tool: str) -> bool:
        spec = self._specs[tool]
        return spec.effect != "write" or spec.idempotency == "idempotent"

    def _away(self) -> EffectFailed:
        message = f"the server {self._name} is away"
        wait_s = self._backoff.left_s()
        if wait_s:
            message += f", and is tried again in {math.ceil(wait_s)} s"
        return EffectFailed("tool.failed", message, retryable=True, retry_after_s=wait_s or None)

    async def _ready(self, tool: str, timeout_s: float) -> None:
        """Return where the tool can be called as it was accepted. Raises: EffectFailed."""
        if self._backoff.left_s():
            raise self._away()
        if not self._connection.is_open or not self._is_looked_at():
            restoring = self._restoring
            if restoring is None or restoring.done():
                # a task of its own, so that the calls that wait for it need not wait until it is over
                restoring = self._restoring = asyncio.create_task(self._restore())
            await asyncio.wait({restoring}, timeout=timeout_s)
            if not restoring.done():
                raise EffectFailed("tool.failed", f"the server {self._name} is not ready yet", retryable=True)
            if restoring.cancelled() or not restoring.result():
                raise self._away()
        if tool in self._changed:
            message = f"the server describes {tool} otherwise than it was accepted"
            raise EffectFailed("mcp.changed", f"{message}: a person has to look at it (remit tools accept)")

    async def _restore(self) -> bool:
        """Connect where there is no connection, and look at the tools; whether that went well."""
        try:
            if self._connection.is_open:
                await self._look()
            else:
                await self.connect()
        except RemitError:
            self._backoff.failed()
            return False
        return True

    def _is_looked_at(self) -> bool:
        """Whether what is known of the tools is of this connection, and what the server last said of them."""
        is_recent = self._clock.monotonic_ns() - self._looked_ns <= LOOK_NS
        return is_recent and self._seen_changes == self._connection.changes

    async def _look(self) -> None:
        changes = self._connection.changes
        try:
            now = await self._connection.tools()
        except (NotAsked, Unheard, MCPError) as error:
            raise RemitError("toolset.unavailable", "the MCP server does not say what it has") from error
        self._changed = frozenset(
            tool
            for tool, theirs in self._remote.items()
            if theirs not in now or now[theirs].digest != self._pins.tools[theirs].digest
        )
        self._seen_changes, self._looked_ns = changes, self._clock.monotonic_ns()
        self.notices = tuple(self._noticed())

    def _noticed(self) -> Iterator[str]:
        server, accepted = self._connection.server, self._pins.server
        if server != accepted:
            yield f"the server {self._name} is {server}, and was {shown(accepted)} when it was accepted"
        if self._changed:
            names = ", ".join(sorted(self._changed))
            yield f"the server {self._name} has changed {names}: refused until accepted"


def _result(answer: mcp_types.CallToolResult, *, by_fields: bool) -> dict[str, Json]:
    """What a model is shown of an answer: its data, its texts, and what is left out of it.

    `by_fields`: a field of it is denied, so that a text is shown where it is JSON, in which the field can be found.
    """
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
                others.append("a link, which is not shown" if by_fields else f"a link to {name}: {uri}")
            case _:
                others.append(f"{block.type}, which is not shown")
    if texts and answer.structured_content is None:
        if not by_fields:
            result["text"] = "\n".join(texts)
        elif (read := [one for one in map(_object, texts) if one is not None]) and not answer.is_error:
            result["structured"] = read[0] if len(read) == 1 else read
        if by_fields and len(read) < len(texts):
            others.append(_WITHHELD)
    if others:
        result["others"] = others
    return result


def _object(text: str) -> Json:
    """A text that is JSON with fields; None where it is not."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict | list) else None
