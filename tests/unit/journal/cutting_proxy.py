"""A TCP proxy that cuts connections after a number of bytes, so that what was asked is answered to nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType

CHUNK = 65_536


class CuttingProxy:
    """Forwards to `port` of the loopback. Runs in a thread of its own; use as a context manager.

    `budget` is asked for each connection how many bytes may pass before it is cut (None: all), and whether those
    towards the server are counted, or those of its answers.
    """

    def __init__(self, port: int, budget: Callable[[], tuple[int | None, bool]]) -> None:
        self._target = port
        self._budget = budget
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._transports: set[asyncio.WriteTransport] = set()
        self.cuts = 0
        self.port = 0

    def __enter__(self) -> CuttingProxy:
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stopped(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stopped(self) -> None:
        self._server.close()
        for transport in self._transports:
            transport.abort()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            above, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        budget, towards_server = self._budget()
        ways = (
            self._forward(reader, to_server, budget if towards_server else None),
            self._forward(above, writer, None if towards_server else budget),
        )
        transports = {writer.transport, to_server.transport}
        self._transports |= transports
        tasks = [asyncio.ensure_future(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for transport in transports:
                transport.abort()
            self._transports -= transports

    async def _forward(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, budget: int | None
    ) -> None:
        while data := await source.read(CHUNK):
            if budget is not None:
                data, budget = data[:budget], budget - len(data)
            sink.write(data)
            await sink.drain()
            if budget is not None and budget <= 0:
                self.cuts += 1
                return
