"""An MCP server as a child process: lines of JSON over its input and output, no longer than they may be.

It gets no environment but what is named, and a process group of its own, which ends with it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import mcp_types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage

END_S = 2.0
NO_SANDBOX = 126
"""The exit code of a program that was not begun, because it could not be locked in."""


class ServerEnded(OSError):
    """A program has ended by itself, or was ended because it said too much at once."""


class NoSandbox(OSError):
    """A program was not begun, because it could not be locked in."""


@asynccontextmanager
async def stdio(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, bytes_max: int
) -> AsyncIterator[TransportStreams]:
    """The streams of a server that was started, and is ended. Raises: OSError where it cannot be started."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # it may say anything, and of anybody's data
        env=dict(environment),
        cwd=folder,
        limit=bytes_max,
        start_new_session=True,
    )
    told, heard = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    said, saying = anyio.create_memory_object_stream[SessionMessage](0)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_hear, process, told)
            tasks.start_soon(_say, process, saying)
            yield heard, said
            tasks.cancel_scope.cancel()
    finally:
        for stream in (told, heard, said, saying):
            stream.close()
        with anyio.CancelScope(shield=True):
            await _end(process)


async def _hear(
    process: asyncio.subprocess.Process, told: MemoryObjectSendStream[SessionMessage | Exception]
) -> None:
    assert process.stdout is not None
    with told:
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than it may be: nothing more of it is read
                _kill(process)
                raise ServerEnded("it said too much at once") from None
            if not line:
                if await process.wait() == NO_SANDBOX:
                    raise NoSandbox("this machine gives no sandbox for programs: see remit doctor --sandbox")
                # raised, so that whoever holds the connection knows before anything more is asked
                raise ServerEnded("it has ended")
            try:
                message = mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                continue  # not one of the protocol's: whatever it is, nobody waits for it
            try:
                await told.send(SessionMessage(message))
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                return


async def _say(
    process: asyncio.subprocess.Process, saying: MemoryObjectReceiveStream[SessionMessage]
) -> None:
    assert process.stdin is not None
    async for one in saying:
        line = one.message.model_dump_json(by_alias=True, exclude_unset=True)
        try:
            process.stdin.write(line.encode() + b"\n")
            await process.stdin.drain()
        except (ConnectionError, RuntimeError):
            return  # it has gone, and who waits for an answer hears that from its output


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):  # it has ended meanwhile
        os.killpg(process.pid, signal.SIGKILL)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Its input ends, and so should it; what is left of its group after a while is killed."""
    if process.stdin is not None:
        process.stdin.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(END_S):
            await process.wait()
    _kill(process)
    await process.wait()
