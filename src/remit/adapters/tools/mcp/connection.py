"""A connection to an MCP server: how it is reached, what the server has, and one answer for each question.

The server may ask for nothing: no model is lent to it, no person and no folder.
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
from remit.adapters.tools.mcp.bounded import FORGOTTEN, NOT_SENT, Bounded
from remit.adapters.tools.mcp.pins import Pin, shown
from remit.adapters.tools.mcp.specs import check
from remit.adapters.tools.mcp.stdio import NoSandbox, stdio
from remit.core.errors import RemitError
from remit.governance.toolsets import McpToolset
from remit.ports.services import Clock

CONNECT_S = 30.0
TOOLS_MAX = 2_000
NAME_CHARS_MAX = 200

Streams: TypeAlias = AbstractAsyncContextManager[TransportStreams]


class Unheard(Exception):
    """The server was asked, and what became of it is not known."""


class NotAsked(Exception):
    """The server was certainly not asked, or has certainly not done it: it is away."""


_REFUSALS = frozenset(
    (
        mcp_types.METHOD_NOT_FOUND,
        mcp_types.INVALID_PARAMS,
        mcp_types.HEADER_MISMATCH,
        mcp_types.MISSING_REQUIRED_CLIENT_CAPABILITY,
        mcp_types.UNSUPPORTED_PROTOCOL_VERSION,
        mcp_types.URL_ELICITATION_REQUIRED,
    )
)
_ENDS = frozenset((mcp_types.CONNECTION_CLOSED, mcp_types.REQUEST_TIMEOUT, FORGOTTEN))


def is_refusal(error: MCPError) -> bool:
    """Whether the server says by it that it has not begun: an error of any other code may come after a deed."""
    return error.code in _REFUSALS


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
    connection = Connection(connect)
    try:
        await connection.open()
        return connection.server, await connection.tools()
    finally:
        await connection.close()


class Connection:
    """One connection, held by a task of its own: the protocol's library wants it opened and closed by the same.

    `changes`: grows with all after which the tools may be others: each connection, and word of it from the server.
    """

    def __init__(self, connect: Callable[[], Streams]) -> None:
        self._connect = connect
        self._client: Client | None = None
        self._holding: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self.server = ""
        self.changes = 0

    @property
    def is_open(self) -> bool:
        """Whether it can be asked."""
        return self._client is not None and self._holding is not None and not self._holding.done()

    async def open(self) -> None:
        """Connect. Raises: RemitError `toolset.unavailable`."""
        await self.close()
        self.changes += 1
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
            self.server = shown(f"{info.name} {info.version}")[:NAME_CHARS_MAX] if info is not None else ""
            if not ready.done():
                ready.set_result(None)
            await self._ending.wait()

    async def _hear(self, message: Any) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self.changes += 1

    async def tools(self) -> Mapping[str, Pin]:
        """What the server says of its tools now. Raises: as `ask`; RemitError `toolset.unavailable`."""
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
        """The answer. Raises: MCPError where the server says no; NotAsked; Unheard where there is none."""
        client, holding = self._client, self._holding
        if client is None or holding is None or holding.done():
            raise NotAsked("the server has gone")
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
            if error.code == NOT_SENT:
                raise NotAsked(error.message) from error
            if error.code not in _ENDS:
                raise
            self._client = None
            if error.code == FORGOTTEN:
                raise NotAsked(error.message) from error
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
