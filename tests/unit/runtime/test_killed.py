"""A process may die at any moment: after every commit, and in the middle of every effect, another goes on with its run."""

from __future__ import annotations

import copy
from asyncio import Future
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from remit.core.actions import Principal
from remit.core.messages import ModelReply, ModelRequest
from remit.core.tools import ToolSpec
from remit.governance.compiler import parse
from remit.governance.effects import Effects
from remit.governance.gate import Gate, GateServices, always
from remit.governance.rules import Rules
from remit.ports.effects import CallContext
from remit.ports.journal import Admission
from remit.ports.services import HasLease, TextSink
from remit.runtime.runner import Runner
from remit.testing.fakes import FakeClock, FixedPrices, FunctionTools, RecordingTelemetry, calls, says
from remit.testing.memory_journal import MemoryJournal
from remit.testing.memory_store import MemoryStore

FILE = """agent:
  name: a
  model: m
  allowed_tools: [look, put, book, pay]
  rate_limits: {max_pays_per_hour: 1, max_puts_per_hour: 1}
  cost_controls: {max_daily_spend_usd: 5, max_cost_per_run_usd: 1}
"""
_ARGS = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}
LOOK = ToolSpec(name="look", description="reads", args_schema=_ARGS, effect="read")
PUT = ToolSpec(name="put", description="i", args_schema=_ARGS, idempotency="idempotent", rate_group="puts")
BOOK = ToolSpec(name="book", description="looks first", args_schema=_ARGS, idempotency="reconcilable")
PAY = ToolSpec(name="pay", description="at most once", args_schema=_ARGS, rate_group="pays")
TOOLS = (LOOK, PUT, BOOK, PAY)
SCRIPT = (
    calls(("look", {"n": 1}), ("put", {"n": 2})),
    calls(("book", {"n": 4})),
    calls(("pay", {"n": 3})),
    says("done"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What was on disk, and what had been done in the world, when the process died."""

    store: MemoryStore
    done: tuple[tuple[str, str], ...]


class StepModel:
    """Says the same at the same place of a conversation, however often it is asked."""

    async def complete(self, request: ModelRequest, on_text: TextSink | None = None) -> ModelReply:
        return SCRIPT[sum(message.role == "assistant" for message in request.messages)]


class WatchedJournal(MemoryJournal):
    """Notes the moment after each commit."""

    process: Process

    def _commit(self, operation: Any, future: Any) -> None:
        super()._commit(operation, future)
        self.process.note()


class Process:
    """One process: a gate and a runner on a store. `done`: the tool calls that took place, with their keys."""

    def __init__(
        self, moment: Moment, clock: FakeClock, worker: str, *, has_lease: HasLease = always
    ) -> None:
        self.store = moment.store
        self.done = list(moment.done)
        self.moments: list[Moment] = []
        self.journal = WatchedJournal(clock, self.store, worker)
        self.journal.process = self
        services = GateServices(
            journal=self.journal,
            prices=FixedPrices({"m": 1}),
            clock=clock,
            telemetry=RecordingTelemetry(),
            has_lease=has_lease,
        )
        tools = FunctionTools([(spec, self._tool(spec)) for spec in TOOLS])
        gate = Gate(services, Effects(model=StepModel(), tools=tools))
        self.runner = Runner(services, gate, Rules(parse(FILE, "f.yaml", TOOLS), TOOLS))

    def note(self) -> None:
        self.moments.append(Moment(store=copy.deepcopy(self.store), done=tuple(self.done)))

    def _tool(self, spec: ToolSpec) -> Any:
        async def tool(args: Any, context: CallContext) -> Any:
            took_place = (spec.name, context.idempotency_key)
            self.note()  # admitted, not done
            if spec is BOOK and context.begun_before and took_place in self.done:
                return {"n": args["n"]}
            self.done.append(took_place)
            self.note()  # done, not recorded
            return {"n": args["n"]}

        return tool


async def _moments() -> list[Moment]:
    process = Process(Moment(store=MemoryStore(), done=()), FakeClock(), "one")
    result = await process.runner.run("t", Principal(kind="user", id="u"))
    assert result.end.status == "succeeded", result.end
    return [moment for moment in process.moments if "running" in _statuses(moment)]


def _statuses(moment: Moment) -> set[str]:
    return {stored.status for stored in moment.store.runs.values()}


def _open(moment: Moment) -> set[str]:
    """The tools that were begun and have no outcome."""
    return {call.admission.resource for call in moment.store.calls.values() if call.state is None}


async def test_at_every_moment_a_run_goes_on_and_repeats_only_what_may_be_repeated() -> None:
    moments = await _moments()
    assert len(moments) > 15
    parked = 0
    for moment in moments:
        before = copy.deepcopy(moment)
        parked += await _goes_on(moment, "two")
        # and once more: the second process dies as well, wherever it is
        second = Process(copy.deepcopy(before), FakeClock(), "two")
        await second.journal.interrupt_runs(second.journal._clock.now_us())
        await second.runner.resume(next(iter(second.store.runs)))
        for later in second.moments:
            if "running" in _statuses(later):
                await _goes_on(later, "three")
    assert parked > 0


async def _goes_on(moment: Moment, worker: str) -> bool:
    """Whether the run is parked because nobody knows of a call that is at most once; else it ends with its answer."""
    doubtful = "pay" in _open(moment)
    process = Process(moment, FakeClock(), worker)
    (run_id,) = process.store.runs
    await process.journal.interrupt_runs(process.journal._clock.now_us())
    result = await process.runner.resume(run_id)
    done = Counter(process.done)
    tools = Counter(name for name, _ in done)
    assert max(tools.values()) == 1, "a repeated call has the key of the first"
    assert all(count == 1 for (name, _), count in done.items() if name in ("book", "pay"))
    (stored,) = process.store.runs.values()
    if doubtful:
        assert (result.end.status, result.end.code) == ("suspended", "effect.unknown")
        assert [call.resource for call in await process.journal.unresolved()] == ["pay"]
        assert stored.ready_at_us is None
    else:
        assert (result.end.status, stored.status) == ("succeeded", "succeeded"), result.end
        assert sorted(tools) == ["book", "look", "pay", "put"]
        assert await process.journal.unresolved() == []
    return doubtful


@pytest.mark.parametrize("tool", [LOOK, PUT])
async def test_a_call_that_is_made_again_counts_once_against_its_window(tool: ToolSpec) -> None:
    (moment,) = [one for one in await _moments() if tool.name in _open(one)][-1:]
    process = Process(moment, FakeClock(), "two")
    await process.journal.interrupt_runs(process.journal._clock.now_us())
    result = await process.runner.resume(next(iter(process.store.runs)))
    assert result.end.status == "succeeded"
    assert {key: len(events) for key, events in process.store.events.items()} == dict.fromkeys(
        process.store.events, 1
    )


async def test_a_worker_that_stood_still_after_the_admission_does_nothing() -> None:
    held = iter([True, True, False])  # the model, then two tools
    process = Process(
        Moment(store=MemoryStore(), done=()), FakeClock(), "one", has_lease=lambda: next(held, True)
    )
    result = await process.runner.run("t", Principal(kind="user", id="u"))
    assert (result.end.status, result.end.code) == ("suspended", "run.handed_over")
    assert [name for name, _ in process.done] == ["look"]
    states = {call.resource: call.state for call in await process.journal.calls(result.run.id)}
    assert (states["look"], states["put"]) == ("done", "failed")
    assert (await process.runner.resume(result.run.id)).end.status == "succeeded"
    assert [name for name, _ in process.done] == ["look", "book", "pay"]


async def test_a_worker_without_a_lease_takes_the_blame_and_not_the_model() -> None:
    held = iter([False] * 20)
    process = Process(
        Moment(store=MemoryStore(), done=()), FakeClock(), "one", has_lease=lambda: next(held, True)
    )
    result = await process.runner.run("t", Principal(kind="user", id="u"))
    while result.end.code == "run.handed_over":
        result = await process.runner.resume(result.run.id)
    assert result.end.status == "succeeded", result.end


async def test_a_run_that_is_handed_over_at_its_answer_gives_it_when_it_goes_on() -> None:
    process = Process(Moment(store=MemoryStore(), done=()), FakeClock(), "one")
    admit = process.journal.admit

    def handing_over(admission: Admission) -> Future[Any]:
        future = admit(admission)
        if admission.kind == "release" and admission.action_id.endswith("answer"):
            process.runner.lose_runs()
        return future

    process.journal.admit = handing_over  # type: ignore[method-assign]
    result = await process.runner.run("t", Principal(kind="user", id="u"))
    assert (result.end.status, result.end.code) == ("suspended", "run.handed_over")
    result = await process.runner.resume(result.run.id)
    assert result.end.status == "succeeded", (result.end, await process.journal.calls(result.run.id))
    names = [call.action_id.rsplit(".", 1)[1] for call in await process.journal.calls(result.run.id)]
    assert names[-2:] == ["answer", "answer2"]
