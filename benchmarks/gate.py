"""What a governed call costs beside the tool itself: the gate around a tool that does nothing.

Everything is real: rules, journal (every commit synced), trace store, metrics, log, audit records. Its floor
is measured in turn with it: the same number of synced group commits with one INSERT each.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Measure, Options, Samples, percentile
from benchmarks.floor import CommitFloor
from benchmarks.lateness import Ticker
from benchmarks.parts import (
    JOURNAL,
    LOG,
    PRINCIPAL,
    TRACES,
    Parts,
    PartsOptions,
    no_op,
    open_parts,
    sizes,
    tool,
)
from remit.core.actions import Place, tool_call
from remit.core.outcomes import Done
from remit.governance.gate import GovernedRun

CONCURRENT = 64
CALLS_PER_STEP = 64
Call = Callable[[int, int], Awaitable[None]]
"""Performs the call of the given number within the run of the given number."""

LOOKUPS = "  rate_limits: {max_lookups_per_hour: 10000000}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A kind of call: plain, or with a rate window and money held at two scopes."""

    key: str
    label: str
    options: PartsOptions


PLAIN = Variant(key="plain", label="no-op tool", options=PartsOptions(tools=[(tool("noop"), no_op)]))
PRICED = Variant(
    key="priced",
    label="priced, rate-limited tool",
    options=PartsOptions(
        tools=[(tool("noop", rate_group="lookups", price_nano_usd=1000), no_op)], limits=LOOKUPS
    ),
)


def measure(options: Options) -> list[Measure]:
    """One call at a time, and 64 runs at once; each beside its floor."""
    found = asyncio.run(_measure(options))
    return [*_one_at_a_time(found), *_concurrent(found), *_on_disk(found)]


async def _measure(options: Options) -> Samples:
    found = Samples()
    for variant in (PLAIN, PRICED):
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            calls = 0
            async with open_parts(folder, variant.options) as parts:
                runs = [await parts.begin() for _ in range(CONCURRENT)]
            before = sizes(folder)
            async with open_parts(folder, variant.options) as parts, _floor(folder) as floor:
                call = _governed(parts, runs)
                for repetition in range(options.pick(2, 5)):
                    calls += await _repeat(found, variant, options, (call, floor, repetition * 1_000_000))
                    await _settle(parts)
            # sizes are those of closed files, so no write-ahead log is in them
            grown = {file: size - before[file] for file, size in sizes(folder).items()}
            found.add(**{f"{variant.key}_bytes_{file}": size / calls for file, size in grown.items()})
    return found


async def _repeat(found: Samples, variant: Variant, options: Options, part: tuple[Call, Call, int]) -> int:
    """One repetition of gate and floor in turn; how many governed calls there were."""
    call, floor, first = part
    alone, together = options.pick(200, 600), options.pick(2_000, 10_000)
    for key, one in ((f"{variant.key}_floor", floor), (variant.key, call)):
        for warming in range(20):
            await one(0, first + warming)
        gc.collect()
        taken_ms = await _alone_ms(one, first + 20, alone)
        found.add(**{f"{key}_p50": percentile(taken_ms, 0.5), f"{key}_p99": percentile(taken_ms, 0.99)})
        gc.collect()
        found.add(
            **{f"{key}_{name}": figure for name, figure in (await _together(one, first, together)).items()}
        )
    return 20 + alone + together


async def _alone_ms(call: Call, first: int, count: int) -> list[float]:
    taken = []
    for number in range(first, first + count):
        began = time.perf_counter_ns()
        await call(0, number)
        taken.append((time.perf_counter_ns() - began) / 1e6)
    return taken


async def _together(call: Call, first: int, count: int) -> dict[str, float]:
    """`count` calls by 64 tasks: calls/s, CPU microseconds a call, latency, lateness of the event loop."""
    taken: list[int] = []
    now = time.perf_counter_ns

    async def work(run: int, numbers: Iterator[int]) -> None:
        for number in numbers:
            began = now()
            await call(run, number)
            taken.append(now() - began)

    start = first + 500_000
    numbers = iter(range(start, start + count))
    async with Ticker() as ticker:
        began, cpu_began = now(), time.process_time_ns()
        await asyncio.gather(*(work(run, numbers) for run in range(CONCURRENT)))
        wall_ns, cpu_ns = now() - began, time.process_time_ns() - cpu_began
    return {
        "rate": count / wall_ns * 1e9,
        "cpu_us": cpu_ns / 1e3 / count,
        "together_p50": percentile(taken, 0.5) / 1e6,
        "together_p99": percentile(taken, 0.99) / 1e6,
        "lag_ms": percentile(ticker.late_ms, 0.99),
    }


def _governed(parts: Parts, runs: list[GovernedRun]) -> Call:
    perform = parts.gate.perform

    async def call(run: int, number: int) -> None:
        governed = runs[run]
        step, place = divmod(number, CALLS_PER_STEP)
        # steps end at the remit's maximum, so a place's name is what tells calls apart
        at = Place(
            run_id=governed.run.id, step=step % 9_000 + 1, name=f"t{number}.{place}", principal=PRINCIPAL
        )
        outcome = await perform(tool_call(at, "noop", "call-0", {"order_id": "o-4711"}), governed)
        assert isinstance(outcome, Done), outcome

    return call


@asynccontextmanager
async def _floor(folder: Path) -> AsyncIterator[Call]:
    with CommitFloor(folder / "floor.db") as floor:

        async def call(run: int, number: int) -> None:
            await floor.call()

        yield call


async def _settle(parts: Parts) -> None:
    """Let the writers of traces and log catch up, so that the next repetition does not pay for this one."""
    await parts.clock.sleep(0.3)


def _one_at_a_time(found: Samples) -> list[Measure]:
    waiting = "two synced commits, each with two changes of thread"
    return [
        Measure(
            topic="gate",
            name=f"{variant.label}, one at a time, {share}",
            unit="ms",
            samples=found.of(f"{variant.key}_{share}"),
            floor=found.median(f"{variant.key}_floor_{share}"),
            target=target,
            limited_by=waiting if share == "p50" else "the slowest syncs of the disk",
        )
        for variant in (PLAIN, PRICED)
        for share, target in (("p50", 0.8), ("p99", 2.0))
    ]


def _concurrent(found: Samples) -> list[Measure]:
    measures = []
    for variant in (PLAIN, PRICED):
        rows = (
            ("rate", "calls/s", "more", 6_000.0, "one interpreter lock: gate, SQL and telemetry share it"),
            ("cpu_us", "us CPU", "less", 130.0, "Python: gate and admission, SQL, span row, log line"),
            (
                "lag_ms",
                "ms",
                "less",
                5.0,
                "one turn of the loop wakes a whole batch, the writer holds the lock",
            ),
            ("together_p50", "ms", "less", None, "the queue of 64: rate times 64"),
            (
                "together_p99",
                "ms",
                "less",
                None,
                "collections of garbage, checkpoints of the write-ahead log",
            ),
        )
        for key, unit, better, target, limited_by in rows:
            name = {"rate": "rate", "cpu_us": "CPU a call", "lag_ms": "loop lag p99"}.get(key, key[-3:])
            measures.append(
                Measure(
                    topic="gate",
                    name=f"{variant.label}, {CONCURRENT} runs, {name}",
                    unit=unit,
                    samples=found.of(f"{variant.key}_{key}"),
                    floor=found.median(f"{variant.key}_floor_{key}"),
                    better="more" if better == "more" else "less",
                    target=target,
                    limited_by=limited_by,
                )
            )
    return measures


def _on_disk(found: Samples) -> list[Measure]:
    rows = (
        (JOURNAL, "journal", 2048.0, "two audit records, the call's row, its result"),
        (TRACES, "traces", None, "one span a call"),
        (LOG, "log", None, "one line of JSON a call"),
    )
    return [
        Measure(
            topic="gate",
            name=f"{variant.label}, {label}, on disk",
            unit="bytes/call",
            samples=found.of(f"{variant.key}_bytes_{file}"),
            target=target,
            limited_by=limited_by,
        )
        for variant in (PLAIN, PRICED)
        for file, label, target, limited_by in rows
    ]
