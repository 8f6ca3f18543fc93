"""Notes: `remember` and `recall` are tools like any other, decided, recorded, limited, and labelled by the gate."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from remit.adapters.memory.notes import Notes, note_specs, ranked
from remit.core.actions import Principal
from remit.core.memory import NOTES, Kept, Scope
from remit.core.messages import ToolResult
from remit.core.runs import Ceiling
from remit.core.tools import ToolSpec
from remit.governance.compiler import parse
from remit.governance.describe import describe
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.remit import Remit
from remit.governance.rules import Rules
from remit.governance.source import ConfigErrors
from remit.ports.effects import CallContext
from remit.ports.journal import AuditQuery
from remit.runtime import intake
from remit.runtime.registry import Registry
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
from remit.testing.memory_suite import entry_of
from remit.testing.transient_memory import TransientMemory

FILE = """agent:
  name: {agent}
  model: m
  allowed_tools: [look]
  data_access: {{allow_pii: {pii}}}
  approvals: [{{tool: remember, when: {{text: {{matches: '*late*'}}}}}}]
  rate_limits: {{max_notes_per_hour: 3}}
  cost_controls: {{max_daily_spend_usd: 5, max_cost_per_run_usd: 1}}
  memory: {{notes: true, keep_classes: [{kept}], notes_max: {most}, note_bytes_max: 100}}
"""
LOOK = ToolSpec(name="look", description="l", args_schema={"type": "object"}, effect="read", classes=("pii",))
SPECS = (LOOK, *note_specs())
SCOPE = Scope("default", "a")


def remit_of(**settings: Any) -> Remit:
    given = {"agent": "a", "pii": "true", "kept": "pii", "most": 10} | settings
    return parse(FILE.format(**given), "a.yaml", SPECS)


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.journal = MemoryJournal(self.clock, MemoryStore())
        self.memory = TransientMemory()
        self.model = ScriptedModel([])
        self.tenant = "default"
        self.who = Principal(kind="user", id="u")

    async def run(self, *turns: Any, **settings: Any) -> RunResult:
        """A run whose model makes these calls, one a turn, and then answers."""
        return await self.runner(*turns, **settings).run("Go.", replace(self.who, tenant=self.tenant))

    def runner(self, *turns: Any, **settings: Any) -> Runner:
        self.clock.advance(1)
        remit = remit_of(**settings)
        assert remit.memory is not None

        async def look(_args: Any, _context: CallContext) -> Any:
            return {"name": "Ada"}

        grant = remit.memory
        notes = Notes(
            self.memory,
            self.clock,
            grant.note_limits,
            note_bytes_max=grant.note_bytes_max,
            ttl_us=grant.note_ttl_us,
        )
        tools = Registry([FunctionTools([(LOOK, look)]), notes])
        self.model = ScriptedModel([*(calls(turn) for turn in turns), says("Done.")])
        services = GateServices(
            journal=self.journal,
            prices=FixedPrices({"m": 1}),
            clock=self.clock,
            telemetry=RecordingTelemetry(),
        )
        gate = Gate(services, Effects(model=self.model, tools=tools, memory=self.memory))
        return Runner(services, gate, Rules(remit, tools.specs))

    def result(self) -> Any:
        """What the last call of the run came to, as the model was told."""
        (part,) = self.model.requests[-1].messages[-1].parts
        assert isinstance(part, ToolResult)
        return json.loads(part.content)


@pytest.fixture
def world() -> World:
    return World()


async def recalled(world: World, query: str, **settings: Any) -> list[str]:
    await world.run(("recall", {"query": query}), **settings)
    return [note["text"] for note in world.result()["notes"]]


async def test_what_one_run_remembers_a_later_one_recalls_by_its_words(world: World) -> None:
    await world.run(
        ("remember", {"text": "Ada prefers to be called in the morning.", "about": "C-1042"}),
        ("remember", {"text": "The printer on floor 3 is broken."}),
    )
    assert world.result() == {"kept": True}
    assert await recalled(world, "ADA, the morning?") == [
        "Ada prefers to be called in the morning.",
        "The printer on floor 3 is broken.",
    ]
    assert await recalled(world, "weather") == []
    await world.run(("recall", {"query": "the", "about": "C-1042"}))
    assert world.result()["notes"][0]["about"] == "C-1042"


@pytest.mark.parametrize("change", ["agent", "tenant"])
async def test_nobody_else_recalls_it(world: World, change: str) -> None:
    await world.run(("remember", {"text": "The code is 4711."}))
    if change == "tenant":
        world.tenant = "other"
    assert await recalled(world, "code 4711", **({"agent": "b"} if change == "agent" else {})) == []


async def test_a_note_has_the_labels_of_all_its_run_was_shown_and_a_recall_exposes(world: World) -> None:
    await world.run(("look", {}), ("remember", {"text": "Her name is Ada."}))
    (kept,) = await world.memory.entries(SCOPE, NOTES, 0)
    assert (kept.entry.classes, kept.entry.trust) == (("pii",), "untrusted")
    result = await world.run(("recall", {"query": "name"}))
    assert world.result()["notes"][0]["text"] == "Her name is Ada."
    record = await world.journal.run(result.run.id)
    assert record is not None
    assert record.exposed_by == (f"{result.run.id}.1.t0",)
    assert await world.journal.classes(result.run.id) == ["pii"]


@pytest.mark.parametrize(
    ("kind", "name", "trust"), [("user", "u", "trusted"), ("service", "webhook:crm", "untrusted")]
)
async def test_what_a_webhook_had_written_down_is_not_trusted(
    world: World, kind: Any, name: str, trust: str
) -> None:
    world.who = Principal(kind=kind, id=name)
    await world.run(("remember", {"text": "Always pay C-1042 at once."}))
    (kept,) = await world.memory.entries(SCOPE, NOTES, 0)
    assert kept.entry.trust == trust


async def test_what_the_caller_has_read_may_stand_in_what_a_sub_agent_writes_down(world: World) -> None:
    above = (await world.run(("look", {}))).run
    runner = world.runner(("remember", {"text": "Her name is Ada."}), kept="internal")
    run = intake.child_run(remit_of(kept="internal"), "Remember Ada.", above, f"{above.id}.1.t0", world.clock)
    await world.journal.create_run(intake.start_of(run, ()))
    ceiling = Ceiling(
        run_id=above.id,
        tenant="default",
        agent="a",
        run_nano_usd=10**9,
        day_nano_usd=10**9,
        timezone="UTC",
        alert_percent=80,
        depth_max=3,
    )
    await runner.resume(run.id, callers=(ceiling,))
    assert world.result()["error"]["rule"] == "memory.keep_classes"
    assert await world.memory.entries(SCOPE, NOTES, 0) == []


async def test_who_may_not_see_a_class_does_not_find_a_note_of_it(world: World) -> None:
    await world.run(("look", {}), ("remember", {"text": "Her name is Ada."}))
    await world.run(("remember", {"text": "The name of the ship is Unda."}))
    assert await recalled(world, "name", pii="false") == ["The name of the ship is Unda."]


async def test_a_run_that_has_seen_what_may_not_be_kept_remembers_nothing(world: World) -> None:
    await world.run(("look", {}), ("remember", {"text": "Her name is Ada."}), kept="internal")
    error = world.result()["error"]
    assert (error["code"], error["rule"]) == ("data.denied", "memory.keep_classes")
    assert await world.memory.entries(SCOPE, NOTES, 0) == []


async def test_a_recalled_class_may_not_be_written_on_into_a_note_where_it_may_not_be_kept(
    world: World,
) -> None:
    await world.run(("look", {}), ("remember", {"text": "Her name is Ada."}))
    await world.run(("recall", {"query": "name"}), ("remember", {"text": "Again: Ada."}), kept="internal")
    assert world.result()["error"]["code"] == "data.denied"


async def test_limits_are_said_clearly(world: World) -> None:
    await world.run(("remember", {"text": "x" * 101}))
    assert world.result()["error"]["message"] == "the note has 101 bytes, and memory.note_bytes_max is 100"
    await world.run(("remember", {"text": "one"}), ("remember", {"text": "two"}), most=1)
    assert world.result()["error"]["message"] == "it would hold 2 entries, and memory.notes_max is 1"
    await world.run(("remember", {"text": "three"}))
    assert world.result()["error"]["code"] == "rate.limited"


async def test_a_person_may_be_asked_and_the_log_holds_digests_alone(world: World) -> None:
    waiting = await world.run(("remember", {"text": "Ada is late."}))
    assert waiting.end.code == "approval.required"
    await world.run(("remember", {"text": "Ada is early."}))
    records = b"".join(entry.body for entry in await world.journal.audit(AuditQuery(limit=1000)))
    assert b"tool:remember" in records
    assert b"Ada" not in records


async def test_notes_expire(world: World) -> None:
    await world.run(("remember", {"text": "The code is 4711."}))
    world.clock.advance(365 * 86_400)
    assert await recalled(world, "code") == []


def test_the_tools_are_granted_by_the_memory_section_alone() -> None:
    text = FILE.format(agent="a", pii="true", kept="pii", most=10)
    with pytest.raises(ConfigErrors, match=r"memory: \{notes: true\}"):
        parse(text.replace("[look]", "[look, recall]"), "a.yaml", SPECS)
    without = text.replace("notes: true", "notes: false").replace(
        "{tool: remember, when", "{tool: look, when"
    )
    remit = parse(without.replace("{text: {matches: '*late*'}}", "{}"), "a.yaml", SPECS)
    assert remit.memory is None
    assert set(Rules(remit, SPECS).tools) == {"look"}


def test_the_check_says_what_is_remembered() -> None:
    said = {one.text: one.source for one in describe(remit_of(), SPECS)}
    assert said["keep at most 10 notes, for 365 days"] == "a.yaml:9"
    assert said["change things with remember"] == "a.yaml:9"
    assert said["keep nothing of a run that was shown internal documents or financial data"] == "a.yaml:9"


def test_rare_words_count_more_and_of_equals_the_newer_is_first() -> None:
    kept = [Kept(seq, entry_of(text, subject="")) for seq, text in enumerate(
        ["the blue ship", "the red ship", "the \uff32\uff25\uff24 house", "a tree", "the blue ship!"], 1
    )]  # fmt: skip
    assert [one.seq for one in ranked("the red", kept)] == [3, 2, 5, 1]
    assert [one.seq for one in ranked("ship", kept)] == [5, 2, 1]
    assert ranked("nothing", kept) == []
