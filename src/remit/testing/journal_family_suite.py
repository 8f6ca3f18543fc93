"""The part of the `Journal` port's conformance suite that is about runs that the calls of other runs have started."""

from __future__ import annotations

import json
from dataclasses import replace

import orjson

from remit.core.runs import RunEnd
from remit.ports.journal import AuditQuery, Journal
from remit.ports.runs import RunEnding, StartRun
from remit.testing.journal_values import (
    REMIT,
    JournalPlace,
    Z,
    admission_of,
    approval_of,
    completion_of,
    ending_of,
    kind_of,
    run_of,
    started,
    vote_on,
)

LABELS = {"digest": "", "trust": "untrusted", "truncated": False, "value": {"classes": ["internal"]}}


class JournalFamilySuite:
    """What every journal promises of a run and those below it; `JournalSuite` holds these tests too."""

    async def test_a_run_knows_by_which_call_it_was_started(self, place: JournalPlace) -> None:
        journal = await _family(place, "c", "d")
        child = await journal.run("c")
        assert child is not None
        assert (child.run.parent, child.run.depth, child.run.caller_id) == ("r.1.t0", 1, "r")
        assert [one.run.id for one in await journal.children("r")] == ["c", "d"]
        assert [one.run.id for one in await journal.children("c")] == []
        (above,) = [one for one in await journal.runs() if one.run.id == "r"]
        assert (above.run.parent, above.run.depth, above.run.caller_id) == (None, 0, None)
        await journal.close()

    async def test_a_run_is_ready_once_those_it_waits_for_have_ended_or_are_ready(
        self, place: JournalPlace
    ) -> None:
        journal, at_us = await _family(place, "c", "d"), place.clock.now_us()
        asked = approval_of("c.1.t", place.clock)
        await journal.request_approval(asked, Z)
        await _wait(journal, place, "c", "approval.required")
        await _wait(journal, place, "r", "run.waits")
        assert await _ready(journal, at_us) == []  # d is running
        await journal.end_run("d", ending_of("failed"), at_us)
        assert await _ready(journal, at_us) == []
        assert await _ready(journal, asked.expires_at_us) == ["r"]
        await journal.decide_approval(vote_on(asked), Z)
        # what was started goes on with the call that started it, and never by itself
        assert await _ready(journal, at_us) == ["r"]
        await journal.close()

    async def test_a_pause_that_ends_makes_the_runs_above_ready(self, place: JournalPlace) -> None:
        journal, at_us = await _family(place, "c"), place.clock.now_us()
        await journal.set_control("agent:t/a", True, "why", at_us, Z)
        await _wait(journal, place, "c", "agent.paused")
        await _wait(journal, place, "r", "run.waits")
        assert await _ready(journal, at_us) == []
        await journal.set_control("agent:t/a", False, "", at_us, Z)
        assert await _ready(journal, at_us) == ["r"]
        await journal.close()

    async def test_what_is_below_a_run_that_ends_is_cancelled_with_it(self, place: JournalPlace) -> None:
        journal, clock = await _family(place, "c", "d"), place.clock
        await _start(journal, place, "e", "c.1.t0", depth=2)
        await _wait(journal, place, "c", "run.waits")
        await journal.end_run("d", ending_of("succeeded"), clock.now_us())
        assert await journal.cancel_run("r", ending_of("cancelled"), clock.now_us())
        statuses = await journal.statuses(("r", "c", "d", "e"))
        assert statuses == {"r": "cancelled", "c": "cancelled", "d": "succeeded", "e": "cancelled"}
        assert kind_of(await journal.admit(admission_of("e.1.t", clock))) == "run"
        (call,) = await journal.calls("r")
        assert (call.state, await journal.audit(AuditQuery(open_only=True))) == ("cancelled", [])
        told = [json.loads(entry.body) for entry in await journal.audit(AuditQuery(kind="run.ended"))]
        assert [one.get("run") for one in told] == ["c", "e"]  # the others' records are the tests' own
        await journal.close()

    async def test_an_answer_that_ends_a_run_ends_what_is_below_it(self, place: JournalPlace) -> None:
        journal, clock = await _family(place, "c"), place.clock
        await journal.admit(admission_of("r.2.answer", clock, kind="release"))
        answered = completion_of("r.2.answer", clock, ending=ending_of("succeeded"))
        assert (await journal.complete(answered)).run_ended
        assert await journal.statuses(("r", "c")) == {"r": "succeeded", "c": "cancelled"}
        await journal.close()

    async def test_runs_of_a_dead_worker_wait_together(self, place: JournalPlace) -> None:
        journal, clock = await _family(place, "c"), place.clock
        assert sorted(await journal.interrupt_runs(clock.now_us())) == ["c", "r"]
        assert await _ready(journal, clock.now_us()) == ["r"]
        await journal.close()

    async def test_nobody_resolves_a_call_that_a_run_answers(self, place: JournalPlace) -> None:
        journal, clock = await _family(place, "c"), place.clock
        await journal.admit(admission_of("r.1.t1", clock))
        await _wait(journal, place, "c", "effect.unknown")
        await _wait(journal, place, "r", "run.waits")
        assert [call.action_id for call in await journal.unresolved()] == ["r.1.t1"]
        assert not await journal.resolve(completion_of("r.1.t0", clock, state="failed"))
        assert await journal.resolve(completion_of("r.1.t1", clock, state="failed"))
        await journal.close()

    async def test_a_call_that_waits_for_one_made_within_it_holds_nothing_up(
        self, place: JournalPlace
    ) -> None:
        journal, clock = await _family(place), place.clock
        asked = approval_of("r.1.t0-1@o", clock)
        await journal.request_approval(asked, Z)
        await _wait(journal, place, "r", "approval.required")
        assert list(await journal.unresolved()) == []
        assert not await journal.resolve(completion_of("r.1.t0", clock, state="failed"))
        assert await _ready(journal, clock.now_us()) == []
        await journal.decide_approval(vote_on(asked), Z)
        assert await _ready(journal, clock.now_us()) == ["r"]
        await journal.close()

    async def test_of_a_call_made_within_another_a_person_says_what_became(self, place: JournalPlace) -> None:
        journal, clock = await _family(place), place.clock
        await journal.admit(admission_of("r.1.t0-1@o", clock))
        await journal.admit(admission_of("r.1.t00", clock))  # another, whose id is longer
        await journal.complete(completion_of("r.1.t0-1@o", clock, state="unknown"))
        await _wait(journal, place, "r", "effect.unknown")
        assert [call.action_id for call in await journal.unresolved()] == ["r.1.t00", "r.1.t0-1@o"]
        assert not await journal.resolve(completion_of("r.1.t0", clock, state="failed"))
        assert await journal.resolve(completion_of("r.1.t0-1@o", clock, state="failed"))
        assert await _ready(journal, clock.now_us()) == []
        assert await journal.resolve(completion_of("r.1.t00", clock, state="failed"))
        assert await _ready(journal, clock.now_us()) == ["r"]
        # what is open when the run ends is answered by what was made within it
        await journal.cancel_run("r", ending_of("cancelled"), clock.now_us())
        states = {call.action_id: call.state for call in await journal.calls("r")}
        assert states["r.1.t0"] == "cancelled"
        await journal.close()

    async def test_the_classes_of_a_run_are_those_of_its_labels(self, place: JournalPlace) -> None:
        journal, clock = await _family(place, "c"), place.clock
        for place_in_run, classes in (("c.1.t0", ["pii"]), ("c.1.t1", ["internal", "pii"]), ("c.2.t0", [])):
            await journal.admit(admission_of(place_in_run, clock))
            result = orjson.dumps(LABELS | {"classes": classes})
            await journal.complete(completion_of(place_in_run, clock, result=result))
        await journal.admit(admission_of("c.3.t0", clock))
        failed = orjson.dumps({"code": "x", "message": "classes", "retryable": False, "happened": False})
        await journal.complete(completion_of("c.3.t0", clock, result=failed, state="failed"))
        assert list(await journal.classes("c")) == ["internal", "pii"]
        assert list(await journal.classes("r")) == []
        await journal.close()


async def _family(place: JournalPlace, *below: str) -> Journal:
    """A running run `r`, and runs below it that its open call `r.1.t0` has started."""
    journal = await started(place)
    await journal.admit(admission_of("r.1.t0", place.clock))
    for run_id in below:
        await _start(journal, place, run_id, "r.1.t0", depth=1)
    return journal


async def _start(journal: Journal, place: JournalPlace, run_id: str, parent: str, *, depth: int) -> None:
    await journal.create_run(StartRun(run=replace(run_of(run_id), parent=parent, depth=depth), audit=Z))
    assert await journal.begin_run(run_id, 1000, place.clock.now_us())


async def _wait(journal: Journal, place: JournalPlace, run_id: str, code: str) -> None:
    waits = RunEnding(end=RunEnd(status="suspended", code=code), audit=Z)
    assert await journal.end_run(run_id, waits, place.clock.now_us())


async def _ready(journal: Journal, at_us: int) -> list[str]:
    return [one.run_id for one in await journal.ready_runs("a", REMIT, at_us)]
