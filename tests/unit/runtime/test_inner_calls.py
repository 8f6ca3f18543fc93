"""Calls that a tool makes within its own: through the gate, each on record, and never done twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.core.actions import Principal
from remit.core.approvals import Approval, Vote
from remit.core.messages import ModelReply
from remit.core.outcomes import Done, Failed, Refused, Suspended
from remit.core.tools import Declared, ToolSpec
from remit.governance.compiler import Surroundings, parse
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.inner import CALLS_MAX
from remit.governance.resolutions import Finding, resolution
from remit.governance.rules import Rules
from remit.governance.source import ConfigErrors
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.services import EffectEnded
from remit.runtime.callers import Callers
from remit.runtime.direct import DirectCalls
from remit.runtime.runner import Runner
from remit.testing.fakes import (
    FakeClock,
    FixedPrices,
    FunctionTools,
    RecordingTelemetry,
    ScriptedModel,
    calls,
    says,
)
from remit.testing.memory_journal import MemoryJournal
from remit.testing.memory_store import MemoryStore

FILE = """agent:
  name: a
  model: m
  allowed_tools: [order]
  max_retries: 0
  rate_limits: {max_looks_per_hour: 3}
  approvals: [{tool: pay, when: {usd: {gt: 10}}}]
  data_access: {allow_pii: false, allow_financial: true, allow_internal_docs: true}
  cost_controls: {max_daily_spend_usd: 1, max_cost_per_run_usd: 1}
  toolsets:
    mine: {kind: python, source: tools.py, uses: [look, pay, people]}
"""
ARGS = {"type": "object", "properties": {"usd": {"type": "integer"}}, "additionalProperties": False}
LOOK = ToolSpec(name="look", description="l", args_schema=ARGS, effect="read", rate_group="looks")
PAY = ToolSpec(name="pay", description="p", args_schema=ARGS, effect="write")
PEOPLE = ToolSpec(
    name="people", description="e", args_schema=ARGS, effect="read", field_classes={"phone": "pii"}
)
OTHER = ToolSpec(name="other", description="o", args_schema=ARGS, effect="read")
NOTE = ToolSpec(name="remember", description="n", args_schema=ARGS)
ORDER = ToolSpec(
    name="order",
    description="o",
    args_schema={"type": "object", "properties": {}},
    uses=("look", "pay", "people"),
    isolation="sandboxed",
)
WHO = Principal(kind="user", id="ana")


class World:
    """One store; each `run` or `resume` is another process's. `script`: what the tool `order` does."""

    def __init__(self, order: ToolSpec = ORDER) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore()
        self.telemetry = RecordingTelemetry()
        self.paid: list[Any] = []
        self.pays: Any = None
        self.script: Any = None
        self.order = order
        self.look = LOOK
        self.looks: Any = None
        self.model = ScriptedModel([])

    @property
    def journal(self) -> MemoryJournal:
        return MemoryJournal(self.clock, self.store)

    def runner(self, *replies: ModelReply) -> Runner:
        return self.parts(*replies)[0]

    def parts(self, *replies: ModelReply) -> tuple[Runner, DirectCalls]:
        """Those of a new process."""
        declared = Declared((self.order,), "digest")
        tools = FunctionTools(
            [
                (self.order, self._order),
                (self.look, self._look),
                (PAY, self._pay),
                (PEOPLE, self._people),
                (OTHER, self._look),
            ]
        )
        remit = parse(
            FILE,
            "a.yaml",
            (self.look, PAY, PEOPLE, OTHER, NOTE),
            around=Surroundings(declare=lambda _name, _section: declared),
        )
        services = GateServices(
            journal=self.journal,
            prices=FixedPrices({"m": 1}),
            clock=self.clock,
            telemetry=self.telemetry,
        )
        self.model = ScriptedModel(list(replies))
        gate = Gate(services, Effects(model=self.model, tools=tools))
        direct = DirectCalls(services, gate, remit, tools.specs)
        return Runner(services, gate, Rules(remit, tools.specs)), direct

    async def decide(self, asked: Approval | None = None, *, approves: bool = True) -> None:
        """Of what is asked, the only one by default."""
        if asked is None:
            (asked,) = self.store.approvals.values()
        vote = Vote(
            approval_id=asked.id,
            approves=approves,
            by="user:boss",
            at_us=self.clock.now_us(),
            digest=asked.digest,
            reason="r",
        )
        assert await self.journal.decide_approval(vote, b"{}") is not None

    async def states(self, run_id: str) -> dict[str, str]:
        """What the journal has of each tool call."""
        found = await self.journal.calls(run_id)
        return {call.action_id.partition(".")[2]: call.state for call in found if call.kind == "tool"}

    async def _order(self, _args: Any, context: CallContext) -> Any:
        assert context.inner is not None
        return await self.script(context.inner)

    async def _look(self, _args: Any, context: CallContext) -> Any:
        assert context.inner is None
        if self.looks is not None:
            await self.looks()
        return {"seen": True}

    async def _pay(self, args: Any, _context: CallContext) -> Any:
        self.paid.append(args)
        if self.pays is not None:
            await self.pays()
        return {"paid": args.get("usd")}

    async def _people(self, _args: Any, _context: CallContext) -> Any:
        return {"name": "Ana", "phone": "123"}


async def outcomes_of(world: World, *asked: tuple[str, Any]) -> list[Any]:
    """What becomes of calls that the tool makes."""
    made: list[Any] = []

    async def script(inner: Any) -> Any:
        made.extend([await inner(tool, args) for tool, args in asked])
        return {"ok": True}

    world.script = script
    result = await world.runner(calls(("order", {})), says("done")).run("t", WHO)
    assert result.end.status == "succeeded", result.end
    return made


async def test_each_call_is_decided_by_what_the_file_grants_and_recorded() -> None:
    world = World()
    looked, other, unknown, wrong, itself = await outcomes_of(
        world, ("look", {}), ("other", {}), ("drop", {}), ("pay", {"euro": 1}), ("order", {})
    )
    assert isinstance(looked, Done)
    refused = [one.decision for one in (other, unknown, wrong, itself) if isinstance(one, Refused)]
    assert [one.code for one in refused] == [
        "tool.not_granted",
        "tool.not_granted",
        "args.invalid",
        "tool.not_granted",
    ]
    assert {one.rule for one in refused if one.code == "tool.not_granted"} == {"toolsets.mine.uses"}
    assert refused[0].source == "a.yaml:11"
    (run,) = await world.journal.runs()
    assert await world.states(run.run.id) == {"1.t0": "done", "1.t0-1@order": "done"}
    assert len(await world.journal.refusals(run.run.id)) == 4
    shown = [
        one.action.id.partition(".")[2] for one in world.telemetry.events if isinstance(one, EffectEnded)
    ]
    assert [place for place in shown if "@" in place] == [f"1.t0-{number}@order" for number in range(1, 6)]


async def test_the_model_is_not_offered_what_only_a_tool_may_use_and_cannot_call_it() -> None:
    world = World()
    result = await world.runner(calls(("look", {})), says("done")).run("t", WHO)
    assert result.end.status == "succeeded"
    assert [offer.name for offer in world.model.requests[0].tools] == ["order"]
    assert await world.states(result.run.id) == {}
    assert "not granted to this agent" in str(world.model.requests[1].messages)


async def test_limits_and_masks_hold_within_a_call() -> None:
    world = World()
    made = await outcomes_of(world, *[("look", {})] * 4, ("people", {}))
    assert [type(one) for one in made] == [Done, Done, Done, Refused, Done]
    assert made[3].decision.code == "rate.limited"
    assert "123" not in str(made[4].value)


async def test_a_tool_may_make_so_many_calls_and_no_more() -> None:
    made = await outcomes_of(World(), *[("pay", {"usd": 1})] * (CALLS_MAX + 1))
    assert [type(one) for one in made] == [Done] * CALLS_MAX + [Refused]


async def test_a_failure_says_what_was_changed_before_it() -> None:
    world = World()

    async def script(inner: Any) -> Any:
        await inner("look", {})
        await inner("pay", {"usd": 1})
        raise EffectFailed("tool.failed", "no luck", retryable=True)

    world.script = script
    result = await world.runner(calls(("order", {})), says("done")).run("t", WHO)
    assert result.end.status == "succeeded"
    told = str(world.model.requests[-1].messages[-1].parts)
    assert "no luck (done before, and not undone: pay)" in told


async def test_the_call_waits_with_the_one_that_a_person_decides_and_repeats_nothing() -> None:
    world = World()
    begun = 0

    async def script(inner: Any) -> Any:
        nonlocal begun
        begun += 1
        first = await inner("pay", {"usd": 5})
        second = await inner("pay", {"usd": 50})
        return {"paid": [first.value["paid"], second.value["paid"]]}

    world.script = script
    waits = await world.runner(calls(("order", {}))).run("t", WHO)
    assert (waits.end.status, waits.end.code) == ("suspended", "approval.required")
    assert await world.states(waits.run.id) == {"1.t0": "started", "1.t0-1@order": "done"}
    await world.decide()
    done = await world.runner(says("done")).resume(waits.run.id)
    assert (done.end.status, begun) == ("succeeded", 2)
    assert world.paid == [{"usd": 5}, {"usd": 50}]
    assert "[5,50]" in str(world.model.requests[-1].messages[-1].parts)


async def test_a_denied_call_is_told_to_the_tool() -> None:
    world = World()

    async def script(inner: Any) -> Any:
        return {"became": type(await inner("pay", {"usd": 50})).__name__}

    world.script = script
    waits = await world.runner(calls(("order", {}))).run("t", WHO)
    await world.decide(approves=False)
    done = await world.runner(says("done")).resume(waits.run.id)
    assert (done.end.status, world.paid) == ("succeeded", [])
    assert "Refused" in str(world.model.requests[-1].messages[-1].parts)


async def test_of_a_call_that_nobody_knows_of_a_person_decides_before_the_tool_goes_on() -> None:
    world = World()

    async def dies() -> None:
        raise OSError("the line is dead")

    async def script(inner: Any) -> Any:
        paid = await inner("pay", {"usd": 5})
        return {"became": type(paid).__name__}

    world.script, world.pays = script, dies
    waits = await world.runner(calls(("order", {}))).run("t", WHO)
    assert (waits.end.status, waits.end.code) == ("suspended", "effect.unknown")
    (unknown,) = [call for call in await world.journal.calls(waits.run.id) if call.state == "unknown"]
    assert unknown.action_id.endswith("1.t0-1@order")
    record = await world.journal.run(waits.run.id)
    assert record is not None
    boss = Principal(kind="user", id="boss")
    finding = Finding(happened=True, by=boss, reason="it is on the account")
    resolved = resolution(unknown, record.run, finding, world.clock.now_us())
    assert await world.journal.resolve(resolved)
    done = await world.runner(says("done")).resume(waits.run.id)
    assert done.end.status == "succeeded"
    assert world.paid == [{"usd": 5}]


async def test_a_process_that_leaves_within_a_call_has_the_next_repeat_nothing() -> None:
    world = World()
    reached = asyncio.Event()
    goes_on = False

    async def script(inner: Any) -> Any:
        await inner("pay", {"usd": 5})
        reached.set()
        if not goes_on:
            await asyncio.Event().wait()
        return {"ok": True}

    world.script = script
    stops = world.runner(calls(("order", {})))
    task = asyncio.create_task(stops.run("t", WHO))
    await reached.wait()
    stops.hand_over()
    left = await task
    assert (left.end.status, left.end.code) == ("suspended", "run.handed_over")
    assert (await world.states(left.run.id))["1.t0"] == "started"
    goes_on = True
    done = await world.runner(says("done")).resume(left.run.id)
    assert done.end.status == "succeeded"
    assert world.paid == [{"usd": 5}]


async def test_a_tool_that_goes_another_way_the_second_time_is_refused() -> None:
    world = World()
    amounts = iter([5, 6])

    async def script(inner: Any) -> Any:
        first = await inner("pay", {"usd": next(amounts)})
        second = await inner("pay", {"usd": 50})
        return {"became": [type(first).__name__, type(second).__name__]}

    world.script = script
    waits = await world.runner(calls(("order", {}))).run("t", WHO)
    await world.decide()
    done = await world.runner(says("done")).resume(waits.run.id)
    assert done.end.status == "succeeded"
    assert world.paid == [{"usd": 5}, {"usd": 50}]
    assert '["Refused","Done"]' in str(world.model.requests[-1].messages[-1].parts)


async def test_what_is_paused_meanwhile_is_refused_and_the_run_goes_on_once_it_is_not() -> None:
    world = World()

    async def script(inner: Any) -> Any:
        await inner("pay", {"usd": 5})
        await world.journal.set_control("all", True, "drill", world.clock.now_us(), b"{}")
        return {"became": (await inner("pay", {"usd": 6})).decision.code}

    world.script = script
    stops = await world.runner(calls(("order", {}))).run("t", WHO)
    assert (stops.end.status, stops.end.code) == ("suspended", "agent.paused")
    await world.journal.set_control("all", False, "", world.clock.now_us(), b"{}")
    done = await world.runner(says("done")).resume(stops.run.id)
    assert done.end.status == "succeeded"
    assert world.paid == [{"usd": 5}]
    assert "agent.paused" in str(world.model.requests[-1].messages[-1].parts)


async def test_a_call_that_takes_too_long_is_ended_alone() -> None:
    world = World()
    world.look = replace(LOOK, timeout_s=0.05)
    world.looks = asyncio.Event().wait
    made = await outcomes_of(world, ("look", {}), ("pay", {"usd": 1}))
    assert isinstance(made[0], Failed)
    assert (made[0].code, world.paid) == ("tool.timeout", [{"usd": 1}])


async def test_a_tool_that_takes_too_long_ends_with_the_call_that_it_made() -> None:
    world = World(replace(ORDER, timeout_s=0.05))
    world.looks = asyncio.Event().wait

    async def script(inner: Any) -> Any:
        await inner("look", {})

    world.script = script
    result = await world.runner(calls(("order", {})), says("done")).run("t", WHO)
    assert await world.states(result.run.id) == {"1.t0": "unknown", "1.t0-1@order": "failed"}


async def test_a_result_counts_as_all_that_it_may_be_made_of() -> None:
    world = World(replace(ORDER, result_trust="trusted", classes=("internal",)))
    world.look = replace(LOOK, classes=("financial",), result_trust="directory")
    await outcomes_of(world, ("look", {}))
    (ended,) = [
        one
        for one in world.telemetry.events
        if isinstance(one, EffectEnded) and one.action.resource == "order"
    ]
    assert isinstance(ended.outcome, Done)
    assert ended.outcome.label is not None
    assert (ended.outcome.label.classes, ended.outcome.label.trust) == (
        ("internal", "financial"),
        "directory",
    )


async def test_names_that_a_tool_made_up_are_not_kept() -> None:
    world = World()
    await outcomes_of(world, ("the number is 4711", {}))
    kept = str(world.store.audit) + str(await world.journal.calls((await world.journal.runs())[0].run.id))
    assert "4711" not in kept
    assert "unknown-" in kept


@pytest.mark.parametrize(
    ("used", "code", "said"),
    [
        ("lok", "config.unknown_tool", "did you mean 'look'"),
        ("remember", "config.invalid", "keeps notes"),
        ("order", "config.invalid", "calls others"),
    ],
)
def test_what_may_not_be_used_is_said_when_the_file_is_read(used: str, code: str, said: str) -> None:
    world = World(replace(ORDER, uses=(used,)))
    with pytest.raises(ConfigErrors) as raised:
        world.runner()
    (error,) = [one for one in raised.value.errors if one.code == code]
    assert said in f"{error.message} {error.remedy}"


def test_a_tool_that_may_change_things_by_another_declares_that_it_does() -> None:
    world = World(replace(ORDER, effect="read"))
    with pytest.raises(ConfigErrors, match="order may use pay, which writes"):
        world.runner()


async def pays_twice(inner: Any) -> Any:
    return {"paid": [(await inner("pay", {"usd": usd})).value["paid"] for usd in (5, 50)]}


async def test_a_direct_call_that_waits_is_done_once_when_it_is_made_again() -> None:
    world = World()
    world.script = pays_twice
    _, direct = world.parts()
    run = await direct.begin(WHO, "by hand")
    for _ in range(2):
        assert isinstance(await run.call("order", {}), Suspended)
    assert run.waits
    await world.decide()
    done = await run.call("order", {})
    assert isinstance(done, Done)
    assert (done.value, world.paid) == ({"paid": [5, 50]}, [{"usd": 5}, {"usd": 50}])


async def test_a_caller_finds_what_waits_after_a_restart_and_repeats_nothing() -> None:
    world = World()
    world.script = pays_twice
    for _ in range(2):
        callers = Callers(world.parts()[1], world.journal, world.clock, "by a client")
        await callers.recover()
        assert isinstance(await callers.call(WHO, "order", {}), Suspended)
        await callers.close()
    await world.decide()
    callers = Callers(world.parts()[1], world.journal, world.clock, "by a client")
    await callers.recover()
    assert isinstance(await callers.call(WHO, "order", {}), Done)
    assert world.paid == [{"usd": 5}, {"usd": 50}]
    await callers.close()


@settings(max_examples=60, deadline=None)
@given(
    program=st.lists(st.integers(1, 20), min_size=1, max_size=8),
    stops=st.lists(st.integers(0, 8), max_size=4),
)
async def test_whatever_interrupts_it_each_call_of_a_tool_is_done_once(
    program: list[int], stops: list[int]
) -> None:
    """Amounts above 10 wait for a person; at each stop the process leaves before the call of that number."""
    world = World()
    left = list(stops)
    current: Runner

    async def script(inner: Any) -> Any:
        paid = []
        for number, usd in enumerate(program):
            if left and number >= left[0]:
                left.pop(0)
                current.hand_over()
                await asyncio.Event().wait()
            paid.append((await inner("pay", {"usd": usd})).value["paid"])
        return {"paid": paid}

    world.script = script
    current = world.runner(calls(("order", {})), says("done"))
    result = await current.run("t", WHO)
    while result.end.status == "suspended":
        for asked in list(world.store.approvals.values()):
            if asked.verdict == "pending":
                await world.decide(asked)
        (ready,) = await world.journal.ready_runs("a", result.run.remit_digest, world.clock.now_us())
        current = world.runner(says("done"))
        result = await current.resume(ready.run_id)
    assert result.end.status == "succeeded", result.end
    assert [one["usd"] for one in world.paid] == program
    assert str(program).replace(" ", "") in str(world.model.requests[-1].messages[-1].parts)


async def test_a_write_that_the_tools_own_deadline_cuts_off_is_unknown_and_the_run_waits() -> None:
    world = World()
    world.pays = asyncio.Event().wait

    async def script(inner: Any) -> Any:
        try:
            async with asyncio.timeout(0.05):  # as the sandbox has it: it ends before the gate's own
                await inner("pay", {"usd": 5})
        except TimeoutError as error:
            raise EffectFailed("tool.timeout", "it was killed", retryable=True) from error

    world.script = script
    waits = await world.runner(calls(("order", {})), says("done")).run("t", WHO)
    assert (waits.end.status, waits.end.code) == ("suspended", "effect.unknown")
    assert await world.states(waits.run.id) == {"1.t0": "started", "1.t0-1@order": "unknown"}
    assert world.paid == [{"usd": 5}]


async def test_a_tool_that_fails_since_its_call_was_denied_has_failed_and_is_not_unknown() -> None:
    world = World()

    async def script(inner: Any) -> Any:
        assert isinstance(await inner("pay", {"usd": 50}), Refused)
        raise EffectFailed("tool.failed", "it was denied")

    world.script = script
    waits = await world.runner(calls(("order", {}))).run("t", WHO)
    await world.decide(approves=False)
    done = await world.runner(says("done")).resume(waits.run.id)
    assert (done.end.status, await world.states(waits.run.id)) == ("succeeded", {"1.t0": "failed"})


async def test_a_result_is_trusted_no_more_than_the_words_of_a_call_that_failed() -> None:
    world = World(replace(ORDER, result_trust="trusted"))

    async def fails() -> None:
        raise EffectFailed("tool.failed", "the words of a stranger")

    async def script(inner: Any) -> Any:
        return {"said": (await inner("look", {})).message}

    world.script, world.looks = script, fails
    await world.runner(calls(("order", {})), says("done")).run("t", WHO)
    (ended,) = [
        one.outcome
        for one in world.telemetry.events
        if isinstance(one, EffectEnded) and one.action.id.endswith(".t0")
    ]
    assert isinstance(ended, Done)
    assert ended.label is not None
    assert ended.label.trust == "untrusted"
