"""Calls of an MCP server's tools, each only while it says of itself what was accepted.

The server may ask for nothing: no model is lent to it, no person and no folder. What it answers is a stranger's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import mcp_types
from mcp import Client
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from remit.adapters.egress.door import Policy, pinned_transport
from remit.adapters.egress.urls import BadUrl, read_url
from remit.adapters.sandbox.program import ProgramSettings, locked_in
from remit.adapters.tools.mcp.bounded import Bounded
from remit.adapters.tools.mcp.pins import Pin, read_pins
from remit.adapters.tools.mcp.specs import check, pins_file
from remit.adapters.tools.mcp.stdio import NoSandbox, stdio
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.tools import Declared, ToolSpec
from remit.governance.toolsets import McpToolset
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.services import Clock

CONNECT_S = 30.0
TOOLS_MAX = 2_000
RESERVE = 0.95  # our own deadline comes a little before the caller's, so that the reason gets through
_TOLD_CHARS_MAX = 300

Streams: TypeAlias = AbstractAsyncContextManager[TransportStreams]


class Unheard(Exception):
    """The server was asked, and what became of it is not known."""


def transport_of(
    section: McpToolset, folder: Path, environment: Mapping[str, str], clock: Clock
) -> Callable[[], Streams]:
    """How the server is reached, once for each connection. Raises: RemitError `toolset.unavailable`, `config.invalid`."""
    check(section)
    if section.command is not None:
        missing = [ours for ours in section.env.values() if ours not in environment]
        if missing:
            raise RemitError("toolset.unavailable", f"{missing[0]} is not set, and the server needs it")
        given = {theirs: environment[ours] for theirs, ours in section.env.items()}
        if "PATH" in environment:
            given.setdefault("PATH", environment["PATH"])
        # not resolved any further: a link may be how a program knows where it is
        here, most = folder.resolve(), section.message_bytes_max
        command = [str(here / part) if part.startswith("./") else part for part in section.command]
        if not section.unsafe_no_sandbox:
            readable = tuple((folder / path).resolve() for path in section.readable)
            command = locked_in(command, ProgramSettings(readable=readable, network=section.network))
        return lambda: stdio(command, given, folder, most)
    url = section.url or environment.get(str(section.url_env), "")
    try:
        target = read_url(url)
    except BadUrl as error:
        raise RemitError("toolset.unavailable", f"the server's URL is not used: {error}") from error
    headers = {}
    if section.bearer_env:
        token = environment.get(section.bearer_env, "")
        if not token:
            raise RemitError("toolset.unavailable", f"{section.bearer_env} is not set")
        headers["authorization"] = f"Bearer {token}"
    policy = Policy(
        hosts=(target.host,), ports=frozenset({target.port}), inner=frozenset(section.inner_hosts)
    )
    bytes_max = section.message_bytes_max
    return lambda: _http(url, headers, bytes_max, Bounded(pinned_transport(policy), bytes_max, clock))


@asynccontextmanager
async def _http(
    url: str, headers: Mapping[str, str], bytes_max: int, transport: Bounded
) -> AsyncIterator[TransportStreams]:
    timeout = httpx2.Timeout(CONNECT_S, read=None)
    async with (
        httpx2.AsyncClient(
            headers=dict(headers), transport=transport, timeout=timeout, trust_env=False
        ) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=bytes_max) as streams,
    ):
        yield streams


async def described(connect: Callable[[], Streams]) -> tuple[str, Mapping[str, Pin]]:
    """The server's name, and what it says of its tools now. Raises: RemitError `toolset.unavailable`."""
    connection = _Connection(connect)
    try:
        await connection.open()
        return connection.server, await connection.tools()
    finally:
        await connection.close()


async def open_mcp(
    name: str,
    section: McpToolset,
    declared: Declared,
    folder: Path,
    environment: Mapping[str, str],
    clock: Clock,
) -> McpTools:
    """The tools of `section`, once its server was connected to. Raises: RemitError `toolset.unavailable`."""
    pins, digest = read_pins(pins_file(name, section, folder), name)
    if digest != declared.digest:
        raise RemitError(
            "toolset.unavailable", f"what was accepted of {name} has changed since it was declared"
        )
    remote = {given.name or theirs: theirs for theirs, given in section.tools.items()}
    tools = McpTools(
        name, declared.specs, remote, pins, _Connection(transport_of(section, folder, environment, clock))
    )
    await tools.connect()
    return tools


class _Connection:
    """One connection, held by a task of its own: the protocol's library wants it opened and closed by the same."""

    def __init__(self, connect: Callable[[], Streams]) -> None:
        self._connect = connect
        self._client: Client | None = None
        self._holding: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self.server = ""
        self.has_changed = False

    @property
    def is_open(self) -> bool:
        """Whether it can be asked."""
        return self._client is not None and self._holding is not None and not self._holding.done()

    async def open(self) -> None:
        """Connect. Raises: RemitError `toolset.unavailable`."""
        await self.close()
        self._ending = asyncio.Event()
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._holding = asyncio.create_task(self._hold(ready))
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.wait({ready, self._holding}, return_when=asyncio.FIRST_COMPLETED)
                if not ready.done():
                    await self._holding
                    raise ConnectionError("it has ended")
                await ready
        except (
            TimeoutError,
            OSError,
            MCPError,
            RuntimeError,
            ValueError,
            ExceptionGroup,
            httpx2.HTTPError,
        ) as error:
            await self.close()
            cause = _cause(error)
            raise RemitError(
                "toolset.unavailable", "the MCP server cannot be reached", cause=cause
            ) from error

    async def _hold(self, ready: asyncio.Future[None]) -> None:
        async with Client(_Opened(self._connect()), message_handler=self._hear) as client:
            self._client = client
            info = client.server_info
            self.server = f"{info.name} {info.version}" if info is not None else ""
            if not ready.done():
                ready.set_result(None)
            await self._ending.wait()

    async def _hear(self, message: Any) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self.has_changed = True

    async def tools(self) -> Mapping[str, Pin]:
        """What the server says of its tools now. Raises: as `ask`."""
        self.has_changed = False
        found: dict[str, Pin] = {}
        cursor = None
        while len(found) <= TOOLS_MAX:
            page = await self.ask(partial(_page, cursor), CONNECT_S)
            for tool in page.tools:
                if tool.name in found:
                    raise RemitError(
                        "toolset.unavailable", f"the server has two tools named {tool.name[:60]!r}"
                    )
                found[tool.name] = Pin(
                    description=tool.description or "",
                    input_schema=tool.input_schema,
                    output_schema=tool.output_schema,
                )
            cursor = page.next_cursor
            if not cursor:
                return found
        raise RemitError("toolset.unavailable", f"the server has more than {TOOLS_MAX} tools")

    async def ask(self, question: Callable[[Client], Any], timeout_s: float) -> Any:
        """The answer. Raises: MCPError where the server says no; Unheard where there is none."""
        client, holding = self._client, self._holding
        if client is None or holding is None or holding.done():
            raise Unheard("the server has gone")
        asked = asyncio.ensure_future(question(client))
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wait({asked, holding}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise Unheard("the server has gone")
            return await asked
        except TimeoutError as error:
            raise Unheard(f"no answer within {timeout_s:g} s") from error
        except MCPError as error:
            if error.code not in (mcp_types.CONNECTION_CLOSED, mcp_types.REQUEST_TIMEOUT):
                raise
            self._client = None
            raise Unheard("the server has gone") from error
        except (OSError, RuntimeError, ValidationError, ExceptionGroup, httpx2.HTTPError) as error:
            self._client = None
            raise Unheard(f"the connection broke ({type(error).__name__})") from error
        finally:
            await _over(asked)

    async def close(self) -> None:
        """Disconnect, and end what was started for it."""
        self._client = None
        if self._holding is None:
            return
        self._ending.set()
        done, late = await asyncio.wait({self._holding}, timeout=CONNECT_S)
        for task in (*done, *late):
            await _over(task)
        self._holding = None


def _cause(error: BaseException) -> str:
    """Of a failure to connect: what this side says of it, and never what the server says."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, NoSandbox) else type(error).__name__


async def _page(cursor: str | None, client: Client) -> mcp_types.ListToolsResult:
    return await client.list_tools(cursor=cursor, cache_mode="bypass")


async def _over(task: asyncio.Future[Any]) -> None:
    """Wait until it has ended, which it should; how it did was told to whoever asked."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


class _Opened:
    """A transport as the protocol's library takes it."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def __aenter__(self) -> TransportStreams:
        return await self._streams.__aenter__()

    async def __aexit__(self, *given: Any) -> bool | None:
        return await self._streams.__aexit__(*given)


class McpTools:
    """A `ToolHost` of one server's tools. To be closed."""

    def __init__(
        self,
        name: str,
        specs: tuple[ToolSpec, ...],
        remote: Mapping[str, str],
        pins: Mapping[str, Pin],
        connection: _Connection,
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
            if theirs not in now or now[theirs].digest != self._pins[theirs].digest
        )
        names = ", ".join(sorted(self._changed))
        self.notices = (
            (f"the server {self._name} has changed {names}: refused until accepted",) if names else ()
        )


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
