"""Callers of tools who come and go: what they may do, and what waits for a person, does not depend on connections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.runtime.test_direct import World

from remit.core.actions import Principal
from remit.core.errors import RemitError
from remit.core.outcomes import Done, Outcome, Refused, Suspended
from remit.core.runs import RunEnd
from remit.governance import records
from remit.ports.runs import RunEnding
from remit.runtime.callers import Callers

ANA = Principal(kind="user", id="ana")
BEN = Principal(kind="user", id="ben")
RUN_S = 600.0


@pytest.fixture
def world() -> World:
    return World(slots=3)


def callers_of(world: World) -> Callers:
    return Callers(world.direct, world.journal, world.clock, "by a client")


async def statuses(world: World) -> list[tuple[str, str]]:
    return [(record.run.principal.id, record.status) for record in reversed(await world.journal.runs())]


def code_of(outcome: Outcome) -> str:
    assert isinstance(outcome, Refused)
    return outcome.decision.code


async def test_the_calls_of_one_caller_are_one_run_until_its_time_is_over(world: World) -> None:
    callers = callers_of(world)
    await asyncio.gather(*(callers.call(who, "look", {}) for who in (ANA, BEN)))
    assert code_of(await callers.call(ANA, "drop", {})) == "tool.not_granted"
    assert await statuses(world) == [("ana", "running"), ("ben", "running")]
    world.clock.advance(RUN_S)
    await callers.call(ANA, "pay", {"usd": 1})
    assert await statuses(world) == [("ana", "succeeded"), ("ben", "running"), ("ana", "running")]
    await callers.close()
    assert {status for _, status in await statuses(world)} == {"succeeded"}


async def test_what_a_run_may_do_at_most_is_no_more_for_who_comes_again(world: World) -> None:
    callers = callers_of(world)
    for _ in range(world.remit.max_steps):
        await callers.call(ANA, "drop", {})
    assert code_of(await callers.call(ANA, "pay", {"usd": 1})) == "steps.exhausted"
    assert isinstance(await callers.call(BEN, "pay", {"usd": 1}), Done)


async def test_what_waits_is_done_once_also_in_the_next_run_of_the_caller(world: World) -> None:
    callers = callers_of(world)
    asked = await callers.call(ANA, "pay", {"usd": 50})
    assert isinstance(asked, Suspended)
    world.clock.advance(RUN_S)
    assert isinstance(await callers.call(ANA, "pay", {"usd": 1}), Done)
    assert await statuses(world) == [("ana", "suspended"), ("ana", "running")]
    # in the name of another it is another call
    other = await callers.call(BEN, "pay", {"usd": 50})
    assert isinstance(other, Suspended)
    assert other.approval_id != asked.approval_id
    await world.approve(asked.approval_id)
    twice = await asyncio.gather(*(callers.call(ANA, "pay", {"usd": 50}) for _ in range(2)))
    assert sorted(type(one).__name__ for one in twice) == ["Done", "Suspended"]
    assert world.paid == [{"usd": 1}, {"usd": 50}]
    assert (await statuses(world))[0] == ("ana", "succeeded")


async def test_what_waits_is_found_by_the_next_process(world: World) -> None:
    first = callers_of(world)
    asked = await first.call(ANA, "pay", {"usd": 50})
    assert isinstance(asked, Suspended)
    await first.close()
    assert await statuses(world) == [("ana", "suspended")]
    second = callers_of(world)
    await second.recover()
    again = await second.call(ANA, "pay", {"usd": 50})
    assert isinstance(again, Suspended)
    assert again.approval_id == asked.approval_id
    await world.approve(asked.approval_id)
    assert isinstance(await second.call(ANA, "pay", {"usd": 50}), Done)
    assert world.paid == [{"usd": 50}]
    assert await statuses(world) == [("ana", "succeeded")]
    # an approval that was used is no call that waits
    third = callers_of(world)
    await third.recover()
    assert isinstance(await third.call(ANA, "pay", {"usd": 50}), Suspended)
    assert world.paid == [{"usd": 50}]


async def test_what_a_person_has_denied_is_said_and_not_done(world: World) -> None:
    callers = callers_of(world)
    asked = await callers.call(ANA, "pay", {"usd": 50})
    assert isinstance(asked, Suspended)
    await world.deny(asked.approval_id)
    assert code_of(await callers.call(ANA, "pay", {"usd": 50})) == "approval.denied"
    assert world.paid == []


async def test_a_run_that_somebody_has_cancelled_is_not_gone_on_with(world: World) -> None:
    callers = callers_of(world)
    asked = await callers.call(ANA, "pay", {"usd": 50})
    assert isinstance(asked, Suspended)
    world.clock.advance(RUN_S)
    await callers.call(ANA, "pay", {"usd": 1})
    (parked,) = [one for one in await world.journal.runs() if one.status == "suspended"]
    end = RunEnd(status="cancelled", code="run.cancelled", message="by hand")
    at_us = world.clock.now_us()
    ending = RunEnding(end=end, audit=records.run_ended(parked.run, end, at_us))
    assert await world.journal.cancel_run(parked.run.id, ending, at_us)
    anew = await callers.call(ANA, "pay", {"usd": 50})
    assert isinstance(anew, Suspended)
    assert anew.approval_id != asked.approval_id


async def test_who_finds_no_slot_is_told_so_and_nothing_is_done(world: World) -> None:
    callers = callers_of(world)
    for number in range(3):
        await callers.call(Principal(kind="user", id=f"u{number}"), "pay", {"usd": 1})
    with pytest.raises(RemitError) as raised:
        await callers.call(ANA, "pay", {"usd": 2})
    assert raised.value.code == "run.no_slot"
    assert world.paid == [{"usd": 1}] * 3


async def test_the_slot_of_who_comes_no_more_becomes_free(world: World) -> None:
    callers = callers_of(world)
    await callers.call(ANA, "look", {})
    tending = asyncio.create_task(callers.tend())
    try:
        world.clock.advance(RUN_S)
        async with asyncio.timeout(20):
            while await statuses(world) != [("ana", "succeeded")]:
                await asyncio.sleep(0)
    finally:
        tending.cancel()


async def test_a_call_that_was_cancelled_when_it_was_made_again_still_waits(world: World) -> None:
    callers = callers_of(world)
    asked = await callers.call(ANA, "pay", {"usd": 50})
    assert isinstance(asked, Suspended)
    task = asyncio.create_task(callers.call(ANA, "pay", {"usd": 50}))
    await asyncio.sleep(0)
    task.cancel()
    results: list[Any] = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError | Suspended)
    again = await callers.call(ANA, "pay", {"usd": 50})
    assert isinstance(again, Suspended)
    assert again.approval_id == asked.approval_id
