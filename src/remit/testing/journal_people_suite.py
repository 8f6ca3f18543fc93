"""The part of the `Journal` port's conformance suite that is about people: approvals, waiting runs, resolutions."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from remit.core.approvals import APPROVAL_TOPICS
from remit.core.controls import AgentLoad, Control
from remit.core.messages import Attachment
from remit.ports.journal import Journal
from remit.ports.runs import RunEnding, StartRun
from remit.testing.journal_values import (
    REMIT,
    JournalPlace,
    Z,
    admission_of,
    approval_of,
    completion_of,
    digest_of,
    ending_of,
    hold_of,
    kind_of,
    run_of,
    started,
    vote_on,
)


class JournalPeopleSuite:
    """What every journal promises of people; `JournalSuite` holds these tests too."""

    async def test_a_quorum_counts_different_people_over_two_journals(self, place: JournalPlace) -> None:
        journal, other = await started(place), place.open()
        asked = approval_of("r.1.t", place.clock, quorum=2, roles=("lead", "cfo"))
        await journal.request_approval(asked, Z)
        votes = [vote_on(asked, by=by) for by in ("user:p", "user:p", "user:u")]
        ended = await asyncio.gather(
            *(one.decide_approval(vote, Z) for vote in votes for one in (journal, other))
        )
        assert sum(one is not None for one in ended) == 1  # user:u asked for it
        assert await journal.approvals(pending_at_us=place.clock.now_us()) == [await other.approval(asked.id)]
        after = await other.decide_approval(vote_on(asked, by="user:q"), Z)
        assert after is not None
        assert (after.verdict, after.votes, after.roles) == ("approved", ("user:p", "user:q"), asked.roles)
        assert list(await other.approvals(pending_at_us=place.clock.now_us())) == []
        assert list(await other.approvals()) == [after]
        await journal.close()
        await other.close()

    async def test_an_edit_begins_the_count_anew_and_binds_the_approval(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        asked = approval_of("r.1.t", clock, quorum=2)
        await journal.request_approval(asked, Z)
        await journal.decide_approval(vote_on(asked), Z)
        edit = vote_on(asked, by="user:q", edited_digest=digest_of("edited"), edited_args=b"{}")
        assert await journal.decide_approval(edit, Z) is not None
        # who saw what was asked at first has not seen the edit
        assert await journal.decide_approval(vote_on(asked, by="user:s"), Z) is None
        after = await journal.decide_approval(vote_on(asked, digest=digest_of("edited")), Z)
        assert after is not None
        assert (after.verdict, after.edited_args) == ("approved", b"{}")
        original = admission_of("r.1.t", clock, approval_id=asked.id)
        assert kind_of(await journal.admit(original)) == "approval"
        edited = original._replace(action_digest=digest_of("edited"))
        assert kind_of(await journal.admit(edited)) == "Admitted"
        await journal.close()

    async def test_what_has_expired_is_not_decided(self, place: JournalPlace) -> None:
        journal = await started(place)
        asked = approval_of("r.1.t", place.clock)
        await journal.request_approval(asked, Z)
        for at_us, counts in ((asked.expires_at_us, False), (asked.expires_at_us - 1, True)):
            assert (await journal.decide_approval(vote_on(asked, at_us=at_us), Z) is not None) == counts
        await journal.close()

    async def test_request_reminder_and_escalation_are_told_once_each(self, place: JournalPlace) -> None:
        journal, other = await started(place), place.open()
        await journal.subscribe(APPROVAL_TOPICS)
        now_us = place.clock.now_us()
        asked = approval_of(
            "r.1.t",
            place.clock,
            roles=("lead",),
            remind_at_us=now_us + 10,
            escalate_at_us=now_us + 20,
            escalate_to=("cfo",),
        )
        for _ in range(2):
            await journal.request_approval(asked, Z)
        assert await journal.tell_due_approvals(now_us + 9) == 0
        for at_us in (now_us + 10, now_us + 20, now_us + 30):
            await asyncio.gather(*(one.tell_due_approvals(at_us) for one in (journal, other)))
        said = [json.loads(message.body) for message in await other.outbox()]
        assert sorted(one["type"] for one in said) == sorted(APPROVAL_TOPICS)
        escalated = await other.approval(asked.id)
        assert escalated is not None
        assert escalated.roles == ("lead", "cfo")
        await journal.close()
        await other.close()

    async def test_nobody_is_reminded_of_what_is_decided(self, place: JournalPlace) -> None:
        journal = await started(place)
        asked = approval_of("r.1.t", place.clock, remind_at_us=place.clock.now_us() + 10)
        await journal.request_approval(asked, Z)
        await journal.decide_approval(vote_on(asked, approves=False), Z)
        assert await journal.tell_due_approvals(place.clock.now_us() + 20) == 0
        await journal.close()

    async def test_a_run_is_ready_once_nothing_is_left_to_decide(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        first, second = approval_of("r.1.t0", clock), approval_of("r.1.t1", clock)
        for asked in (first, second):
            await journal.request_approval(asked, Z)
        await journal.end_run("r", _waits("approval.required"), clock.now_us())
        assert await _ready(journal, place) == []
        await journal.decide_approval(vote_on(first), Z)
        assert await _ready(journal, place) == []
        assert await _ready(journal, place, at_us=second.expires_at_us) == ["r"]  # it is told that it expired
        await journal.decide_approval(vote_on(second, approves=False), Z)
        assert await _ready(journal, place) == ["r"]
        assert list(await journal.ready_runs("a", "s" * 64, clock.now_us())) == []
        assert list(await journal.ready_runs("b", REMIT, clock.now_us())) == []
        assert await journal.begin_run("r", 1, clock.now_us())
        assert await _ready(journal, place) == []
        await journal.close()

    async def test_the_time_that_a_run_waits_is_not_its_own(self, place: JournalPlace) -> None:
        journal, clock = place.open(), place.clock
        run = replace(run_of("r"), deadline_us=clock.now_us() + 100)
        await journal.create_run(StartRun(run=run, audit=Z))
        await journal.begin_run("r", 1, clock.now_us())
        await journal.end_run("r", _waits("run.handed_over"), clock.now_us() + 40)
        assert await _ready(journal, place, at_us=clock.now_us() + 40) == ["r"]
        await journal.begin_run("r", 1, clock.now_us() + 1040)
        record = await journal.run("r")
        assert record is not None
        assert record.run.deadline_us == clock.now_us() + 1100
        await journal.close()

    async def test_what_was_paused_is_ready_once_it_is_resumed(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        await journal.set_control("agent:t/a", True, "drill", 7, Z)
        await journal.set_control("agent:t/a", True, "still", 9, Z)
        assert list(await journal.controls()) == [Control(scope="agent:t/a", reason="still", at_us=7)]
        await journal.end_run("r", _waits("agent.paused"), clock.now_us())
        assert list(await journal.agents()) == [
            AgentLoad(tenant="t", agent="a", queued=0, running=0, suspended=1)
        ]
        assert await _ready(journal, place) == []
        await journal.set_control("agent:t/a", False, "", clock.now_us(), Z)
        assert await _ready(journal, place) == ["r"]
        await journal.close()

    async def test_an_unknown_effect_is_resolved_once_and_its_run_is_ready(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        admission = admission_of("r.1.t", clock)
        await journal.admit(admission)
        await journal.complete(completion_of("r.1.t", clock, state="unknown"))
        found = completion_of("r.1.t", clock, state="failed", result=b'"found"')
        await journal.end_run("r", _waits("effect.unknown"), clock.now_us())
        assert [one.action_id for one in await journal.unresolved()] == ["r.1.t"]
        assert await _ready(journal, place) == []
        assert await journal.resolve(found)
        assert not await journal.resolve(found)
        assert list(await journal.unresolved()) == []
        assert await _ready(journal, place) == ["r"]
        await journal.begin_run("r", 1, clock.now_us())
        again = await journal.admit(admission)
        assert (kind_of(again), getattr(again, "state", ""), getattr(again, "result", b"")) == (
            "Recorded",
            "failed",
            b'"found"',
        )
        await journal.close()

    async def test_an_open_intent_is_resolved_when_its_run_has_stopped(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        await journal.admit(admission_of("r.1.t", clock, holds=(hold_of(100),), amount_nano_usd=60))
        found = completion_of("r.1.t", clock, state="failed")
        assert list(await journal.unresolved()) == []
        assert not await journal.resolve(found)  # it may be under way
        await journal.end_run("r", ending_of("failed"), clock.now_us())
        assert len(await journal.unresolved()) == 1
        assert await journal.resolve(found)
        (balance,) = await journal.balances()
        assert (balance.spent_nano_usd, balance.held_nano_usd) == (0, 0)
        await journal.close()

    async def test_refusals_attachments_and_statuses_are_read_again(self, place: JournalPlace) -> None:
        journal = place.open()
        pages = tuple(Attachment(media_type="image/png", data="AAAA", name=name) for name in "ba")
        await journal.create_run(StartRun(run=run_of("r"), audit=Z, attachments=pages))
        await journal.refuse("r.1.t0", b'{"code":"x"}', Z)
        await journal.refuse("r.1.t0", b'{"code":"y"}', Z)
        await journal.refuse("rr.1.t0", b"{}", Z)
        assert dict(await journal.refusals("r")) == {"r.1.t0": b'{"code":"x"}'}
        assert tuple(await journal.attachments("r")) == pages
        assert dict(await journal.statuses(("r", "nobody"))) == {"r": "queued"}
        assert dict(await journal.statuses(())) == {}
        many = [f"nobody-{number}" for number in range(2_000)]  # a worker may have as many runs
        assert dict(await journal.statuses(["r", *many])) == {"r": "queued"}
        await journal.close()


def _waits(code: str) -> RunEnding:
    ending = ending_of("suspended")
    return replace(ending, end=replace(ending.end, code=code))


async def _ready(journal: Journal, place: JournalPlace, at_us: int | None = None) -> list[str]:
    ready = await journal.ready_runs("a", REMIT, place.clock.now_us() if at_us is None else at_us)
    return [one.run_id for one in ready]
