"""The conformance suite of the `Dispatcher` port.

Subclass `DispatcherSuite` in a test module and give it a fixture `queue`: a `DispatcherPlace`, which opens
dispatchers on one and the same empty queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from remit.ports.dispatch import Dispatcher, Segment, SegmentHandler

PATIENCE_S = 30.0


class DispatcherPlace(Protocol):
    """One queue, and dispatchers on it."""

    async def open(self, worker: str) -> Dispatcher: ...

    async def die(self, dispatcher: Dispatcher) -> None:
        """End the dispatcher as if its process had been killed: nothing is given back."""
        ...


def segment(name: str, number: int = 1, tenant: str = "t", urgency: int = 500) -> Segment:
    return Segment(run_id=name, number=number, tenant=tenant, agent="a", urgency=urgency)


class Worked:
    """A handler that notes what it was given."""

    def __init__(self, work: Callable[[Segment], Awaitable[None]] | None = None) -> None:
        self.begun: list[Segment] = []
        self.ended: list[Segment] = []
        self.at_once = 0
        self.most_at_once = 0
        self._work = work
        self._changed = asyncio.Condition()

    async def __call__(self, given: Segment) -> None:
        self.begun.append(given)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self._notify()
        try:
            if self._work is not None:
                await self._work(given)
            self.ended.append(given)
        finally:
            self.at_once -= 1
            await self._notify()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(holds)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class DispatcherSuite:
    """What every dispatcher promises."""

    async def test_what_is_enqueued_is_handled_with_all_its_fields(self, queue: DispatcherPlace) -> None:
        dispatcher, worked = await queue.open("w1"), Worked()
        await dispatcher.start(worked, slots=4)
        wanted = [segment(f"r{index}", index + 1, f"t{index % 3}", index) for index in range(6)]
        for one in wanted:
            await dispatcher.enqueue(one)
        await worked.until(lambda: len(worked.ended) == 6)
        assert sorted(worked.ended, key=lambda one: one.run_id) == wanted
        assert sum((await dispatcher.waiting()).values()) == 0
        await dispatcher.close(1.0)

    async def test_what_is_enqueued_before_any_worker_is_there_waits(self, queue: DispatcherPlace) -> None:
        early = await queue.open("w1")
        for index in range(3):
            await early.enqueue(segment(f"r{index}", tenant="a" if index else "b"))
        assert dict(await early.waiting()) == {"a": 2, "b": 1}
        await early.close(0.0)
        dispatcher, worked = await queue.open("w2"), Worked()
        await dispatcher.start(worked, slots=4)
        await worked.until(lambda: len(worked.ended) == 3)
        await dispatcher.close(1.0)

    async def test_enqueueing_twice_is_enqueueing_once_also_after_it_was_handled(
        self, queue: DispatcherPlace
    ) -> None:
        dispatcher, worked = await queue.open("w1"), Worked()
        await dispatcher.enqueue(segment("r1"))
        await dispatcher.enqueue(segment("r1"))
        await dispatcher.start(worked, slots=4)
        await worked.until(lambda: len(worked.ended) == 1)
        await dispatcher.enqueue(segment("r1"))
        await dispatcher.enqueue(segment("r1", 2))
        await worked.until(lambda: len(worked.ended) == 2)
        assert [(one.run_id, one.number) for one in worked.begun] == [("r1", 1), ("r1", 2)]
        await dispatcher.close(1.0)

    async def test_no_more_than_its_slots_are_worked_on_at_a_time(self, queue: DispatcherPlace) -> None:
        dispatcher, gate = await queue.open("w1"), asyncio.Event()
        worked = Worked(lambda _: wait_for(gate))
        for index in range(7):
            await dispatcher.enqueue(segment(f"r{index}", tenant=f"t{index % 2}"))
        await dispatcher.start(worked, slots=3)
        await worked.until(lambda: worked.at_once == 3)
        gate.set()
        await worked.until(lambda: len(worked.ended) == 7)
        assert worked.most_at_once == 3
        await dispatcher.close(1.0)

    async def test_the_more_urgent_and_then_the_older_of_a_tenant_is_taken_first(
        self, queue: DispatcherPlace
    ) -> None:
        dispatcher, worked = await queue.open("w1"), Worked()
        for name, urgency in (("late", 900), ("first", 500), ("second", 500), ("urgent", 1)):
            await dispatcher.enqueue(segment(name, urgency=urgency))
        await dispatcher.start(worked, slots=1)
        await worked.until(lambda: len(worked.ended) == 4)
        assert [one.run_id for one in worked.begun] == ["urgent", "first", "second", "late"]
        await dispatcher.close(1.0)

    async def test_a_run_that_had_its_turn_before_comes_before_those_that_had_none(
        self, queue: DispatcherPlace
    ) -> None:
        dispatcher, worked = await queue.open("w1"), Worked()
        for name, number, urgency in (("new", 1, 500), ("again", 3, 500), ("urgent", 1, 499)):
            await dispatcher.enqueue(segment(name, number, urgency=urgency))
        await dispatcher.start(worked, slots=1)
        await worked.until(lambda: len(worked.ended) == 3)
        assert [one.run_id for one in worked.begun] == ["urgent", "again", "new"]
        await dispatcher.close(1.0)

    async def test_a_tenant_s_flood_does_not_starve_another(self, queue: DispatcherPlace) -> None:
        dispatcher, worked = await queue.open("w1"), Worked()
        for index in range(30):
            await dispatcher.enqueue(segment(f"flood{index}", tenant="loud"))
        await dispatcher.enqueue(segment("one", tenant="quiet"))
        await dispatcher.start(worked, slots=1)
        await worked.until(lambda: len(worked.ended) == 31)
        assert [one.run_id for one in worked.begun].index("one") < 30
        await dispatcher.close(1.0)

    async def test_a_handler_that_raises_has_ended_its_segment(self, queue: DispatcherPlace) -> None:
        async def work(given: Segment) -> None:
            if given.run_id == "bad":
                raise ValueError("broken")

        dispatcher, worked = await queue.open("w1"), Worked(work)
        await dispatcher.start(worked, slots=1)
        await dispatcher.enqueue(segment("bad", urgency=1))
        await dispatcher.enqueue(segment("good"))
        await worked.until(lambda: len(worked.ended) == 1)
        await dispatcher.close(1.0)
        other = await queue.open("w2")
        assert await other.take_over({"w2"}) == 0
        await other.close(0.0)

    async def test_a_delayed_segment_waits_for_its_time(self, queue: DispatcherPlace) -> None:
        dispatcher, worked = await queue.open("w1"), Worked()
        await dispatcher.start(worked, slots=1)
        loop = asyncio.get_running_loop()
        enqueued_s = loop.time()
        await dispatcher.enqueue(segment("later"), delay_s=0.5)
        assert dict(await dispatcher.waiting()) == {"t": 1}
        await worked.until(lambda: len(worked.ended) == 1)
        assert loop.time() - enqueued_s > 0.45  # the database's clock may differ by a little
        await dispatcher.close(1.0)

    async def test_what_a_dead_worker_had_is_taken_over_and_a_live_one_s_is_not(
        self, queue: DispatcherPlace
    ) -> None:
        dead, never = await queue.open("w1"), asyncio.Event()
        begun = Worked(lambda _: wait_for(never))
        await dead.start(begun, slots=2)
        for index in range(2):  # no more than it works at: while it ends it would begin another
            await dead.enqueue(segment(f"r{index}"))
        await begun.until(lambda: begun.at_once == 2)
        await queue.die(dead)
        other, worked = await queue.open("w2"), Worked()
        await other.enqueue(segment("r2"))
        assert await other.take_over({"w1", "w2"}) == 0
        assert await other.take_over({"w2"}) == 2
        assert await other.take_over({"w2"}) == 0
        await other.start(worked, slots=4)
        await worked.until(lambda: len(worked.ended) == 3)
        await other.close(1.0)

    async def test_closing_waits_for_what_ends_in_time_and_leaves_the_rest_to_others(
        self, queue: DispatcherPlace
    ) -> None:
        closing, soon, never = await queue.open("w1"), asyncio.Event(), asyncio.Event()
        begun = Worked(lambda given: wait_for(soon if given.run_id == "soon" else never))
        await closing.start(begun, slots=2)
        await closing.enqueue(segment("soon"))
        await closing.enqueue(segment("never"))
        await begun.until(lambda: begun.at_once == 2)
        asyncio.get_running_loop().call_later(0.05, soon.set)
        await closing.close(0.5)
        assert [one.run_id for one in begun.ended] == ["soon"]
        other, worked = await queue.open("w2"), Worked()
        assert await other.take_over({"w2"}) == 1
        await other.start(worked, slots=4)
        await worked.until(lambda: len(worked.ended) == 1)
        assert worked.ended == [segment("never")]
        await other.close(1.0)

    async def test_old_traces_are_forgotten_and_new_ones_kept(self, queue: DispatcherPlace) -> None:
        dispatcher, worked = await queue.open("w1"), Worked()
        await dispatcher.start(worked, slots=4)
        for index in range(3):
            await dispatcher.enqueue(segment(f"r{index}"))
        await worked.until(lambda: len(worked.ended) == 3)
        await dispatcher.close(1.0)
        dispatcher = await queue.open("w2")
        assert await dispatcher.forget(3600) == 0
        assert await dispatcher.forget(-1) == 3
        assert await dispatcher.forget(-1) == 0
        await dispatcher.close(1.0)


async def wait_for(event: asyncio.Event) -> None:
    await event.wait()


__all__ = ["DispatcherPlace", "DispatcherSuite", "SegmentHandler", "Worked", "segment"]
