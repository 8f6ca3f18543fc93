"""A session: each run knows the earlier ones of it, by actions through the gate, and a run that goes on is told the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from remit.core import actions
from remit.core.actions import Place, Principal
from remit.core.errors import RemitError
from remit.core.memory import Scope, Seen, session_list
from remit.core.messages import Message, ModelReply, Text
from remit.core.outcomes import Refused
from remit.core.tools import ToolSpec
from remit.governance.compiler import parse
from remit.governance.gate import Effects, Gate, GateServices, GovernedRun
from remit.governance.rules import Rules
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.journal import AuditQuery
from remit.runtime.runner import Runner, RunResult
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
from remit.testing.transient_memory import TransientMemory

FILE = """agent:
  name: {agent}
  model: m
  max_retries: 1
  allowed_tools: [look]
  approvals: [{{tool: look, when: {{what: {{eq: secret}}}}}}]
  data_access: {{allow_pii: {pii}}}
  cost_controls: {{max_daily_spend_usd: 5, max_cost_per_run_usd: {per_run}}}
  memory: {memory}
"""
ALICE = Principal(kind="user", id="alice")
LOOK = ToolSpec(
    name="look",
    description="l",
    args_schema={"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
    effect="read",
    classes_field="classes",
)


class World:
    """One journal and one memory; each run is another process's, with a model of its own."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore()
        self.memory: Any = TransientMemory()
        self.settings: dict[str, object] = {
            "agent": "a", "pii": "true", "per_run": 1, "memory": "{sessions: true, keep_classes: [pii]}",
        }  # fmt: skip
        self.result: Any = {"classes": []}
        self.model = ScriptedModel([])

    @property
    def journal(self) -> MemoryJournal:
        return MemoryJournal(self.clock, self.store)

    def runner(self, *replies: ModelReply | EffectFailed) -> Runner:
        async def look(_args: Any, _context: CallContext) -> Any:
            return self.result

        self.model = ScriptedModel(replies)
        tools = FunctionTools([(LOOK, look)])
        prices = FixedPrices({"m": 1_000})
        services = GateServices(
            journal=self.journal, prices=prices, clock=self.clock, telemetry=RecordingTelemetry()
        )
        self.rules = Rules(parse(FILE.format(**self.settings), "a.yaml", [LOOK]), tools.specs)
        self.gate = Gate(services, Effects(model=self.model, tools=tools, memory=self.memory))
        return Runner(services, self.gate, self.rules)

    async def run(self, task: str, *replies: ModelReply | EffectFailed, **more: Any) -> RunResult:
        self.clock.advance(1)
        return await self.runner(*replies).run(task, more.pop("who", ALICE), **{"session": "S", **more})

    def told(self, call: int = 0) -> list[tuple[str, str]]:
        """What the model was told in one of its calls: role and text."""
        return [(one.role, text_of(one)) for one in self.model.requests[call].messages]

    async def audit(self, run_id: str) -> list[Any]:
        return [json.loads(one.body) for one in await self.journal.audit(AuditQuery(run_id=run_id))]


def text_of(message: Message) -> str:
    return "\n".join(part.text for part in message.parts if isinstance(part, Text))


@pytest.fixture
def world() -> World:
    return World()


async def test_a_run_knows_the_earlier_runs_of_its_session_and_no_other(world: World) -> None:
    await world.run("My name is Ada.", says("Hello Ada."))
    await world.run("Unrelated.", says("Fine."), session="OTHER")
    await world.run("Alone.", says("Fine."), session="")
    assert world.told() == [("user", "Alone.")]
    await world.run("What is my name?", says("Ada."))
    assert world.told() == [
        ("user", "My name is Ada."),
        ("assistant", "Hello Ada."),
        ("user", "What is my name?"),
    ]


@pytest.mark.parametrize("change", [{"agent": "b"}, {}], ids=["another agent", "another tenant"])
async def test_nobody_else_sees_a_session_of_the_same_name(world: World, change: dict[str, str]) -> None:
    await world.run("The code is 4711.", says("Noted."))
    world.settings |= change
    who = ALICE if change else Principal(kind="user", id="alice", tenant="other")
    await world.run("What is the code?", says("I do not know."), who=who)
    assert world.told() == [("user", "What is the code?")]


async def test_reading_and_keeping_are_decided_and_recorded_by_digest_alone(world: World) -> None:
    await world.run("My name is Ada.", says("Hello Ada."))
    result = await world.run("And now?", says("Now."))
    records = await world.audit(result.run.id)
    of_memory = [(one["kind"], one["resource"]) for one in records if "memory" in one.get("resource", "")]
    assert of_memory == [
        ("intent", "memory_read:session"),
        ("outcome", "memory_read:session"),
        ("intent", "memory_write:session"),
        ("outcome", "memory_write:session"),
    ]
    assert all(
        one["rule"] == "memory.sessions"
        for one in records
        if one["kind"] == "intent" and "memory" in one["resource"]
    )
    assert "Ada" not in json.dumps(records)
    (read,) = [
        call for call in world.store.calls.values() if call.admission.action_id == f"{result.run.id}.0.r1"
    ]
    assert read.completion is not None
    assert b"Ada" not in read.completion.result  # the journal does not repeat what the session has


async def test_a_run_that_goes_on_is_told_what_it_was_told_though_the_session_went_on(world: World) -> None:
    await world.run("First.", says("One."))
    waiting = await world.run("Second.", calls(("look", {"what": "secret"})))
    assert waiting.end.status == "suspended"
    await world.run("Third.", says("Three."))
    approval = (await world.journal.approvals())[0]
    await approve(world, approval)
    resumed = await world.runner(says("Two.")).resume(waiting.run.id)
    assert resumed.end.status == "succeeded"
    assert world.told()[:3] == [("user", "First."), ("assistant", "One."), ("user", "Second.")]
    await world.run("What was said?", says("All."))
    assert [text for _, text in world.told()] == [
        "First.",
        "One.",
        "Third.",
        "Three.",
        "Second.",
        "Two.",
        "What was said?",
    ]


async def test_a_run_does_not_go_on_with_what_was_erased_since(world: World) -> None:
    await world.run("First.", says("One."))
    waiting = await world.run("Second.", calls(("look", {"what": "secret"})))
    await world.memory.erase(Scope("default", "a"), session_list("S"), [1], world.clock.now_us())
    await approve(world, (await world.journal.approvals())[0])
    resumed = await world.runner(says("Two.")).resume(waiting.run.id)
    assert (resumed.end.status, resumed.end.code) == ("failed", "memory.changed")
    assert world.model.requests == []


async def approve(world: World, approval: Any) -> None:
    from remit.testing.journal_values import vote_on

    assert await world.journal.decide_approval(vote_on(approval, at_us=world.clock.now_us()), b"{}")


async def test_what_was_said_after_seeing_personal_data_is_withheld_from_who_may_not_see_it(
    world: World,
) -> None:
    world.result = {"classes": ["pii"], "name": "Ada"}
    await world.run("Who is it?", calls(("look", {"what": "x"})), says("Ada Lovelace."))
    world.settings["pii"] = "false"
    await world.run("Again?", says("I may not say."))
    assert world.told() == [
        ("user", "Who is it?"),
        ("assistant", "[remit: not shown to this agent: pii data]"),
        ("user", "Again?"),
    ]


async def test_nothing_is_kept_of_a_run_that_has_seen_what_may_not_be_kept(world: World) -> None:
    world.settings["memory"] = "{sessions: true}"
    world.result = {"classes": ["pii"], "name": "Ada"}
    result = await world.run("Who is it?", calls(("look", {"what": "x"})), says("Ada Lovelace."))
    assert (result.end.status, result.end.answer) == ("succeeded", "Ada Lovelace.")
    assert "memory.keep_classes, a.yaml:9" in result.end.message
    refusals = [one for one in await world.audit(result.run.id) if one["kind"] == "refusal"]
    assert [(one["resource"], one["code"]) for one in refusals] == [("memory_write:session", "data.denied")]
    await world.run("Again?", says("Yes."))
    assert world.told() == [("user", "Again?")]


async def test_a_session_hands_on_that_its_run_was_exposed_and_what_it_had_seen(world: World) -> None:
    world.result = {"classes": ["pii"]}
    await world.run("Look.", calls(("look", {"what": "x"})), says("Seen."))
    result = await world.run("So?", says("So."))
    record = await world.journal.run(result.run.id)
    assert record is not None
    assert record.exposed_by == (f"{result.run.id}.0.r1",)
    (_, _, _, kept) = await world.memory.entries(Scope("default", "a"), session_list("S"), 0)
    assert (kept.entry.text, kept.entry.classes, kept.entry.trust) == ("So.", ("pii",), "untrusted")


async def test_a_session_without_exposure_exposes_nobody(world: World) -> None:
    await world.run("One.", says("1."))
    result = await world.run("Two.", says("2."))
    record = await world.journal.run(result.run.id)
    assert record is not None
    assert record.exposed_by == ()


async def test_a_session_is_refused_before_anything_begins_where_it_is_not_granted(world: World) -> None:
    world.settings["memory"] = "{notes: true}"
    with pytest.raises(RemitError, match=r"memory\.not_granted"):
        await world.run("Hello.", says("Hi."))
    assert not world.store.runs


@pytest.mark.parametrize("name", ["", "a/b", "../x", "session/S", "a" * 129, "S\n", "notes\0", " S"])
async def test_no_forged_name_leads_out_of_the_sessions(name: str) -> None:
    with pytest.raises(RemitError, match=r"usage\.invalid"):
        session_list(name)


@pytest.mark.parametrize("forge", [
    lambda place: actions.memory_read(place, "OTHER"),
    lambda place: actions.turn_write(place, "OTHER", "t", "a"),
    lambda place: actions.summary_write(place, "OTHER", "s", 1),
], ids=["read", "turn", "summary"])  # fmt: skip
async def test_a_loop_cannot_reach_another_session_than_its_runs_own(
    world: World, forge: Callable[[Place], Any]
) -> None:
    await world.run("The code is 4711.", says("Noted."), session="OTHER")
    result = await world.run("Mine.", says("Yours."))
    governed = GovernedRun(run=result.run, rules=world.rules, seen=Seen())
    place = Place(run_id=result.run.id, step=1, name="forged", principal=ALICE)
    outcome = await world.gate.perform(forge(place), governed)
    assert isinstance(outcome, Refused)
    assert outcome.decision.code == "policy.error"


async def test_a_store_that_is_away_at_the_start_is_tried_again_and_then_fails_the_run(world: World) -> None:
    await world.run("One.", says("1."))
    working, world.memory = world.memory, Away(1, world.memory)
    result = await world.run("Two.", says("2."))
    assert (result.end.status, result.attempts) == ("succeeded", 2)
    assert world.told()[0] == ("user", "One.")
    world.memory = Away(9, working)
    result = await world.run("Three.", says("3."))
    assert (result.end.status, result.end.code) == ("failed", "memory.unavailable")


async def test_a_turn_that_cannot_be_kept_costs_nobody_the_answer_but_is_said(world: World) -> None:
    world.settings["memory"] = "{sessions: true, session_bytes_max: 1000}"
    result = await world.run("x" * 990, says("A long answer."))
    assert (result.end.status, result.end.answer) == ("succeeded", "A long answer.")
    assert result.end.message == (
        "this turn is not kept in its session: memory.full: it would hold 1004 bytes, "
        "and memory.session_bytes_max is 1000"
    )


async def test_a_turn_that_was_withdrawn_is_kept_when_the_run_goes_on(world: World) -> None:
    """Whoever was told to end between the record and the write has written nothing; the next process does."""
    gone = Gone(world.memory)
    world.memory = gone
    runner = world.runner(says("1."))
    running = asyncio.create_task(runner.run("One.", ALICE, session="S"))
    await gone.asked.wait()
    runner.hand_over()
    result = await running
    assert (result.end.status, result.end.code) == ("suspended", "run.handed_over")
    world.memory = gone.memory
    resumed = await world.runner().resume(result.run.id)
    assert (resumed.end.status, resumed.end.answer, resumed.end.message) == ("succeeded", "1.", "")
    await world.run("Two.", says("2."))
    assert world.told() == [("user", "One."), ("assistant", "1."), ("user", "Two.")]


class Gone:
    """A store that never answers a write."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory
        self.asked = asyncio.Event()

    async def append(self, _keep: Any) -> None:
        self.asked.set()
        await asyncio.Event().wait()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.memory, name)


class Away:
    """A store that is away for its first calls."""

    def __init__(self, times: int, memory: Any) -> None:
        self.times, self.memory = times, memory

    def __getattr__(self, name: str) -> Any:
        if self.times > 0:
            self.times -= 1
            raise RemitError("memory.unavailable", "it is away")
        return getattr(self.memory, name)


class TestCompaction:
    """What is too long is summarised by the model, within the budget, and on record."""

    @pytest.fixture
    async def long(self, world: World) -> World:
        world.settings["memory"] = "{sessions: true, session_tokens_max: 500}"
        for number in range(4):
            await world.run(f"{number}: " + "q" * 300, says(f"{number}: " + "a" * 300))
        return world

    async def test_the_older_part_is_summarised_once_and_the_newer_stays(self, long: World) -> None:
        result = await long.run("Five?", says("They counted to 1."), says("5."))
        assert result.end.status == "succeeded"
        summary, asked = long.model.requests
        assert summary.tools == ()
        assert "0: qqq" in text_of(summary.messages[0])
        assert "3: qqq" not in text_of(summary.messages[0])
        first = text_of(asked.messages[0])
        assert first.startswith("[remit] The conversation before this, in short:\nThey counted to 1.")
        await long.run("Six?", says("6."))
        assert [len(text) for _, text in long.told()][1:] == [303, 5, 2, 4]
        assert "They counted to 1." in long.told()[0][1]

    async def test_without_money_for_it_the_newest_that_fit_are_given_and_the_model_is_told(
        self, long: World
    ) -> None:
        small = long.settings["memory"]
        long.settings["memory"] = "{sessions: true, session_tokens_max: 5000}"
        for task in ("m" * 6000, "q" * 800):
            await long.run(task, says("OK"))
        long.settings |= {"memory": small, "per_run": 0.005}
        result = await long.run("Five?", says("5."))
        assert result.end.status == "succeeded"
        assert long.told()[0][1].startswith("[remit] 10 earlier messages of this conversation are left out")
        refusals = [one for one in await long.audit(result.run.id) if one["kind"] == "refusal"]
        assert [(one["call"], one["code"]) for one in refusals] == [("0.m1", "budget.exhausted")]

    @pytest.mark.parametrize("summary", [says("Short."), EffectFailed("model.failed", "no")])
    async def test_a_run_that_goes_on_has_the_same_conversation(self, long: World, summary: Any) -> None:
        waiting = await long.run("Five?", summary, calls(("look", {"what": "secret"})))
        assert waiting.end.status == "suspended"
        was = long.told(1)
        await approve(long, (await long.journal.approvals())[0])
        resumed = await long.runner(says("5.")).resume(waiting.run.id)
        assert resumed.end.status == "succeeded"
        assert long.told(0)[: len(was)] == was

    async def test_what_is_erased_takes_the_summaries_with_it(self, long: World) -> None:
        await long.run("Five?", says("They counted to 1."), says("5."))
        scope, name = Scope("default", "a"), session_list("S")
        await long.memory.erase(scope, name, [1], long.clock.now_us())
        texts = [one.entry.text for one in await long.memory.entries(scope, name, 0)]
        assert "They counted to 1." not in texts
        assert len(texts) == 9


class Counting:
    """A store that counts the texts that it was read, for each reading."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory
        self.read_texts: list[int] = []

    async def read(self, *given: Any) -> Any:
        kept = await self.memory.read(*given)
        self.read_texts.append(len(kept))
        return kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self.memory, name)


async def test_a_long_session_is_read_by_its_newest_part_and_grows_by_its_new_texts(world: World) -> None:
    world.settings["memory"] = "{sessions: true, session_tokens_max: 500}"
    world.memory = Counting(world.memory)
    for number in range(60):
        replies = [says(f"{number:03}" + "a" * 197), says(f"{number:03}" + "b" * 197)]
        result = await world.run(f"{number:03}" + "q" * 197, *replies)
        assert result.end.status == "succeeded"
    # what fits and one turn, of 120 texts; and of the summaries the newest
    assert max(world.memory.read_texts) == 12
    entries = [one.entry for one in await world.memory.entries(Scope("default", "a"), session_list("S"), 0)]
    summaries = [entry for entry in entries if entry.role == "summary"]
    assert len(entries) - len(summaries) == 120
    assert 10 <= len(summaries) <= 30
    journaled = [
        len(call.completion.result) for call in world.store.calls.values() if call.completion is not None
    ]
    assert max(journaled) < 600  # no result in the journal repeats the session
