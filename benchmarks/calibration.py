"""What this machine does at this moment: figures of different machines and hours are compared through it."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Measure, Options, Samples, percentile

LOOP_STEPS = 500_000
SWITCHES = 20_000
ROW = b"x" * 400
STEPS = 2_000

REFERENCE_US = {"asyncio.timeout, unused": 4.2, "future, set and awaited": 3.8, "uuid4": 2.3}
"""What these took on the machine that the targets of speed were taken from: two shared cores, in its fast hours."""


def measure(options: Options) -> list[Measure]:
    """A fixed loop of pure Python, one synced SQLite commit, one switch between two asyncio tasks."""
    found = Samples()
    for _ in range(options.pick(3, 7)):
        commits_us = _commits_us(options, options.pick(150, 400))
        found.add(
            loop_ms=_loop_ms(),
            commit_us=percentile(commits_us, 0.5),
            commit_p99_us=percentile(commits_us, 0.99),
            switch_us=asyncio.run(_switch_us()),
        )
        found.add(**asyncio.run(_reference_us()))
    return [
        _measure(found, "loop_ms", f"pure Python, {LOOP_STEPS:,} additions", "ms", "the processor"),
        _measure(found, "commit_us", "SQLite commit, synced, p50", "us", "the disk's sync"),
        _measure(found, "commit_p99_us", "SQLite commit, synced, p99", "us", "the disk's sync"),
        _measure(found, "switch_us", "asyncio, one task switch", "us", "the event loop"),
        *(
            _measure(found, name, name, "us", f"Python; {reference} us on the machine of the targets")
            for name, reference in REFERENCE_US.items()
        ),
    ]


def slowness(measures: Sequence[Measure]) -> float:
    """How many times longer Python takes here and now than on the machine of the targets; 1 if not measured."""
    ratios = [
        one.median / REFERENCE_US[one.name]
        for one in measures
        if one.name in REFERENCE_US and one.median is not None
    ]
    return statistics.median(ratios) if ratios else 1.0


def _measure(found: Samples, key: str, name: str, unit: str, limited_by: str) -> Measure:
    return Measure(topic="calibration", name=name, unit=unit, samples=found.of(key), limited_by=limited_by)


def _loop_ms() -> float:
    began = time.perf_counter_ns()
    total = 0
    for number in range(LOOP_STEPS):
        total += number & 7
    assert total > 0
    return (time.perf_counter_ns() - began) / 1e6


def _commits_us(options: Options, count: int) -> list[float]:
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        connection = sqlite3.connect(Path(folder) / "floor.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE row (seq INTEGER PRIMARY KEY, body BLOB)")
        taken = []
        for _ in range(count):
            began = time.perf_counter_ns()
            connection.execute("INSERT INTO row (body) VALUES (?)", (ROW,))
            taken.append((time.perf_counter_ns() - began) / 1e3)
        connection.close()
    return taken


async def _switch_us() -> float:
    async def switch() -> None:
        for _ in range(SWITCHES // 2):
            await asyncio.sleep(0)

    began = time.perf_counter_ns()
    await asyncio.gather(switch(), switch())
    return (time.perf_counter_ns() - began) / 1e3 / SWITCHES


async def _reference_us() -> dict[str, float]:
    loop = asyncio.get_running_loop()

    async def bounded() -> None:
        async with asyncio.timeout(30):
            pass

    async def awaited() -> None:
        future: asyncio.Future[None] = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future

    async def named() -> None:
        uuid.uuid4()

    taken = {}
    for name, step in zip(REFERENCE_US, (bounded, awaited, named), strict=True):
        began = time.perf_counter_ns()
        for _ in range(STEPS):
            await step()
        taken[name] = (time.perf_counter_ns() - began) / 1e3 / STEPS
    return taken
