"""Our side of the channel to a process: what is too long is not read, and whoever waits hears that it is over.

A socket and no stream, because one is made for every call and a stream takes longer than all that is said on it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson

from remit.adapters.sandbox.inside import wire

_PIECE = 1 << 16


class TooLong(Exception):
    """A message is longer than it may be."""


def frame(message: Any) -> bytes:
    """A message as it is sent."""
    body = orjson.dumps(message)
    return wire.HEAD.pack(len(body)) + body


class Channel:
    """Messages on a socket, which is closed with it. To be closed when nobody waits at it any more."""

    def __init__(self, ours: socket.socket) -> None:
        ours.setblocking(False)
        self._socket = ours
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()

    async def send(self, message: Any) -> None:
        """Send a message; returns when the other side's end has taken it. Raises: OSError."""
        await self._loop.sock_sendall(self._socket, frame(message))

    async def receive(self, bytes_max: int) -> Any:
        """The next message. Raises: TooLong, asyncio.IncompleteReadError, ValueError where it is no JSON, OSError."""
        (length,) = wire.HEAD.unpack(await self._exactly(wire.HEAD.size))
        if length > bytes_max:
            raise TooLong
        return orjson.loads(await self._exactly(length))

    async def _exactly(self, size: int) -> bytes:
        received = self._received
        while len(received) < size:
            piece = await self._loop.sock_recv(self._socket, _PIECE)
            if not piece:
                raise asyncio.IncompleteReadError(bytes(received), size)
            received += piece
        found = bytes(received[:size])
        del received[:size]
        return found

    def tell(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a few bytes at once, with descriptors. Raises: OSError where the other side has gone or cannot keep up."""
        socket.send_fds(self._socket, [message], descriptors)

    def hang_up(self) -> None:
        """Whoever waits at either side hears that it is over."""
        with suppress(OSError):  # then it was
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hold nothing of it any more."""
        self._socket.close()
