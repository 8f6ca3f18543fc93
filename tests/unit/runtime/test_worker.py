"""A worker beside others: whoever waits for a slot keeps nobody else from the queue."""

from __future__ import annotations

import asyncio

from remit.core.actions import Principal
from remit.core.messages import ModelReply, ModelRequest, Text, Usage
from remit.governance.compiler import parse
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.rules import Rules
from remit.ports.services import TextSink
from remit.runtime import intake
from remit.runtime.clock import SystemClock
from remit.runtime.runner import Runner, RunResult
from remit.runtime.worker import Worker, WorkerParts
from remit.testing.fakes import FixedPrices, FunctionTools, RecordingTelemetry
from remit.testing.memory_dispatcher import MemoryDispatcher, MemoryQueue
from remit.testing.memory_journal import MemoryJournal, MemoryStore

FILE = """agent:
  name: a
  model: m
  allowed_tools: []
  max_concurrent_runs: 1
  cost_controls: {max_daily_spend_usd: 1, max_cost_per_run_usd: 1}
"""


class GatedModel:
    """Answers once `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = asyncio.Event()

    async def complete(self, request: ModelRequest, on_text: TextSink | None = None) -> ModelReply:
        self.asked.set()
        await self.go.wait()
        usage = Usage(input_tokens=1, output_tokens=1)
        return ModelReply(parts=(Text(text="ok"),), stop="end_turn", usage=usage, model="m")


class Process:
    """One worker process on a shared store and queue. `told`: the results of its runs."""

    def __init__(self, name: str, store: MemoryStore, queue: MemoryQueue, model: GatedModel) -> None:
        self.clock = SystemClock()
        self.journal = MemoryJournal(self.clock, store, name)
        services = GateServices(
            journal=self.journal,
            prices=FixedPrices({"m": 1}),
            clock=self.clock,
            telemetry=RecordingTelemetry(),
        )
        self.remit = parse(FILE, "f.yaml", ())
        self.runner = Runner(
            services, Gate(services, Effects(model=model, tools=FunctionTools([]))), Rules(self.remit, ())
        )
        self.told: list[RunResult] = []
        self.worker = Worker(
            WorkerParts(
                name=name,
                runner=self.runner,
                remit=self.remit,
                journal=self.journal,
                dispatcher=MemoryDispatcher(queue, name, self.clock),
                clock=self.clock,
                told=self.told.append,
                notice=print,
            )
        )

    async def leave(self, tenant: str) -> str:
        """A run of a tenant that waits for a worker."""
        who = Principal(kind="user", id="u", tenant=tenant)
        run = intake.new_run(self.remit, "t", who, self.clock)
        assert await intake.enqueue(self.journal, self.remit, run)
        return run.id


async def test_a_run_that_waits_for_a_slot_gives_its_place_to_another_tenant() -> None:
    store, queue, busy_model, idle_model = MemoryStore(), MemoryQueue(), GatedModel(), GatedModel()
    busy = Process("busy", store, queue, busy_model)
    idle = Process("idle", store, queue, idle_model)
    for process in (busy, idle):
        await process.journal.hold_lease(2**60)
    loud = Principal(kind="user", id="u", tenant="loud")
    first = asyncio.create_task(busy.runner.run("t", loud))
    await busy_model.asked.wait()
    second, quiet = await idle.leave("loud"), await idle.leave("quiet")
    idle_model.go.set()
    working = asyncio.create_task(idle.worker.work(5.0))
    # the one slot of the loud tenant is taken elsewhere: its run is in the worker's hands, and leaves them again
    async with asyncio.timeout(20):
        while [one.run.id for one in idle.told] != [quiet] or (second, 2) not in queue.entries:
            await asyncio.sleep(0.01)
    busy_model.go.set()
    await first
    async with asyncio.timeout(20):
        while [one.run.id for one in idle.told] != [quiet, second]:
            await asyncio.sleep(0.01)
    assert {one.end.status for one in idle.told} == {"succeeded"}
    idle.worker.stop()
    await working
