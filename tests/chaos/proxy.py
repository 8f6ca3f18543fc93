"""A proxy between workers and their database that cuts connections, takes none, or says nothing for a while."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class FaultProxy:
    """Forwards TCP connections to a port on loopback."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._speaks = asyncio.Event()
        self._speaks.set()
        self._refuses = False
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Its port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """Reset all connections, in the middle of whatever they carry."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def refuse(self, seconds: float) -> None:
        """Take no connection, and keep none, for a while."""
        self._refuses = True
        self.cut()
        await asyncio.sleep(seconds)
        self._refuses = False

    async def stall(self, seconds: float) -> None:
        """Keep all connections and carry nothing for a while."""
        self._speaks.clear()
        await asyncio.sleep(seconds)
        self._speaks.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        try:
            beyond, out = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, out}
        await asyncio.gather(self._carry(reader, out), self._carry(beyond, writer))
        self._writers -= {writer, out}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self._speaks.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
