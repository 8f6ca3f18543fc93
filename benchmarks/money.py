"""Reserving and settling at the journal: pairs a second at three scopes, and what the money adds to a pair.

A pair is what every governed call commits, `admit` and `complete`, straight at the journal; the floor is the
same number of synced group commits of one INSERT each.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from benchmarks.figures import Measure, Options, Samples, percentile
from benchmarks.floor import CommitFloor
from remit.adapters.journal.sqlite import SqliteJournal
from remit.core.actions import Principal, TaskSource
from remit.core.messages import Usage
from remit.core.runs import Run
from remit.ports.journal import Admission, Admitted, Completion, Hold, Journal, Window
from remit.ports.runs import StartRun
from remit.runtime.clock import SystemClock

CONCURRENT = 64
HELD, COST, CAP = 30_000_000, 4_000_000, 10**15
RECORD = b"x" * 400
RUN = Run(
    id="r",
    tenant="t",
    agent="a",
    remit_digest="d" * 64,
    task=TaskSource(principal=Principal(kind="user", id="bench"), text="t", digest="0" * 64),
    trace_id="0" * 32,
    created_at_us=0,
    deadline_us=2**60,
)
SCOPES = tuple(
    Hold(scope=scope, cap_nano_usd=CAP, rule="rule", alert_percent=percent)
    for scope, percent in (("run:r", None), ("day:t/a/2026-01-01", 80), ("tenant:t/2026-01-01", 80))
)
USAGE = Usage(input_tokens=1000, output_tokens=100)
Pair = Callable[[int], Awaitable[None]]


def measure(options: Options) -> list[Measure]:
    """Pairs one at a time and 64 at once, with three scopes and with none, beside their floor, in turn."""
    found = asyncio.run(_measure(options))
    added = tuple(
        (held - free) * 1e3 for held, free in zip(found.of("held_p50"), found.of("free_p50"), strict=True)
    )
    floor_rate, floor_together = found.median("floor_rate"), found.median("floor_together")
    one_thread = "one writer thread: SQL of three scopes, twice"
    return [
        Measure(
            topic="money",
            name="reserve + settle, one at a time, p50",
            unit="ms",
            samples=found.of("held_p50"),
            floor=found.median("floor_p50"),
            target=0.5,
            limited_by="two synced commits",
        ),
        Measure(
            topic="money",
            name="added by the money of three scopes, p50",
            unit="us",
            samples=added,
            limited_by="SQL on three rows, twice",
        ),
        Measure(
            topic="money",
            name="reserve + settle, one at a time",
            unit="pairs/s",
            samples=found.of("held_rate"),
            floor=floor_rate,
            better="more",
            limited_by="two synced commits",
        ),
        Measure(
            topic="money",
            name=f"reserve + settle, {CONCURRENT} at once",
            unit="pairs/s",
            samples=found.of("held_together"),
            floor=floor_together,
            better="more",
            limited_by=one_thread,
        ),
    ]


async def _measure(options: Options) -> Samples:
    found, number = Samples(), 0
    alone, together = options.pick(200, 600), options.pick(2_000, 10_000)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        journal = SqliteJournal.open(Path(folder) / "remit.db", SystemClock())
        await journal.create_run(StartRun(run=RUN, audit=RECORD))
        await journal.begin_run(RUN.id, 1, 0)
        with CommitFloor(Path(folder) / "floor.db") as floor:
            pairs = {
                "floor": lambda _: floor.call(),
                "free": pair_of(journal, ()),
                "held": pair_of(journal, SCOPES),
            }
            for repetition in range(options.pick(3, 6)):
                for key, pair in pairs.items():
                    figures = await _alone(pair, number, alone)
                    figures["together"] = await _together(pair, number + alone, together)
                    number += alone + together
                    if repetition:  # the first warms the caches
                        found.add(**{f"{key}_{name}": figure for name, figure in figures.items()})
        balances = await journal.balances()
        await journal.close()
    # a pair that held nothing would be quick
    assert {one.scope for one in balances} == {hold.scope for hold in SCOPES}
    assert {(one.held_nano_usd, one.spent_nano_usd % COST) for one in balances} == {(0, 0)}
    return found


def pair_of(
    journal: Journal, holds: tuple[Hold, ...], windows: tuple[Window, ...] = (), effect_s: float | None = None
) -> Pair:
    """What admits and completes the call of a number, with an effect in between that takes so long."""

    async def pair(number: int) -> None:
        admission = Admission(
            action_id=f"r.1.m{number}",
            action_digest=f"{number:064}",
            run_id=RUN.id,
            remit_digest=RUN.remit_digest,
            kind="model",
            resource="m",
            at_us=number,
            control_scopes=("all", "agent:t/a", "model:m"),
            windows=windows,
            holds=holds,
            amount_nano_usd=HELD if holds else 0,
            approval_id=None,
            intent=RECORD,
            content=f"{number:064}",
            expires_at_us=2**60,
        )
        assert isinstance(await journal.admit(admission), Admitted)
        if effect_s is not None:
            await asyncio.sleep(effect_s)
        completion = Completion(
            action_id=admission.action_id,
            state="done",
            result=b"{}",
            usage=USAGE,
            cost_nano_usd=COST if holds else 0,
            at_us=number,
            outcome=RECORD,
        )
        await journal.complete(completion)

    return pair


async def _alone(pair: Pair, first: int, count: int) -> dict[str, float]:
    gc.collect()
    taken_ns = []
    for number in range(first, first + count):
        began = time.perf_counter_ns()
        await pair(number)
        taken_ns.append(time.perf_counter_ns() - began)
    return {"p50": percentile(taken_ns, 0.5) / 1e6, "rate": count / sum(taken_ns) * 1e9}


async def _together(pair: Pair, first: int, count: int) -> float:
    """Pairs a second by 64 tasks."""
    numbers = iter(range(first, first + count))

    async def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            await pair(number)

    gc.collect()
    began = time.perf_counter_ns()
    await asyncio.gather(*(work(numbers) for _ in range(CONCURRENT)))
    return count / (time.perf_counter_ns() - began) * 1e9
