"""The servers of this process: their sockets, and serving an application until a block ends.

uvicorn is imported when a server is made, because a process that serves nothing need not pay the 0.2 s.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from remit.core.errors import RemitError

START_TIMEOUT_S = 10.0


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address, port 0 for a free one. Raises: RemitError `usage.invalid`."""
    # The protocol is named because asyncio sends at once (TCP_NODELAY) only where it is: 40 ms a call.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, proto=socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise RemitError("usage.invalid", f"cannot listen on {host}:{port}", cause=str(error)) from error
    return listener


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """How requests are taken. `drain_s`: how long those that are being answered at the end may take; 0: they are cut off.

    `protocol`: a class of uvicorn's, made from its h11 one; `head_bytes_max`: of a request's head; None: as uvicorn has it.
    """

    drain_s: int
    connections_max: int | None = None
    protocol: Callable[[type[Any]], type[Any]] | None = None
    head_bytes_max: int | None = None


@asynccontextmanager
async def served(
    application: Any, listener: socket.socket, options: ServingOptions
) -> AsyncIterator[Callable[[], None]]:
    """Serve an ASGI application on a socket, which is closed at the end, until the block ends or what it gives is called."""
    import uvicorn  # noqa: PLC0415 - see the module's docstring
    from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: PLC0415

    config = uvicorn.Config(
        application,
        http="auto" if options.protocol is None else options.protocol(H11Protocol),
        h11_max_incomplete_event_size=options.head_bytes_max,
        limit_concurrency=options.connections_max,
        timeout_graceful_shutdown=options.drain_s,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_level="error",
        log_config=None,
        lifespan="off",
        ws="none",
    )
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True
        server.force_exit = options.drain_s == 0

    # serve() would take the process's signal handlers, which are the command's
    task = asyncio.create_task(server._serve([listener]), name="server")
    try:
        await _started(server, task)
        yield stop
    finally:
        stop()
        await task
        listener.close()


async def _started(server: Any, task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while not server.started:
            if task.done():
                await task
                raise RemitError("internal", "a server ended before it began")
            await asyncio.sleep(0.002)
