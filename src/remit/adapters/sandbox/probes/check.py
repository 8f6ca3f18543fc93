"""Makes every attempt in a sandbox, and says which were stopped and by what.

What is planted for them to find is real: a file that everybody may read, sockets that listen, processes that live. An
attempt that breaks counts as open: only one that was refused, or ended by us as it should be, is closed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from remit.adapters.sandbox.inside.limits import Limits
from remit.adapters.sandbox.pool import Request, SandboxPool, nothing_granted
from remit.adapters.sandbox.probes import table
from remit.adapters.sandbox.settings import SandboxSettings
from remit.core.tools import Isolation
from remit.ports.effects import EffectFailed
from remit.ports.services import Clock

DEADLINE_S = 15.0
SHORT_S = 0.4
SPIN_S = 5.0
RESULT_BYTES_MAX = 100_000

_HERE = Path(__file__).parent
_TOOL = '''
from typing import Any

from remit.adapters.sandbox.probes.attempts import Stopped
from remit.adapters.sandbox.probes.table import attempt
from remit.tools import tool


@tool
def probe(name: str, world: dict[str, Any]) -> dict[str, str]:
    """Make an attempt."""
    try:
        return {"reached": attempt(name, world)}
    except Stopped as stopped:
        return {"by": str(stopped)}
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """One attempt: what was tried, whether it is closed, and by what, or what it reached."""

    name: str
    tried: str
    closed: bool
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheck:
    """The level at which the attempts were made, and what became of each."""

    isolation: Isolation
    probed: tuple[Probed, ...]


def probing(settings: SandboxSettings) -> SandboxSettings:
    """`settings` with the attempts in the place of its sources."""
    texts = {f"remit/adapters/sandbox/probes/{one}.py": (_HERE / f"{one}.py").read_text() for one in _MODULES}
    return replace(
        settings,
        sources={**texts, "probes.py": _TOOL},
        limits=Limits(memory_mb=256, cpu_s=5, work_mb=16),
        warm=1,
        processes_max=4,
    )


_MODULES = ("__init__", "attempts", "table")


async def check_sandbox(settings: SandboxSettings, clock: Clock) -> SelfCheck:
    """Make every attempt in the sandbox of `settings`. Raises: RemitError `sandbox.unavailable`."""
    pool = SandboxPool(probing(settings), clock)
    try:
        isolation = await pool.start()
        async with planted(settings.python) as world:
            together = [name for name, one in table.attempts().items() if not one.ends]
            found = await asyncio.gather(*(_probed(pool, name, world) for name in together))
            # a bomb, and what has to do with time, goes alone: processes of one user share its limits
            found += [await _probed(pool, name, world) for name in table.attempts() if name not in together]
            return SelfCheck(isolation=isolation, probed=tuple(found))
    finally:
        await pool.close()


async def _probed(pool: SandboxPool, name: str, world: dict[str, Any]) -> Probed:
    one = table.attempts()[name]
    request = Request(
        message={
            "tool": "probe",
            "args": {"name": name, "world": world},
            "context": {"idempotency_key": "probe", "uses": []},
        },
        timeout_s=SHORT_S if one.ends == table.TIMEOUT else DEADLINE_S,
        bytes_max=RESULT_BYTES_MAX,
        answer=nothing_granted,
    )
    for _ in range(BEGIN_MAX):
        try:
            told = await pool.ask(request)
        except EffectFailed as error:
            told = error.message
            if error.code == "tool.failed" and error.retryable:
                # no process for it: what bombs have left of the user's limit is not back yet
                await asyncio.sleep(BEGIN_PAUSE_S)
                continue
            return Probed(name=name, tried=one.tried, closed=error.code in one.ends, by=error.message)
        break
    if isinstance(told, dict) and isinstance(told.get("by"), str):
        return Probed(name=name, tried=one.tried, closed=True, by=told["by"])
    return Probed(name=name, tried=one.tried, closed=False, by=str(told)[:200])


_SIBLING = "import time; print('up', flush=True); time.sleep(60)"
BEGIN_MAX = 5
BEGIN_PAUSE_S = 0.3


@asynccontextmanager
async def planted(python: str) -> AsyncIterator[dict[str, Any]]:
    """What attempts look for outside: a file, sockets that listen, a folder of another call, and a process.

    That one is `python`'s, so of the user who the sandbox's processes are where they cannot be somebody else.
    """
    with ExitStack() as stack:
        world = _plant(stack)
        sibling = await asyncio.create_subprocess_exec(
            *(python, "-I", "-S", "-c", _SIBLING), stdout=asyncio.subprocess.PIPE
        )
        try:
            if sibling.stdout is not None:
                await sibling.stdout.readline()
            yield {**world, "spin_s": SPIN_S, "parent": os.getpid(), "sibling": sibling.pid}
        finally:
            sibling.kill()
            await sibling.wait()


def _plant(stack: ExitStack) -> dict[str, Any]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="remit-probe-")))
    folder.chmod(0o755)
    secret, work = folder / "secret", folder / "work"
    secret.write_text("planted for the sandbox to find")
    secret.chmod(0o644)
    work.mkdir(mode=0o755)
    path, abstract = str(folder / "socket"), f"remit-probe-{folder.name}"
    for address in (path, "\0" + abstract):
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(address)
        listener.listen()
    Path(path).chmod(0o777)
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    port = listener.getsockname()[1]
    return {"secret": str(secret), "work": str(work), "unix": path, "abstract": abstract, "port": port}
