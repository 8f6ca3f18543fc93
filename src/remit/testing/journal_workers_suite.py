"""The part of the `Journal` port's conformance suite that is about workers: leases, lost runs, the queue."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from remit.core.actions import Principal
from remit.core.errors import RemitError
from remit.core.runs import RunEnd, RunRecord, RunStatus
from remit.ports.journal import AuditQuery, Journal, Recorded
from remit.ports.runs import INTERRUPTIONS_MAX, Queueing, ReadyRun, RunEnding, StartRun
from remit.testing.fakes import FakeClock
from remit.testing.journal_values import (
    REMIT,
    JournalPlace,
    Z,
    admission_of,
    completion_of,
    digest_of,
    ending_of,
    hold_of,
    kind_of,
    run_of,
    started,
)

SECOND = 1_000_000


class JournalWorkersSuite:
    """What every journal promises of workers; `JournalSuite` holds these tests too."""

    async def test_a_run_of_a_dead_process_waits_for_another_and_its_money_is_presumed(
        self, place: JournalPlace
    ) -> None:
        journal, clock = await started(place), place.clock
        admission = admission_of("r.1.t", clock, holds=(hold_of(100),), amount_nano_usd=60)
        await journal.admit(admission)
        await journal.close()
        journal = place.open()
        assert tuple(await journal.interrupt_runs(5)) == ("r",)
        assert tuple(await journal.interrupt_runs(6)) == ()
        record = await _record(journal, "r")
        assert record.end is not None
        assert (record.status, record.end.code) == ("suspended", "run.interrupted")
        (balance,) = await journal.balances()
        assert (balance.spent_nano_usd, balance.held_nano_usd, balance.presumed_nano_usd) == (60, 0, 60)
        assert len(await journal.audit(AuditQuery(open_only=True))) == 1
        again = await journal.admit(admission)
        assert isinstance(again, Recorded)
        assert again.state == "unknown"
        assert await _ready(journal, place) == ["r"]
        await journal.close()

    async def test_nobody_interrupts_the_runs_of_a_worker_that_holds_its_lease(
        self, place: JournalPlace
    ) -> None:
        clock, other = place.clock, place.open("other")
        journal = place.open("one")
        for run_id in ("r", "created"):
            await journal.create_run(StartRun(run=run_of(run_id), audit=Z))
        assert not await journal.hold_lease(10 * SECOND)
        assert list(await other.workers()) == ["one"]
        await journal.begin_run("r", 1000, clock.now_us())
        await journal.admit(admission_of("r.1.t", clock, holds=(hold_of(100),), amount_nano_usd=60))
        clock.advance(9)
        assert await other.interrupt_runs(5) == ()
        assert await journal.hold_lease(10 * SECOND)
        clock.advance(9.999999)
        assert await other.interrupt_runs(5) == ()
        (balance,) = await other.balances()
        assert (balance.held_nano_usd, balance.presumed_nano_usd) == (60, 0)
        clock.advance(0.000001)
        assert list(await other.workers()) == []
        assert sorted(await other.interrupt_runs(clock.now_us())) == ["created", "r"]
        (balance,) = await other.balances()
        assert (balance.held_nano_usd, balance.presumed_nano_usd) == (0, 60)
        assert sorted(await _ready(other, place)) == ["created", "r"]
        # it was only slow: it is told, and performs nothing for a run that was taken from it
        assert not await journal.hold_lease(10 * SECOND)
        assert await journal.hold_lease(10 * SECOND)
        assert kind_of(await journal.admit(admission_of("r.2.t", clock))) == "run"
        await journal.close()
        await other.close()

    async def test_a_run_is_the_workers_that_began_it_and_no_others(self, place: JournalPlace) -> None:
        one, two, clock = await _lost_and_taken(place)
        assert (list(await one.held_runs()), list(await two.held_runs())) == ([], ["r"])
        # what the first still wants to do for it is refused; what it had begun is recorded all the same
        assert kind_of(await one.admit(admission_of("r.2.t", clock))) == "run"
        assert not await one.end_run("r", ending_of("failed"), clock.now_us())
        late = await one.complete(completion_of("r.1.t", clock, ending=ending_of("succeeded")))
        assert not late.run_ended
        assert (await _record(two, "r")).status == "running"
        assert kind_of(await two.admit(admission_of("r.1.t", clock))) == "Recorded"
        assert kind_of(await two.admit(admission_of("r.2.t", clock))) == "Admitted"
        assert await two.end_run("r", ending_of("failed"), clock.now_us())
        assert list(await two.held_runs()) == []
        for journal in (one, two):
            await journal.close()

    async def test_who_lost_a_run_does_not_end_it_while_it_waits(self, place: JournalPlace) -> None:
        one, two, clock = await _lost_and_taken(place)
        await two.end_run("r", RunEnding(end=RunEnd(status="suspended", code="run.handed_over"), audit=Z), 1)
        for journal in (one, two):
            statuses: tuple[RunStatus, ...] = ("cancelled", "failed", "timed_out")
            for status in statuses:
                assert not await journal.end_run("r", ending_of(status), clock.now_us())
        assert await _ready(two, place) == ["r"]
        for journal in (one, two):
            await journal.close()

    async def test_a_pause_that_is_over_before_the_run_waits_for_it_holds_nothing(
        self, place: JournalPlace
    ) -> None:
        journal, clock = await started(place), place.clock
        await journal.set_control("agent:t/a", True, "drill", clock.now_us(), Z)
        await journal.set_control("agent:t/a", False, "", clock.now_us(), Z)
        paused = RunEnding(end=RunEnd(status="suspended", code="agent.paused"), audit=Z)
        await journal.end_run("r", paused, clock.now_us())
        assert await _ready(journal, place) == ["r"]
        await journal.close()

    async def test_anybody_cancels_a_run(self, place: JournalPlace) -> None:
        one, two, clock = await _lost_and_taken(place)
        assert await one.cancel_run("r", ending_of("cancelled"), clock.now_us())
        assert not await two.cancel_run("r", ending_of("cancelled"), clock.now_us())
        assert kind_of(await two.admit(admission_of("r.2.t", clock))) == "run"
        assert await _ready(two, place) == []
        for journal in (one, two):
            await journal.close()

    async def test_the_story_of_a_run_names_who_lost_it_and_who_took_it(self, place: JournalPlace) -> None:
        one, two, _ = await _lost_and_taken(place)
        records = [json.loads(entry.body) for entry in await two.audit(AuditQuery())]
        told = [(one["kind"], one.get("worker")) for one in records if one.get("worker")]
        assert told == [("run.ended", "one"), ("run.taken", "two")]
        for journal in (one, two):
            await journal.close()

    async def test_what_was_begun_is_begun_again_only_where_that_is_asked_for(
        self, place: JournalPlace
    ) -> None:
        one, two, clock = await _lost_and_taken(place, holds=(hold_of(100),), amount_nano_usd=60)
        admission = admission_of("r.1.t", clock, holds=(hold_of(100),), amount_nano_usd=60)
        assert kind_of(await two.admit(admission)) == "in_flight"
        again = admission._replace(again=True)
        assert kind_of(await two.admit(again._replace(action_digest=digest_of("y")))) == "conflict"
        assert kind_of(await one.admit(again)) == "Recorded"  # unknown, to who lost the run
        await two.set_control("tool:pay", True, "broken", clock.now_us(), Z)
        assert kind_of(await two.admit(again)) == "paused"
        await two.set_control("tool:pay", False, "", clock.now_us(), Z)
        intents = len(await two.audit(AuditQuery(kind="intent")))
        assert kind_of(await two.admit(again)) == "Admitted"
        assert len(await two.audit(AuditQuery(kind="intent"))) == intents + 1
        # what it takes is taken already, and it has one outcome
        (balance,) = await two.balances()
        assert (balance.spent_nano_usd, balance.held_nano_usd) == (60, 0)
        await two.complete(completion_of("r.1.t", clock, cost_nano_usd=50))
        (balance,) = await two.balances()
        assert (balance.spent_nano_usd, balance.presumed_nano_usd) == (50, 0)
        with pytest.raises(RemitError, match=r"action\.conflict"):
            await one.complete(completion_of("r.1.t", clock))
        assert kind_of(await two.admit(again)) == "Recorded"
        for journal in (one, two):
            await journal.close()

    async def test_a_late_outcome_lets_a_run_go_on_that_waits_for_it(self, place: JournalPlace) -> None:
        one, two, clock = await _lost_and_taken(place)
        waits = RunEnding(end=RunEnd(status="suspended", code="effect.unknown"), audit=Z)
        await two.end_run("r", waits, clock.now_us())
        assert await _ready(two, place) == []
        await one.complete(completion_of("r.1.t", clock))
        assert not await one.end_run("r", ending_of("failed"), clock.now_us())
        assert await _ready(two, place) == ["r"]
        for journal in (one, two):
            await journal.close()

    async def test_a_run_whose_workers_die_waits_ever_longer_and_is_given_up_at_last(
        self, place: JournalPlace
    ) -> None:
        journal, clock = await started(place), place.clock
        waits = []
        for _ in range(INTERRUPTIONS_MAX - 1):
            assert list(await journal.interrupt_runs(clock.now_us())) == ["r"]
            waited = 0
            while await _ready(journal, place) == []:
                clock.advance(1)
                waited += 1
            waits.append(waited)
            assert await journal.begin_run("r", 1000, clock.now_us())
        assert waits == [0, 1, 2, 4][: INTERRUPTIONS_MAX - 1]
        assert list(await journal.interrupt_runs(clock.now_us())) == ["r"]
        record = await _record(journal, "r")
        assert record.end is not None
        assert (record.status, record.end.code) == ("failed", "run.interrupted")
        assert await _ready(journal, place) == []
        await journal.close()

    async def test_who_was_silent_for_so_long_that_it_is_forgotten_has_lost_its_lease(
        self, place: JournalPlace
    ) -> None:
        one, two = place.open("one"), place.open("two")
        await one.hold_lease(10 * SECOND)
        place.clock.advance(10 * 86_400)
        await two.interrupt_runs(place.clock.now_us())
        assert not await one.hold_lease(10 * SECOND)
        for journal in (one, two):
            await journal.close()

    async def test_all_workers_have_one_time(self, place: JournalPlace) -> None:
        one, two = place.open("one"), place.open("two")
        times = [await journal.now_us() for journal in (one, two, one, two)]
        assert times == sorted(times)
        for journal in (one, two):
            await journal.close()

    async def test_who_is_alone_ends_the_leases_of_all_others(self, place: JournalPlace) -> None:
        one, two = place.open("one"), place.open("two")
        await one.hold_lease(10 * SECOND)
        await two.hold_lease(10 * SECOND, alone=True)
        assert list(await two.workers()) == ["two"]
        assert not await one.hold_lease(10 * SECOND)
        assert list(await two.workers()) == ["one", "two"]
        for journal in (one, two):
            await journal.close()

    async def test_a_queued_run_is_anybodys_and_its_deadline_waits_with_it(self, place: JournalPlace) -> None:
        one, two, clock = place.open("one"), place.open("two"), place.clock
        run = replace(run_of("r"), created_at_us=clock.now_us(), deadline_us=clock.now_us() + 90)
        queueing = Queueing(urgency=100, max_queued=10)
        await one.create_run(StartRun(run=run, audit=Z, queueing=queueing))
        assert list(await one.interrupt_runs(clock.now_us())) == []  # it is nobody's, and waits
        ready = await two.ready_runs("a", REMIT, clock.now_us())
        assert list(ready) == [ReadyRun(run_id="r", tenant="t", urgency=100, segment=0)]
        clock.advance(1)
        assert await two.begin_run("r", 1, clock.now_us())
        assert (await _record(two, "r")).run.deadline_us == run.deadline_us + SECOND
        assert await _ready(one, place) == []
        with pytest.raises(RemitError, match=r"run\.not_running"):
            await one.begin_run("r", 1, clock.now_us())
        for journal in (one, two):
            await journal.close()

    async def test_no_more_runs_are_queued_than_may_be(self, place: JournalPlace) -> None:
        journal = place.open()
        queueing = Queueing(urgency=500, max_queued=2)
        for name in ("a", "b"):
            await journal.create_run(StartRun(run=run_of(name), audit=Z, queueing=queueing))
        with pytest.raises(RemitError, match=r"queue\.full"):
            await journal.create_run(StartRun(run=run_of("c"), audit=Z, queueing=queueing))
        assert await journal.run("c") is None
        for other in (run_of("d", agent="other"), replace(run_of("e"), tenant="u")):
            await journal.create_run(StartRun(run=other, audit=Z, queueing=queueing))
        await journal.create_run(StartRun(run=run_of("attended"), audit=Z))
        await journal.begin_run("a", 1, 0)
        await journal.cancel_run("attended", ending_of("cancelled"), 0)
        await journal.create_run(StartRun(run=run_of("c"), audit=Z, queueing=queueing))
        await journal.close()

    async def test_a_run_is_created_once_also_where_many_try_and_the_queue_is_full(
        self, place: JournalPlace
    ) -> None:
        one, two = place.open("one"), place.open("two")
        start = StartRun(run=run_of("r"), audit=Z, queueing=Queueing(urgency=500, max_queued=1))
        other = replace(start, run=replace(run_of("r"), tenant="other", deadline_us=7), audit=Z + b" ")
        created = await asyncio.gather(*(journal.create_run(start) for journal in (one, two) * 10))
        assert sorted(created) == [False] * 19 + [True]
        assert not await two.create_run(other)
        assert (await _record(two, "r")).run == start.run
        assert [entry.body for entry in await two.audit(AuditQuery())] == [Z]
        assert await one.begin_run("r", 1, place.clock.now_us())
        await one.end_run("r", ending_of("failed"), place.clock.now_us())
        assert not await one.create_run(start)
        for journal in (one, two):
            await journal.close()

    async def test_the_last_run_that_somebody_asked_for(self, place: JournalPlace) -> None:
        journal = place.open()
        asker = Principal(kind="service", id="schedule:s", tenant="t")
        assert await journal.last_run("a", asker) is None
        for name, agent, principal in (
            ("b", "a", asker),
            ("a", "a", asker),
            ("c", "other", asker),
            ("d", "a", replace(asker, tenant="u")),
            ("e", "a", replace(asker, id="schedule:t")),
            ("f", "a", replace(asker, roles=("x",))),
        ):
            run = run_of(name, agent=agent)
            run = replace(run, task=replace(run.task, principal=principal))
            await journal.create_run(StartRun(run=run, audit=Z))
        found = await journal.last_run("a", asker)
        assert found == await journal.run("a")
        await journal.close()

    async def test_a_segment_is_put_into_the_queue_once_and_again_where_it_was_lost(
        self, place: JournalPlace
    ) -> None:
        journal, clock = place.open(), place.clock
        queueing = Queueing(urgency=500, max_queued=9)
        await journal.create_run(StartRun(run=run_of("r"), audit=Z, queueing=queueing))
        assert await _queued(journal, place) == ([], [("r", 0)])
        await journal.note_queued("r", 1, True)
        assert await _queued(journal, place) == ([("r", 1)], [])
        await journal.note_queued("r", 0, False)  # of an older segment
        assert await _queued(journal, place) == ([("r", 1)], [])
        await journal.note_queued("r", 1, False)
        assert await _queued(journal, place) == ([], [("r", 1)])
        await journal.note_queued("r", 2, True)
        await journal.begin_run("r", 1, clock.now_us())
        await journal.note_queued("r", 2, True)  # it was said too late
        await journal.end_run("r", ending_of("failed"), clock.now_us())
        assert await _queued(journal, place) == ([], [])
        await journal.close()

    async def test_the_next_segment_of_a_run_has_the_next_number(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        waits = RunEnding(end=RunEnd(status="suspended", code="run.handed_over"), audit=Z)
        given: set[int] = set()
        for number in range(4):
            await journal.end_run("r", waits, clock.now_us())
            (ready,) = await journal.ready_runs("a", REMIT, clock.now_us(), is_queued=False)
            assert ready.segment + 1 not in given
            given.add(ready.segment + 1)
            if number % 2:
                await journal.note_queued("r", ready.segment + 1, True)
            assert await journal.begin_run("r", 1, clock.now_us())
            await journal.note_queued("r", ready.segment + 1, True)  # it comes late, or again
        await journal.close()


async def _lost_and_taken(place: JournalPlace, **call: object) -> tuple[Journal, Journal, FakeClock]:
    """A run that worker one began a call of, lost, and that worker two has now."""
    one, two, clock = place.open("one"), place.open("two"), place.clock
    await one.create_run(StartRun(run=run_of("r"), audit=Z))
    await one.hold_lease(SECOND)
    await one.begin_run("r", 1000, clock.now_us())
    await one.admit(admission_of("r.1.t", clock, **call))
    clock.advance(1)
    await two.hold_lease(60 * SECOND)
    assert list(await two.interrupt_runs(clock.now_us())) == ["r"]
    assert await two.begin_run("r", 1000, clock.now_us())
    return one, two, clock


async def _record(journal: Journal, run_id: str) -> RunRecord:
    record = await journal.run(run_id)
    assert record is not None
    return record


async def _ready(journal: Journal, place: JournalPlace) -> list[str]:
    return [one.run_id for one in await journal.ready_runs("a", REMIT, place.clock.now_us())]


async def _queued(
    journal: Journal, place: JournalPlace
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """The runs that are in the queue, and those that are not, each with its segment."""
    found = []
    for is_queued in (True, False):
        ready = await journal.ready_runs("a", REMIT, place.clock.now_us(), is_queued=is_queued)
        found.append([(one.run_id, one.segment) for one in ready])
    return found[0], found[1]
