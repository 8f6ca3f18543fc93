"""Our side of a zygote: starts it, has it fork processes, hears who has ended.

What it could not be is an error that says why: `start` tries no less than it is asked for.
"""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import remit
from remit.adapters.sandbox.channel import Channel, TooLong
from remit.adapters.sandbox.inside import wire
from remit.adapters.sandbox.settings import SandboxSettings
from remit.core.errors import RemitError
from remit.core.tools import ISOLATION_LEVELS, Isolation

START_S = 20.0
END_S = 5.0
FRAME_BYTES_MAX = 1 << 20
_MAIN = "import sys; sys.path.insert(0, sys.argv[1]); from remit.adapters.sandbox.inside.zygote import main; main()"


class Ended(NamedTuple):
    """How a process ended: its exit code, or minus the signal; CPU time and the most memory that it used."""

    code: int
    cpu_ms: int
    memory_kb: int


OnEnded: TypeAlias = Callable[[int, Ended], None]


class Zygote:
    """A zygote that is up. `level` is what it is, `causes` say why it is none of the better ones."""

    def __init__(
        self, process: Process, control: Channel, level: Isolation, hearing: asyncio.Task[None]
    ) -> None:
        self._process = process
        self._control = control
        self.level = level
        self.causes: tuple[str, ...] = ()
        self._hearing = hearing

    @classmethod
    async def start(
        cls, settings: SandboxSettings, level: Isolation, cells: Sequence[str], on_ended: OnEnded
    ) -> Zygote:
        """Start one at `level`, with a cell of each name for its processes. Raises: RemitError `sandbox.unavailable`."""
        ours, theirs = socket.socketpair()
        try:
            os.set_inheritable(theirs.fileno(), True)
            process = await _start(settings, theirs)
        except RemitError:
            ours.close()
            raise
        finally:
            theirs.close()
        control = Channel(ours)
        cause = ""
        try:
            async with asyncio.timeout(START_S):
                await control.send(_setup(settings, level, cells))
                answer = await control.receive(FRAME_BYTES_MAX)
                cause = str(answer.get("failed", ""))[:500]
        except (TimeoutError, asyncio.IncompleteReadError, OSError, ValueError, TooLong) as error:
            cause = f"its first process ended: {type(error).__name__}"
        self = cls(process, control, level, asyncio.create_task(_hear(control, on_ended)))
        if cause:
            await self.close()
            raise _unavailable(level, cause)
        return self

    @property
    def has_gone(self) -> bool:
        """Whether it has ended, by whatever way, and all its processes with it."""
        return self._hearing.done()

    def when_gone(self, then: Callable[[], None]) -> None:
        """Call `then` as soon as it has."""
        self._hearing.add_done_callback(lambda _: then())

    def spawn(self, number: int, channel: int, output: int) -> None:
        """Fork a process with these descriptors. Raises: OSError where the zygote has gone or cannot keep up."""
        self._control.tell(wire.CONTROL.pack(wire.SPAWN, number), (channel, output))

    def kill(self, number: int) -> None:
        """Kill a process, which `on_ended` then tells of. Raises: OSError, as `spawn`."""
        self._control.tell(wire.CONTROL.pack(wire.KILL, number))

    async def close(self) -> None:
        """End it and all its processes, and wait until they have ended."""
        self._control.hang_up()
        try:
            async with asyncio.timeout(END_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._hearing


async def _hear(control: Channel, on_ended: OnEnded) -> None:
    """Tell of everyone who has ended, as long as the zygote lives."""
    try:
        while True:
            told = await control.receive(FRAME_BYTES_MAX)
            on_ended(told["ended"], Ended(told["code"], told["cpu_ms"], told["memory_kb"]))
    except (asyncio.IncompleteReadError, OSError):
        return
    finally:
        control.close()


async def start_best(settings: SandboxSettings, cells: Sequence[str], on_ended: OnEnded) -> Zygote:
    """The most isolated one that this machine gives, and none below what the settings ask for.

    Raises: RemitError `sandbox.unavailable`, with the reason of each level that was tried.
    """
    causes: list[str] = []
    least = settings.exactly or settings.isolation
    most = ISOLATION_LEVELS.index(settings.exactly or ISOLATION_LEVELS[-1])
    for level in reversed(ISOLATION_LEVELS[max(ISOLATION_LEVELS.index(least), 1) : most + 1]):
        try:
            zygote = await Zygote.start(settings, level, cells, on_ended)
            zygote.causes = tuple(causes)
            return zygote
        except RemitError as error:
            causes.append(f"{level}: {error.cause}")
    raise RemitError(
        "sandbox.unavailable",
        f"this machine gives no sandbox of the level {least}, which {settings.name} requires",
        cause="; ".join(causes),
    )


async def _start(settings: SandboxSettings, control: socket.socket) -> Process:
    python = settings.python
    root = str(Path(remit.__file__).parents[1])
    inherited = control.fileno()
    try:
        return await asyncio.create_subprocess_exec(
            *(python, "-I", "-S", "-B", "-c", _MAIN, root, str(inherited)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
            pass_fds=(inherited,),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise _unavailable(settings.isolation, f"{python}: {error.strerror}") from error


def _setup(settings: SandboxSettings, level: Isolation, cells: Sequence[str]) -> Mapping[str, Any]:
    return {
        "level": level,
        "sources": dict(settings.sources),
        "venv": str(settings.venv.resolve()) if settings.venv is not None else "",
        "readable": [str(path.resolve()) for path in settings.readable],
        "limits": asdict(settings.limits),
        "cells": cells,
    }


def _unavailable(level: Isolation, cause: str) -> RemitError:
    return RemitError(
        "sandbox.unavailable", f"this machine gives no sandbox of the level {level}", cause=cause
    )
