"""What this machine does at this moment: figures of different machines and hours are compared through it."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Measure, Options, Samples, percentile

LOOP_STEPS = 500_000
SWITCHES = 20_000
ROW = b"x" * 400


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
    return [
        _measure(found, "loop_ms", f"pure Python, {LOOP_STEPS:,} additions", "ms", "the processor"),
        _measure(found, "commit_us", "SQLite commit, synced, p50", "us", "the disk's sync"),
        _measure(found, "commit_p99_us", "SQLite commit, synced, p99", "us", "the disk's sync"),
        _measure(found, "switch_us", "asyncio, one task switch", "us", "the event loop"),
    ]


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
