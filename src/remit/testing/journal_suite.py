"""The conformance suite of the `Journal` port.

Subclass `JournalSuite` in a test module and give it a fixture `place`: a `JournalPlace`, which opens
journals on one and the same empty store.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from remit.core import audit
from remit.core.actions import Principal
from remit.core.errors import RemitError
from remit.core.messages import Usage
from remit.core.runs import TRANSITIONS
from remit.ports.journal import Admitted, AuditQuery, Misfit, Recorded, Window
from remit.ports.runs import StartRun
from remit.testing.journal_cost_suite import JournalCostSuite
from remit.testing.journal_family_suite import JournalFamilySuite
from remit.testing.journal_money_suite import JournalMoneySuite
from remit.testing.journal_outbox_suite import JournalOutboxSuite
from remit.testing.journal_people_suite import JournalPeopleSuite
from remit.testing.journal_values import (
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
from remit.testing.journal_workers_suite import JournalWorkersSuite


class JournalSuite(
    JournalMoneySuite,
    JournalCostSuite,
    JournalOutboxSuite,
    JournalPeopleSuite,
    JournalWorkersSuite,
    JournalFamilySuite,
):
    """What every journal promises."""

    async def test_an_admitted_action_is_in_flight_then_recorded(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        admission = admission_of("r.1.t", clock)
        assert kind_of(await journal.admit(admission)) == "Admitted"
        assert kind_of(await journal.admit(admission)) == "in_flight"
        await journal.complete(completion_of("r.1.t", clock, cost_nano_usd=0))
        again = await journal.admit(admission)
        assert again == Recorded(
            state="done",
            result=b'"x"',
            usage=Usage(input_tokens=1, output_tokens=2, cache_read_tokens=3, cache_write_tokens=4),
            cost_nano_usd=0,
        )
        assert kind_of(await journal.admit(admission._replace(action_digest=digest_of("y")))) == "conflict"
        await journal.close()

    async def test_a_second_completion_is_a_conflict_and_changes_nothing(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        await journal.admit(admission_of("r.1.t", clock, holds=(hold_of(100),), amount_nano_usd=60))
        await journal.complete(completion_of("r.1.t", clock, cost_nano_usd=50))
        before = list(await journal.balances())
        for action_id in ("r.1.t", "r.1.never"):
            with pytest.raises(RemitError, match=r"action\.conflict"):
                await journal.complete(completion_of(action_id, clock, cost_nano_usd=7))
        assert list(await journal.balances()) == before
        assert (before[0].spent_nano_usd, before[0].held_nano_usd) == (50, 0)
        await journal.close()

    async def test_only_a_running_run_is_admitted(self, place: JournalPlace) -> None:
        journal, clock = place.open(), place.clock
        assert kind_of(await journal.admit(admission_of("r.1.t", clock))) == "run"
        await journal.create_run(StartRun(run=run_of("r"), audit=Z))
        assert kind_of(await journal.admit(admission_of("r.1.t", clock))) == "run"
        await journal.begin_run("r", 1, 0)
        assert kind_of(await journal.admit(admission_of("r.1.t", clock))) == "Admitted"
        await journal.end_run("r", ending_of("cancelled"), 0)
        assert kind_of(await journal.admit(admission_of("r.2.t", clock))) == "run"
        await journal.close()

    @pytest.mark.parametrize("scope", ["all", "agent:t/a", "tool:pay"])
    async def test_a_pause_holds_in_another_journal_until_it_is_lifted(
        self, place: JournalPlace, scope: str
    ) -> None:
        journal, other = await started(place), place.open()
        await other.set_control(scope, True, "drill", 0, Z)
        verdict = await journal.admit(admission_of("r.1.t", place.clock))
        assert kind_of(verdict) == "paused"
        await other.set_control("agent:t/other", True, "drill", 0, Z)
        await other.set_control(scope, False, "", 0, Z)
        assert kind_of(await journal.admit(admission_of("r.1.t", place.clock))) == "Admitted"
        await journal.close()
        await other.close()

    async def test_a_window_admits_its_limit_and_frees_at_exactly_its_span(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        window = Window(key="k", limit=3, span_s=60, rule="rate")

        async def admit(name: str, key: str = "k") -> Admitted | Recorded | Misfit:
            windows = (replace(window, key=key),)
            return await journal.admit(admission_of(f"r.1.{name}", clock, windows=windows))

        verdicts = [kind_of(await admit("a")), kind_of(await admit("b"))]
        clock.advance(1)
        verdicts += [kind_of(await admit("c")), kind_of(await admit("d"))]
        assert verdicts == ["Admitted", "Admitted", "Admitted", "rate"]
        assert kind_of(await admit("other", "k2")) == "Admitted"
        misfit = await admit("d")
        assert isinstance(misfit, Misfit)
        assert (misfit.rule, misfit.retry_after_s) == ("rate", 59)
        clock.advance(58.999999)
        assert kind_of(await admit("d")) == "rate"
        await journal.close()
        journal = place.open()  # it survives the process
        assert kind_of(await admit("d")) == "rate"
        clock.advance(0.000001)
        assert [kind_of(await admit(name)) for name in ("e", "f", "g")] == ["Admitted", "Admitted", "rate"]
        await journal.close()

    async def test_a_window_of_no_calls_admits_none(self, place: JournalPlace) -> None:
        journal = await started(place)
        window = Window(key="k", limit=0, span_s=60, rule="rate")
        misfit = await journal.admit(admission_of("r.1.t", place.clock, windows=(window,)))
        assert isinstance(misfit, Misfit)
        assert (misfit.kind, misfit.retry_after_s) == ("rate", 60)
        await journal.close()

    async def test_a_large_window_is_never_over_its_limit(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        window = Window(key="k", limit=1200, span_s=60, rule="rate")
        admitted_at: list[int] = []
        for turn in range(30):
            now = clock.now_us()
            verdicts = await asyncio.gather(
                *(
                    journal.admit(admission_of(f"r.{turn}.{index}", clock, windows=(window,)))
                    for index in range(97)
                )
            )
            admitted_at += [now] * sum(kind_of(verdict) == "Admitted" for verdict in verdicts)
            live = sum(at > now - 60_000_000 for at in admitted_at)
            assert live <= 1200
            clock.advance(4.7)
        assert len(admitted_at) > 2000
        await journal.close()

    async def test_nothing_is_taken_where_a_later_condition_fails(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        window = Window(key="k", limit=1, span_s=60, rule="rate")
        holds = (hold_of(100, "run:r"), hold_of(10, "day:x"))
        misfit = await journal.admit(
            admission_of("r.1.a", clock, windows=(window,), holds=holds, amount_nano_usd=11)
        )
        assert isinstance(misfit, Misfit)
        assert (misfit.kind, misfit.rule) == ("budget", "caps")
        assert sum(one.held_nano_usd for one in await journal.balances()) == 0
        verdict = await journal.admit(
            admission_of("r.1.a", clock, windows=(window,), holds=holds, amount_nano_usd=10)
        )
        assert kind_of(verdict) == "Admitted"
        await journal.close()

    async def test_an_approval_is_bound_and_used_once(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        asked = approval_of("r.1.t", clock)
        assert await journal.request_approval(asked, Z) == asked
        assert await journal.request_approval(replace(asked, id="second"), Z) == asked
        admission = admission_of("r.1.t", clock, approval_id=asked.id)
        assert kind_of(await journal.admit(admission)) == "approval"  # pending
        decided = replace(
            asked, verdict="approved", decided_by="user:p", decided_at_us=5, reason="ok", votes=("user:p",)
        )
        vote = vote_on(asked, at_us=5)
        assert await journal.decide_approval(vote, Z) == decided
        assert await journal.decide_approval(replace(vote, by="user:q", approves=False), Z) is None
        assert await journal.approval_for(asked.action_digest) == decided
        wrong = [
            admission._replace(approval_id="nobody"),
            admission._replace(remit_digest="s" * 64),
            admission._replace(action_id="r.1.x", action_digest=digest_of("r.1.x")),
        ]
        assert [kind_of(await journal.admit(one)) for one in wrong] == ["approval"] * 3
        assert kind_of(await journal.admit(admission)) == "Admitted"
        standing = await journal.approval_for(asked.action_digest)
        assert standing is not None
        assert standing.used_at_us == clock.now_us()
        await journal.close()

    async def test_an_approval_expires(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        asked = approval_of("r.1.t", clock)
        await journal.request_approval(asked, Z)
        await journal.decide_approval(vote_on(asked), Z)
        clock.advance(60)
        admission = admission_of("r.1.t", clock, approval_id=asked.id)
        assert kind_of(await journal.admit(admission)) == "approval"
        await journal.close()

    async def test_runs_move_by_the_table_alone(self, place: JournalPlace) -> None:
        journal = place.open()
        for index, (before, legal) in enumerate(TRANSITIONS.items()):
            for target in TRANSITIONS:
                if target in ("queued", "running"):
                    continue
                run_id = f"r{index}{target}"
                await journal.create_run(StartRun(run=run_of(run_id), audit=Z))
                if before != "queued":
                    await journal.begin_run(run_id, 10_000, 7)
                    if before != "running":
                        assert await journal.end_run(run_id, ending_of(before), 8)
                assert await journal.cancel_run(run_id, ending_of(target), 9) == (target in legal)
                record = await journal.run(run_id)
                assert record is not None
                assert record.status == (target if target in legal else before)
        await journal.close()

    async def test_runs_begin_up_to_the_limit_of_their_agent(self, place: JournalPlace) -> None:
        journal = place.open()
        for run_id, agent in (("a", "x"), ("b", "x"), ("c", "y")):
            await journal.create_run(StartRun(run=run_of(run_id, agent), audit=Z))
        assert await journal.begin_run("a", 1, 0)
        assert not await journal.begin_run("b", 1, 0)
        assert await journal.begin_run("c", 1, 0)
        with pytest.raises(RemitError, match=r"run\.not_running"):
            await journal.begin_run("a", 5, 0)
        with pytest.raises(RemitError, match=r"run\.unknown"):
            await journal.begin_run("nobody", 5, 0)
        assert await journal.end_run("a", ending_of("succeeded"), 0)
        assert await journal.begin_run("b", 1, 0)
        await journal.close()

    async def test_a_release_ends_its_run_in_the_same_commit_unless_it_had_ended(
        self, place: JournalPlace
    ) -> None:
        journal, clock = await started(place), place.clock
        await journal.admit(admission_of("r.1.a", clock, kind="release"))
        await journal.admit(admission_of("r.1.b", clock, kind="release"))
        first = await journal.complete(completion_of("r.1.a", clock, ending=ending_of("succeeded")))
        second = await journal.complete(completion_of("r.1.b", clock, ending=ending_of("succeeded")))
        assert (first.run_ended, second.run_ended) == (True, False)
        await journal.close()

    async def test_a_webhook_s_run_is_exposed_from_the_start(self, place: JournalPlace) -> None:
        journal = place.open()
        askers = (
            Principal(kind="service", id="webhook:crm"),
            Principal(kind="service", id="schedule:s"),
            Principal(kind="user", id="webhook:crm"),
        )
        for number, asker in enumerate(askers):
            task = replace(run_of("r").task, principal=asker)
            await journal.create_run(StartRun(run=replace(run_of(f"r{number}"), task=task), audit=Z))
        records = [await journal.run(f"r{number}") for number in range(len(askers))]
        assert [one and one.exposed_by for one in records] == [("webhook:crm",), (), ()]
        await journal.close()

    async def test_what_the_model_saw_exposes_the_run(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        for name, kind in (("m1", "model"), ("t0", "tool"), ("m2", "model"), ("t1", "tool")):
            await journal.admit(admission_of(f"r.1.{name}", clock, kind=kind))
            await journal.complete(completion_of(f"r.1.{name}", clock, exposes=kind == "tool"))
        record = await journal.run("r")
        assert record is not None
        assert record.exposed_by == ("r.1.t0",)
        assert (record.steps, record.usage.input_tokens) == (2, 4)
        await journal.close()

    async def test_a_remit_is_noted_once(self, place: JournalPlace) -> None:
        journal = place.open()
        noted = [await journal.register_remit("a", digest, 0, Z) for digest in "xxyx"]
        assert noted == [True, False, True, True]
        await journal.close()

    async def test_a_cancelled_waiter_hears_of_it_when_the_commit_is_known(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock

        async def wait(index: int) -> None:
            future = journal.admit(admission_of(f"r.1.{index}", clock))
            try:
                await future
            finally:
                assert future.done()

        tasks = [asyncio.ensure_future(wait(index)) for index in range(50)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended)
        assert len(await journal.calls("r")) == 50
        await journal.close()

    @pytest.mark.parametrize("tenant", ["acme\0", "ä\u2028\U0001f600", "a\"\\'b", "acme/x"])
    async def test_money_is_held_once_whatever_the_tenant_is_called(
        self, place: JournalPlace, tenant: str
    ) -> None:
        journal, clock = await started(place), place.clock
        hold = hold_of(100, f"day:{tenant}/a/2026-11-22")
        taken = 0
        for index in range(3):  # one after the other, so that each is a transaction of its own
            admission = admission_of(f"r.1.{index}", clock, holds=(hold,), amount_nano_usd=60)
            with suppress(RemitError):  # a name that the database does not find again is refused
                taken += isinstance(await journal.admit(admission), Admitted)
        assert taken <= 1
        assert sum(balance.held_nano_usd for balance in await journal.balances()) == taken * 60
        await journal.close()

    async def test_the_error_of_one_does_not_lose_the_others(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        futures = [
            journal.complete(completion_of(f"r.1.{index}", clock))
            if index == 7
            else journal.admit(admission_of(f"r.1.{index}", clock))
            for index in range(20)
        ]
        ended = await asyncio.gather(*futures, return_exceptions=True)
        assert [index for index, one in enumerate(ended) if isinstance(one, RemitError)] == [7]
        assert len(await journal.calls("r")) == 19
        await journal.close()

    async def test_a_closed_journal_takes_nothing(self, place: JournalPlace) -> None:
        journal = await started(place)
        pending = journal.record(Z)
        await journal.close()
        assert pending.done()
        with pytest.raises(RemitError, match=r"journal\.unavailable"):
            await journal.record(Z)

    async def test_the_audit_is_read_by_run_kind_and_time(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        start_us = clock.now_us()
        for index in range(5):
            clock.advance(1)
            await journal.record(audit.record("refusal", clock.now_us(), {"run": f"r{index % 2}"}))
        of_run = await journal.audit(AuditQuery(run_id="r1", kind="refusal"))
        assert len(of_run) == 2
        late = await journal.audit(AuditQuery(since_us=start_us + 4_000_000, kind="refusal"))
        assert len(late) == 2
        newest = await journal.audit(AuditQuery(limit=2))
        assert [one.seq for one in newest] == sorted(one.seq for one in newest)
        assert newest[-1].body == late[-1].body
        await journal.close()
