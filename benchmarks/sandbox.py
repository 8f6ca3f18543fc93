"""What it costs to run a function that does nothing in a process of its own, locked in; beside a bare fork."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

from benchmarks.figures import Better, Measure, Options, Samples
from remit.adapters.sandbox.pool import Request, SandboxPool, nothing_granted
from remit.adapters.sandbox.settings import SandboxSettings
from remit.core.errors import RemitError
from remit.runtime.clock import SystemClock

SOURCE = '''
from remit.tools import tool


@tool(effect="pure")
def noop(number: int) -> int:
    """Nothing."""
    return number
'''
FORKS = """
import os, sys, time
times = []
for _ in range(int(sys.argv[1])):
    began = time.perf_counter()
    process = os.fork()
    if process == 0:
        os._exit(0)
    os.waitpid(process, 0)
    times.append(time.perf_counter() - began)
print(sorted(times)[len(times) // 2] * 1e3)
"""
AT_ONCE = 4


def measure(options: Options) -> list[Measure]:
    """Calls one after another and several at once, at the best level that this machine gives."""
    found = Samples()
    level = "none"
    try:
        for _ in range(options.pick(3, 7)):
            level, figures = asyncio.run(_calls(options.pick(150, 500)))
            found.add(**figures, fork_ms=_fork_ms(options.pick(100, 300)))
    except RemitError as error:
        return [
            Measure(
                topic="sandbox", name="a call", unit="ms", samples=(), limited_by="", problem=error.message
            )
        ]
    floor = found.median("fork_ms") or 0.0
    what = f"{level}; fork, Landlock, seccomp, and the faults of copied pages"
    cores = len(os.sched_getaffinity(0))
    rows: tuple[tuple[str, str, str, Better, float, float], ...] = (
        ("p50_ms", "a call that does nothing, p50", "ms", "less", floor, 3.0),
        ("p99_ms", "the same, p99", "ms", "less", floor, 8.0),
        ("rate", f"calls, {AT_ONCE} at once", "calls/s", "more", 1e3 * cores / floor, 300.0),
    )
    return [
        Measure(
            topic="sandbox",
            name=name,
            unit=unit,
            samples=found.of(key),
            better=better,
            floor=least,
            target=target,
            limited_by=what,
        )
        for key, name, unit, better, least, target in rows
    ]


async def _calls(count: int) -> tuple[str, dict[str, float]]:
    settings = SandboxSettings(name="bench", sources={"tools.py": SOURCE}, warm=4)
    pool = SandboxPool(settings, SystemClock())
    try:
        level = await pool.start()
        for _ in range(20):
            await _call(pool)
        times = sorted([await _timed(pool) for _ in range(count)])
        began = time.perf_counter()
        await asyncio.gather(*(_some(pool, count // AT_ONCE) for _ in range(AT_ONCE)))
        rate = count // AT_ONCE * AT_ONCE / (time.perf_counter() - began)
        p50, p99 = times[count // 2] * 1e3, times[count * 99 // 100] * 1e3
        return level, {"p50_ms": p50, "p99_ms": p99, "rate": rate}
    finally:
        await pool.close()


async def _some(pool: SandboxPool, count: int) -> None:
    for _ in range(count):
        await _call(pool)


async def _timed(pool: SandboxPool) -> float:
    began = time.perf_counter()
    await _call(pool)
    return time.perf_counter() - began


async def _call(pool: SandboxPool) -> None:
    message = {"tool": "noop", "args": {"number": 1}, "context": {"idempotency_key": "k", "uses": []}}
    await pool.ask(Request(message=message, timeout_s=10.0, bytes_max=1_000, answer=nothing_granted))


def _fork_ms(count: int) -> float:
    """A fork of a small Python, which ends at once: the least that a process for each call can cost."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", FORKS, str(count)], capture_output=True, check=True
    )
    return float(done.stdout)
