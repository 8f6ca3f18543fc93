"""Sockets for the servers of this process. uvicorn is theirs to import."""

from __future__ import annotations

import asyncio
import socket
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


async def started(server: Any, task: asyncio.Task[None]) -> None:
    """Wait until a uvicorn server, which `task` serves, answers."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while not server.started:
            if task.done():
                await task
                raise RemitError("internal", "a server ended before it began")
            await asyncio.sleep(0.002)
