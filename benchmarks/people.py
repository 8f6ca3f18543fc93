"""People and stops: what parked runs cost, and how long a decision, a pause or a cancellation takes to have effect.

Whoever decides has a journal of its own on the same file, as another process has.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Measure, Options
from remit.adapters.dispatch.dbos_dispatcher import DbosDispatcher, DbosOptions
from remit.adapters.journal.sqlite import SqliteJournal
from remit.core.actions import Principal
from remit.core.approvals import Approval, Vote
from remit.core.messages import ModelReply, ModelRequest, Text, ToolUse, Usage
from remit.core.runs import RunEnd
from remit.core.tools import ToolSpec
from remit.governance import records
from remit.governance.compiler import parse
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.remit import Remit
from remit.governance.rules import Rules
from remit.ports.effects import CallContext
from remit.ports.runs import RunEnding
from remit.ports.services import TextSink
from remit.runtime.clock import SystemClock
from remit.runtime.runner import Runner
from remit.runtime.worker import Worker, WorkerParts
from remit.testing.fakes import FixedPrices, FunctionTools, NoTelemetry

FILE = """agent:
  name: parked
  model: m
  max_concurrent_runs: 100
  allowed_tools: [pay, wait]
  approvals: [{tool: pay}]
  cost_controls: {max_daily_spend_usd: 100000, max_cost_per_run_usd: 100}
"""
_SCHEMA = {"type": "object", "properties": {}}
TOOLS = (
    ToolSpec(name="pay", description="p", args_schema=_SCHEMA),
    ToolSpec(name="wait", description="w", args_schema=_SCHEMA, effect="read"),
)
WHO = Principal(kind="user", id="u")


class OneCall:
    """A model that calls the tool that the task names, and then has done."""

    async def complete(self, request: ModelRequest, on_text: TextSink | None = None) -> ModelReply:
        usage = Usage(input_tokens=100, output_tokens=10)
        if len(request.messages) > 1:
            return ModelReply(parts=(Text(text="done"),), stop="end", usage=usage, model="m")
        task = request.messages[0].parts[0]
        name = task.text if isinstance(task, Text) else ""
        return ModelReply(
            parts=(ToolUse(id="c", name=name, args={}),), stop="tool_use", usage=usage, model="m"
        )


@dataclass(slots=True)
class _World:
    """A worker, the journal of somebody else, and when things happened."""

    runner: Runner
    remit: Remit
    journal: SqliteJournal
    other: SqliteJournal
    folder: Path
    paid: list[float] = field(default_factory=list)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    ended: list[float] = field(default_factory=list)

    async def approve(self, approval: Approval) -> None:
        vote = Vote(
            approval_id=approval.id,
            approves=True,
            by="user:p",
            at_us=SystemClock().now_us(),
            digest=approval.digest,
        )
        await self.other.decide_approval(vote, b'{"kind":"approval.decided"}')


@asynccontextmanager
async def _open(folder: Path) -> AsyncIterator[_World]:
    clock = SystemClock()
    journal = SqliteJournal.open(folder / "people.db", clock)
    other = SqliteJournal.open(folder / "people.db", clock)
    services = GateServices(
        journal=journal, prices=FixedPrices({"m": 1}), clock=clock, telemetry=NoTelemetry()
    )
    rules = Rules(parse(FILE, "f.yaml", TOOLS), TOOLS)
    calls: dict[str, Any] = {}

    async def pay(args: Any, context: CallContext) -> Any:
        world.paid.append(time.perf_counter())
        return {}

    async def wait(args: Any, context: CallContext) -> Any:
        world.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            world.ended.append(time.perf_counter())

    calls.update(pay=pay, wait=wait)
    tools = FunctionTools([(spec, calls[spec.name]) for spec in TOOLS])
    runner = Runner(services, Gate(services, Effects(model=OneCall(), tools=tools)), rules)
    world = _World(runner=runner, remit=rules.remit, journal=journal, other=other, folder=folder)
    try:
        yield world
    finally:
        await journal.close()
        await other.close()


def measure(options: Options) -> list[Measure]:
    """Parked runs, decisions, pauses and cancellations on SQLite."""
    return asyncio.run(_measure(options))


async def _measure(options: Options) -> list[Measure]:
    parked = options.pick(500, 10_000)
    async with _open(options.folder) as world:
        for _ in range(20):
            await world.runner.run("pay", WHO)  # warm: what is loaded at the first run is no run's
        before = _rss_mb()
        for start in range(0, parked, 100):
            await asyncio.gather(
                *(world.runner.run("pay", WHO) for _ in range(start, min(start + 100, parked)))
            )
        grown, tasks = _rss_mb() - before, len(asyncio.all_tasks()) - 1
        looks = [await _look(world) for _ in range(50)]
        decided = await _decisions(world, options.pick(10, 50))
        cancelled = [await _cancel(world) for _ in range(options.pick(5, 20))]
    note = f"{parked} runs parked, {tasks} tasks left of them"
    return [
        Measure(
            topic="people",
            name="RSS that parked runs add",
            unit="MB",
            samples=(grown,),
            target=20.0,
            limited_by="a parked run is a row: what grows is the allocator's",
            note=note,
        ),
        Measure(
            topic="people",
            name="looking for ready runs, none ready",
            unit="ms",
            samples=tuple(looks),
            limited_by="one indexed read in the reader's thread; five a second",
            note=note,
        ),
        Measure(
            topic="people",
            name="approve to the next effect",
            unit="ms",
            samples=tuple(decided),
            target=250.0,
            limited_by="the journal is asked every 100 ms, and the queue",
            note=note,
        ),
        Measure(
            topic="people",
            name="cancel to the end of the tool that runs",
            unit="ms",
            samples=tuple(cancelled),
            target=1000.0,
            limited_by="the runner looks every 200 ms",
        ),
    ]


async def _look(world: _World) -> float:
    began = time.perf_counter()
    ready = await world.journal.ready_runs("parked", world.remit.digest, SystemClock().now_us())
    if ready:
        raise RuntimeError("a run is ready that nobody has approved")
    return (time.perf_counter() - began) * 1000


async def _decisions(world: _World, count: int) -> list[float]:
    clock = SystemClock()
    options = DbosOptions(url=f"sqlite:///{world.folder / 'queue.db'}", worker=f"bench-{clock.now_us()}")
    parts = WorkerParts(
        name=options.worker,
        runner=world.runner,
        remit=world.remit,
        journal=world.journal,
        dispatcher=await DbosDispatcher.open(options, clock),
        clock=clock,
        told=lambda _: None,
        notice=print,
    )
    worker = Worker(parts)
    watching = asyncio.create_task(worker.work(10.0))
    samples = []
    for number, approval in enumerate(await world.other.approvals(limit=count)):
        await asyncio.sleep(0.037 * (number % 7))  # at every place between two looks
        paid = len(world.paid)
        await world.approve(approval)
        began = time.perf_counter()
        while len(world.paid) == paid:
            await asyncio.sleep(0.002)
        samples.append((world.paid[-1] - began) * 1000)
    worker.stop()
    await watching
    return samples


async def _cancel(world: _World) -> float:
    world.began.clear()
    watching = asyncio.create_task(world.runner.watch())
    running = asyncio.create_task(world.runner.run("wait", WHO))
    await world.began.wait()
    (record,) = await world.other.runs(status="running")
    end = RunEnd(status="cancelled", code="run.cancelled", message="m")
    at_us = SystemClock().now_us()
    ending = RunEnding(end=end, audit=records.run_ended(record.run, end, at_us))
    await world.other.cancel_run(record.run.id, ending, at_us)
    began = time.perf_counter()
    await running
    watching.cancel()
    await asyncio.wait({watching})
    return (world.ended[-1] - began) * 1000


def _rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
