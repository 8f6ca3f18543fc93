"""Processes that wait, locked in, for one call each: a call is answered, or its process is killed, by the deadline.

A process is used once. What it says is checked: its length while it comes, its form when it has come.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, TypeAlias

from remit.adapters.sandbox import faults
from remit.adapters.sandbox.channel import Channel, TooLong
from remit.adapters.sandbox.settings import SandboxSettings
from remit.adapters.sandbox.zygote import FRAME_BYTES_MAX, Ended, Zygote, start_best
from remit.core.errors import RemitError
from remit.core.tools import Isolation
from remit.ports.effects import EffectFailed
from remit.ports.services import Clock

END_S = 5.0
ASKS_MAX = 2_000
"""So many things a call may ask for: other calls, and to be shown how far it is."""
_OVERHEAD = 1024

Answer: TypeAlias = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Answers what a process asks for: a kind and a request; the answer is a message. What it raises ends the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a process is asked to do, by when, and how long its result may be."""

    message: Mapping[str, Any]
    timeout_s: float
    bytes_max: int
    answer: Answer


async def nothing_granted(kind: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuses whatever is asked."""
    return {"refused": f"{kind} was not granted"}


class SandboxPool:
    """The processes of one sandbox. To be closed."""

    def __init__(self, settings: SandboxSettings, clock: Clock) -> None:
        self._clock = clock
        self._settings = settings
        self._zygote: Zygote | None = None
        self._warm: deque[_Process] = deque()
        self._processes: dict[int, _Process] = {}
        self._number = 0
        self._starting = asyncio.Lock()
        self._room = asyncio.Semaphore(settings.processes_max)
        self._places = settings.processes_max + settings.warm
        self._free = asyncio.Semaphore(self._places)
        self._cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        self._outputs: list[IO[bytes]] = []
        self._closed = False
        self._filling: asyncio.Future[None] = asyncio.Future()
        self._filling.set_result(None)

    @property
    def causes(self) -> str:
        """Why it is no better isolated, where it could be."""
        return "; ".join(self._zygote.causes) if self._zygote is not None else ""

    async def start(self) -> Isolation:
        """Have processes ready; the level that they run at. Raises: RemitError `sandbox.unavailable`."""
        zygote = await self._up()
        await self._fill(zygote)
        return zygote.level

    async def ask(self, request: Request) -> Any:
        """What a fresh process answers. Raises: EffectFailed, whose code says what came in between."""
        async with self._room:
            process = await self._take()
            answered, failed = False, None
            try:
                value = await self._answer(process, request)
                answered = True
                return value
            except EffectFailed as error:
                failed = error
                raise
            finally:
                # what has failed must be over before that is told
                await self._end(process, wait=not answered)
                if failed is not None:
                    failed.output = process.printed

    async def _answer(self, process: _Process, request: Request) -> Any:
        """What the process answers in time. Raises: EffectFailed."""
        try:
            async with asyncio.timeout(request.timeout_s):
                return await process.ask(request)
        except TimeoutError as error:
            message = f"no answer within {request.timeout_s:g} s; it was killed"
            raise EffectFailed("tool.timeout", message, retryable=True) from error
        except TooLong as error:
            message = f"its result is longer than {request.bytes_max} bytes"
            raise EffectFailed("sandbox.limit", message) from error
        except ValueError as error:
            raise EffectFailed("tool.result_invalid", "what it sent is no JSON") from error
        except (asyncio.IncompleteReadError, OSError) as error:
            ended = await process.ended_within(END_S)
            raise faults.of_end(ended, self._settings.limits) from error

    async def close(self) -> None:
        """End every process."""
        self._closed = True
        self._filling.cancel()
        await asyncio.wait({self._filling})
        async with self._starting:
            if self._zygote is not None:
                await self._zygote.close()
        for output in self._outputs:
            output.close()

    async def _up(self) -> Zygote:
        async with self._starting:
            if self._closed:
                raise RemitError("sandbox.unavailable", f"the sandbox {self._settings.name} is closed")
            if self._zygote is None or self._zygote.has_gone:
                if self._zygote is not None:
                    await self._zygote.close()
                self._zygote = await start_best(self._settings, self._cells(), self._on_ended)
                self._zygote.when_gone(self._forget)
            return self._zygote

    def _cells(self) -> list[str]:
        """The names of the places for processes, which nobody can guess."""
        return [self._clock.entropy(16).hex() for _ in range(self._places)]

    async def _take(self) -> _Process:
        try:
            zygote = await self._up()
            process = self._warm.popleft() if self._warm else await self._spawn(zygote)
        except RemitError as error:
            raise EffectFailed(error.code, error.message) from error
        except OSError as error:
            raise EffectFailed("tool.failed", "the sandbox could start no process", retryable=True) from error
        if self._filling.done():
            # a task of its own, because the call need not wait until its successor is forked
            self._filling = asyncio.ensure_future(self._fill(zygote))
        return process

    async def _fill(self, zygote: Zygote) -> None:
        with suppress(OSError):  # who takes the next process learns of it
            while len(self._warm) < self._settings.warm and not self._free.locked():
                self._warm.append(await self._spawn(zygote))
                await self._unready_below(self._cores)

    async def _unready_below(self, most: int) -> None:
        """Wait until fewer are being made ready: more than there are cores are all ready late."""
        while len(unready := {one.ready for one in self._processes.values() if not one.ready.done()}) >= most:
            await asyncio.wait(unready, return_when=asyncio.FIRST_COMPLETED)

    async def _spawn(self, zygote: Zygote) -> _Process:
        """A new process, that will say when it is ready. Raises: OSError."""
        await self._free.acquire()  # a process that is ending has its place still
        self._number = number = (self._number + 1) % (1 << 32)
        ours, theirs = socket.socketpair()
        output = self._outputs.pop() if self._outputs else tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        with theirs:
            try:
                zygote.spawn(number, theirs.fileno(), output.fileno())
            except OSError:
                self._free.release()
                self._outputs.append(output)
                ours.close()
                raise
            process = self._processes[number] = _Process(number, Channel(ours), output)
            return process

    async def _end(self, process: _Process, *, wait: bool) -> None:
        """The process ends now; where `wait`, it has ended when this returns."""
        if self._zygote is not None and not process.ended.done():
            with suppress(OSError):  # then the zygote has gone, and its processes with it
                self._zygote.kill(process.number)
            if wait:
                await process.ended_within(END_S)
        process.close()

    def _on_ended(self, number: int, ended: Ended) -> None:
        process = self._processes.pop(number, None)
        if process is not None:
            process.take_output()
            self._outputs.append(process.output)
            self._free.release()
            process.ended.set_result(ended)

    def _forget(self) -> None:
        """The processes of a zygote that has gone, which may live on for a moment."""
        for process in self._processes.values():
            process.hang_up()
            process.output.close()
            process.ended.set_result(None)
            self._free.release()
        self._processes.clear()
        while self._warm:
            self._warm.pop().close()


class _Process:
    """One process, for one request."""

    def __init__(self, number: int, channel: Channel, output: IO[bytes]) -> None:
        self.number = number
        self.output = output
        self.printed = ""
        self.ended: asyncio.Future[Ended | None] = asyncio.get_running_loop().create_future()
        self.ready = asyncio.ensure_future(channel.receive(FRAME_BYTES_MAX))
        self._channel = channel

    async def ask(self, request: Request) -> Any:
        """What it answers. Raises: EffectFailed, TooLong, ValueError, asyncio.IncompleteReadError, OSError."""
        self._said(await self.ready, "ready")
        await self._channel.send({**request.message, "bytes_max": request.bytes_max})
        for _ in range(ASKS_MAX + 1):
            told = await self._channel.receive(request.bytes_max + _OVERHEAD)
            if not isinstance(told, dict) or "ask" not in told:
                return self._said(told, "answer")
            kind, asked = told["ask"], told.get("request")
            if not isinstance(kind, str) or not isinstance(asked, dict):
                raise ValueError("no request")
            # who asks and does not listen waits for the deadline
            await self._channel.send(await request.answer(kind, asked))
            await asyncio.sleep(0)  # what is there to be read already would keep all others waiting
        raise EffectFailed("sandbox.limit", f"it asked for more than {ASKS_MAX} things")

    def _said(self, told: Any, key: str) -> Any:
        """The value under `key`. Raises: EffectFailed where it tells of an error; ValueError."""
        if isinstance(told, dict) and key in told:
            return told[key]
        raise faults.of_message(told)

    async def ended_within(self, seconds: float) -> Ended | None:
        """How it ended, or None where nobody knows."""
        await asyncio.wait({self.ended}, timeout=seconds)
        return self.ended.result() if self.ended.done() else None

    def hang_up(self) -> None:
        """Whoever waits for it hears that it has gone."""
        self._channel.hang_up()

    def take_output(self) -> None:
        """Keep the end of what it printed, and leave none for the next process. Only when it has ended."""
        size = os.fstat(self.output.fileno()).st_size
        if size:
            start = max(0, size - faults.OUTPUT_BYTES_MAX)
            self.printed = faults.printed(os.pread(self.output.fileno(), faults.OUTPUT_BYTES_MAX, start))
            self.output.truncate(0)
        self.output.seek(0)

    def close(self) -> None:
        """Hold its channel no more, as soon as nobody waits at it."""
        self.ready.cancel()
        self.ready.add_done_callback(self._closed)

    def _closed(self, ready: asyncio.Task[Any]) -> None:
        if not ready.cancelled():
            ready.exception()  # which the call was told, if there was one
        self._channel.close()
