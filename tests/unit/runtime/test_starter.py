"""Schedules start each tick once, whoever looks, however often, and whatever fails in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

import orjson
import pytest

from remit.adapters.journal.postgres.journal import PostgresJournal, PostgresOptions
from remit.core import ids
from remit.core.errors import RemitError
from remit.governance.compiler import parse
from remit.governance.remit import Remit
from remit.ports.journal import AuditQuery, Journal
from remit.runtime.starter import Starter, tick_run_id
from remit.testing.fakes import FakeClock
from remit.testing.faulty_journal import WrappedJournal
from remit.testing.journal_values import ending_of
from remit.testing.memory_journal import MemoryJournal
from remit.testing.memory_store import MemoryStore

FILE = """agent:
  name: a
  model: m
  allowed_tools: []
  max_queued_runs: 5
  cost_controls: {max_daily_spend_usd: 5, max_cost_per_run_usd: 1}
  schedules:
    - {name: morning, cron: "0 7 * * *", task: look at the mail, urgency: 7}
"""
SEVEN = int(datetime.fromisoformat("2026-11-23T07:00:00+00:00").timestamp()) * 1_000_000
DAY = 86_400_000_000
MINUTE = 60_000_000


def remit_of(**changes: str) -> Remit:
    text = FILE
    for old, new in changes.items():
        text = text.replace(
            {"cron": "0 7 * * *", "urgency": "urgency: 7", "limit": "max_queued_runs: 5"}[old], new
        )
    return parse(text, "f.yaml", ())


class World:
    """One store; each `starter` is another worker's."""

    def __init__(self, now_us: int = SEVEN) -> None:
        self.clock = FakeClock(now_us)
        self.store = MemoryStore()
        self.journal = MemoryJournal(self.clock, self.store)

    def starter(
        self, remit: Remit | None = None, wrap: Callable[[Journal], Any] = lambda inner: inner
    ) -> Starter:
        journal = wrap(MemoryJournal(self.clock, self.store))
        return Starter(journal, remit or remit_of(), self.clock, "t")

    async def started(self) -> list[int]:
        """The ticks of the runs there are, the newest first."""
        return [ids.moment_us(one.run.id) for one in await self.journal.runs()]


async def test_a_tick_is_started_once_by_many_workers_each_looking_often() -> None:
    world = World(SEVEN - 5_000_000)
    starters = [world.starter() for _ in range(5)]
    for _ in range(20):
        await asyncio.gather(*(starter.start_due() for starter in starters))
        world.clock.advance(1)
    assert await world.started() == [SEVEN]
    (record,) = await world.journal.runs()
    assert record.run.id == tick_run_id(remit_of().schedules[0], "t", "a", SEVEN)
    assert record.status == "queued"
    assert (record.run.task.text, record.run.tenant) == ("look at the mail", "t")
    (ready,) = await world.journal.ready_runs("a", remit_of().digest, world.clock.now_us())
    assert ready.urgency == 7
    (created,) = await world.journal.audit(AuditQuery(kind="run.created"))
    told = orjson.loads(created.body)
    assert (told["principal"], told["tenant"], told["run"]) == (
        "service:schedule:morning",
        "t",
        record.run.id,
    )


async def test_the_next_day_brings_the_next_tick_and_an_ended_run_is_not_begun_again() -> None:
    world = World()
    starter = world.starter()
    await starter.start_due()
    (record,) = await world.journal.runs()
    await world.journal.begin_run(record.run.id, 9, SEVEN)
    await world.journal.end_run(record.run.id, ending_of("failed"), SEVEN)
    await world.starter().start_due()  # a worker that was started anew
    assert await world.started() == [SEVEN]
    world.clock.advance(86_400)
    await starter.start_due()
    assert await world.started() == [SEVEN + DAY, SEVEN]


@pytest.mark.parametrize(("missed", "expected"), [("skip", []), ("once", [SEVEN + 3 * DAY])])
async def test_what_was_missed_while_no_worker_was_on(missed: str, expected: list[int]) -> None:
    world = World()
    remit = remit_of(urgency=f"missed: {missed}")
    await world.starter(remit).start_due()
    world.clock.advance(3 * 86_400 + 3_600)
    for _ in range(2):
        await world.starter(remit).start_due()
    assert await world.started() == [*expected, SEVEN]


async def test_who_dies_before_or_after_the_commit_leaves_one_run() -> None:
    world = World()

    class DiesBefore(WrappedJournal):
        async def create_run(self, start: Any) -> bool:
            raise RemitError("journal.unconfirmed", "gone")

    class DiesAfter(WrappedJournal):
        async def create_run(self, start: Any) -> bool:
            await self.inner.create_run(start)
            raise RemitError("journal.unconfirmed", "gone")

    for dies, ticks in ((DiesBefore, []), (DiesAfter, [SEVEN])):
        with pytest.raises(RemitError, match=r"journal\.unconfirmed"):
            await world.starter(wrap=dies).start_due()
        assert await world.started() == ticks
    await world.starter().start_due()
    assert await world.started() == [SEVEN]


async def test_a_start_that_failed_is_tried_again_and_keeps_no_other_schedule_waiting() -> None:
    world = World()
    two = parse(FILE + '    - {name: second, cron: "0 7 * * *", task: b}\n', "f.yaml", ())
    refused = 0

    class Once(WrappedJournal):
        """Refuses the first run."""

        def create_run(self, start: Any) -> Any:
            nonlocal refused
            if not refused:
                refused += 1
                raise RemitError("queue.full", "full")
            return self.inner.create_run(start)

    starter = world.starter(two, wrap=Once)
    with pytest.raises(RemitError, match=r"queue\.full"):
        await starter.start_due()
    assert [one.run.principal.id for one in await world.journal.runs()] == ["schedule:second"]
    world.clock.advance(1)
    await starter.start_due()
    assert await world.started() == [SEVEN, SEVEN]


async def test_a_full_queue_refuses_a_tick() -> None:
    with pytest.raises(RemitError, match=r"queue\.full"):
        await World().starter(remit_of(limit="max_queued_runs: 0")).start_due()


@pytest.mark.parametrize("scope", ["all", "agent:t/a"])
async def test_a_paused_agent_begins_nothing_and_a_tick_in_its_pause_is_missed(scope: str) -> None:
    world = World()
    starter = world.starter()
    await world.journal.set_control(scope, True, "drill", SEVEN, b"{}")
    await starter.start_due()
    world.clock.advance(61)
    await world.journal.set_control(scope, False, "", SEVEN, b"{}")
    await starter.start_due()
    assert await world.started() == []
    world.clock.advance(86_400 - 61)
    await starter.start_due()
    assert await world.started() == [SEVEN + DAY]


async def test_a_changed_schedule_holds_with_the_new_file() -> None:
    world = World()
    await world.starter().start_due()
    world.clock.advance(3_600)
    await world.starter(remit_of(cron="0 8 * * *")).start_due()
    assert await world.started() == [SEVEN + 60 * MINUTE, SEVEN]


async def test_a_clock_that_is_set_back_begins_nothing_twice() -> None:
    world = World()
    starter = world.starter()
    await starter.start_due()
    world.clock.advance(-30)
    for _ in range(60):
        await starter.start_due()
        await world.starter().start_due()
        world.clock.advance(1)
    assert await world.started() == [SEVEN]


@pytest.fixture
async def workers(database: str) -> AsyncIterator[list[PostgresJournal]]:
    """The journals of four workers on one database."""
    journals = [PostgresJournal.open(PostgresOptions(url=database, worker=f"w{n}")) for n in range(4)]
    yield journals
    for journal in journals:
        await journal.close()


async def test_workers_that_race_on_postgresql_start_each_tick_once(workers: list[PostgresJournal]) -> None:
    clock = FakeClock(SEVEN)
    remit = remit_of(cron="* * * * *", limit="max_queued_runs: 99")
    for _ in range(10):
        await asyncio.gather(*(Starter(journal, remit, clock, "t").start_due() for journal in workers))
        clock.advance(60)
    found = [ids.moment_us(one.run.id) for one in await workers[0].runs()]
    assert found == [SEVEN + minute * MINUTE for minute in reversed(range(10))]
    assert len(await workers[0].audit(AuditQuery(kind="run.created"))) == 10
