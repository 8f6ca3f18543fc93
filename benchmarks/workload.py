"""The job that every system does, and how it is timed. Standard library only: peers have nothing else of ours.

The job: a task; five turns in which the model asks for one tool call; a sixth in which it answers. The model
is instant. A system is a module with `async open_system(folder, pace, database) -> System`: it keeps what must last in
the empty PostgreSQL database of that URL, or in SQLite in the folder where there is none.

`python -m benchmarks.workload MODULE PLAN [DATABASE]` prints one JSON object, where PLAN is JSON such as
`{"seq": 50, "conc": 400, "lag": 200}` or `{"park": 1000}`: the runs of each mode.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from benchmarks.lateness import Ticker

TOOL_CALLS = 5
TASK = "Look up the order status five times and summarise it."
INSTRUCTIONS = "You look up orders. Use the tool for each of them, then give one short summary. " * 3
ANSWER = "All five orders have been shipped."
CONCURRENT = 100
MODEL_LATENCY_S = 0.05
WARMING_RUNS = 10


class Pace:
    """How long the model takes: no time at all, a turn of the loop, a latency, or until it is released."""

    def __init__(self) -> None:
        self.latency_s: float | None = None
        self.parked: asyncio.Event | None = None
        self.waiting = 0
        self.model_calls = 0
        self.tool_calls = 0

    async def model_turn(self, turn: int) -> None:
        """The model thinks; `turn` counts from 0, and the last one can be held."""
        self.model_calls += 1
        if self.parked is not None and turn >= TOOL_CALLS:
            self.waiting += 1
            await self.parked.wait()
        elif self.latency_s is not None:
            await asyncio.sleep(self.latency_s)

    def look_up(self, order_id: str) -> dict[str, str | int]:
        """The tool's work."""
        self.tool_calls += 1
        return {"order_id": order_id, "status": "shipped", "n": 3}


class System(Protocol):
    """Something that does the job."""

    async def run(self, name: str) -> str:
        """Do the job once and return the answer."""
        ...

    async def close(self) -> None:
        """Let go of all files, completely written."""
        ...


def resident_kb() -> float:
    """The resident memory of this process; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return next(float(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def _alone(system: System, pace: Pace, runs: int) -> dict[str, float]:
    pace.latency_s = None
    gc.collect()
    began, cpu_began = time.perf_counter(), time.process_time()
    for number in range(runs):
        await system.run(f"alone-{number}")
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    return {"ms_run": wall_s / runs * 1e3, "cpu_ms_run": cpu_s / runs * 1e3}


async def _together(system: System, pace: Pace, runs: int, latency_s: float) -> dict[str, float]:
    pace.latency_s = latency_s
    gc.collect()

    async def work(worker: int, numbers: Iterator[int]) -> None:
        for number in numbers:
            await system.run(f"together-{latency_s}-{worker}-{number}")

    numbers = iter(range(runs))
    async with Ticker() as ticker:
        began, cpu_began = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work(worker, numbers) for worker in range(CONCURRENT)))
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    late = sorted(ticker.late_ms)
    return {
        "runs_s": runs / wall_s,
        "cpu_ms_run_100": cpu_s / runs * 1e3,
        "lag_p99_ms": late[min(len(late) - 1, int(len(late) * 0.99))],
    }


async def _park(system: System, pace: Pace, runs: int) -> dict[str, float]:
    gc.collect()
    before = resident_kb()
    pace.parked, pace.latency_s, pace.waiting = asyncio.Event(), 0.0, 0
    tasks = [asyncio.create_task(system.run(f"parked-{number}")) for number in range(runs)]
    while pace.waiting < runs:
        await asyncio.sleep(0.05)
        for task in tasks:
            if task.done():
                raise RuntimeError(f"a run ended before it was released: {task.result()!r}")
    await asyncio.sleep(0.3)  # writers of telemetry empty their queues, which are no part of a waiting run
    gc.collect()
    after = resident_kb()
    pace.parked.set()
    await asyncio.gather(*tasks)
    return {"kb_parked": (after - before) / runs} if before else {}


async def measure(
    module: str, plan: dict[str, int], folder: Path, database: str | None = None
) -> dict[str, float]:
    """The figures of the plan's modes, by name."""
    began = time.perf_counter()
    opened = importlib.import_module(module).open_system
    figures: dict[str, float] = {"import_s": time.perf_counter() - began}
    pace = Pace()
    system: System = await opened(folder, pace, database)
    runs = 0
    for number in range(WARMING_RUNS):
        answer = await system.run(f"warming-{number}")
        assert answer == ANSWER, answer
    assert (pace.model_calls, pace.tool_calls) == (WARMING_RUNS * 6, WARMING_RUNS * 5)
    for mode, count in plan.items():
        if mode == "seq":
            figures |= await _alone(system, pace, count)
        elif mode == "conc":
            found = await _together(system, pace, count, 0.0)
            figures |= {key: found[key] for key in ("runs_s", "cpu_ms_run_100")}
        elif mode == "lag":
            figures["lag_p99_ms"] = (await _together(system, pace, count, MODEL_LATENCY_S))["lag_p99_ms"]
        else:
            figures |= await _park(system, pace, count)
        runs += count
    await system.close()
    total = sum(path.stat().st_size for path in folder.rglob("*.db*"))
    figures["db_bytes_run"] = total / (runs + WARMING_RUNS)
    figures["rss_mb"] = resident_kb() / 1024
    return figures


def main() -> None:
    """Measure in a process of its own, so that systems share neither memory nor modules."""
    module, plan, *database = sys.argv[1:]
    with tempfile.TemporaryDirectory(dir=os.environ.get("REMIT_BENCH_FOLDER")) as folder:
        print(json.dumps(asyncio.run(measure(module, json.loads(plan), Path(folder), *database))))


if __name__ == "__main__":
    main()
