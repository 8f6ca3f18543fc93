"""A deadline ends what takes too long, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from remit.governance.deadlines import Deadlines


async def test_what_takes_too_long_is_ended_and_not_before_its_time() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    deadline = Deadlines().within(0.05)
    with pytest.raises(TimeoutError), deadline:
        await asyncio.Event().wait()
    assert deadline.expired
    assert loop.time() - began >= 0.05


async def test_what_ends_in_time_is_left_alone_also_after_the_time() -> None:
    deadlines = Deadlines()
    first = deadlines.within(0.01)
    with first:
        await asyncio.sleep(0)
    with deadlines.within(60):
        await asyncio.sleep(0.05)
    assert not first.expired


async def test_all_of_one_tick_are_ended_and_each_alone() -> None:
    deadlines = Deadlines()

    async def call(waits: bool) -> str:
        try:
            with deadlines.within(0.02):
                await (asyncio.Event().wait() if waits else asyncio.sleep(0))
        except TimeoutError:
            return "late"
        return "done"

    assert await asyncio.gather(*(call(waits) for waits in (True, False) * 20)) == ["late", "done"] * 20


async def test_somebody_elses_cancellation_is_no_timeout() -> None:
    begun = asyncio.Event()
    deadline = Deadlines().within(60)

    async def call() -> None:
        with deadline:
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not deadline.expired


async def test_a_cancellation_beside_the_deadline_goes_on() -> None:
    begun = asyncio.Event()

    async def call() -> None:
        deadline = Deadlines().within(60)
        with deadline:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                deadline.expire()  # both at once

    task = asyncio.create_task(call())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_nests_in_a_timeout_of_asyncio() -> None:
    deadlines = Deadlines()
    outer = asyncio.timeout(0.01)

    async def call() -> None:
        async with outer:
            with deadlines.within(60):
                await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await call()
    assert outer.expired()
    async with asyncio.timeout(60):
        with pytest.raises(TimeoutError), deadlines.within(0.01):
            await asyncio.Event().wait()
        await asyncio.sleep(0)  # nothing of the inner one is left


def test_it_serves_another_loop_after_the_first() -> None:
    deadlines = Deadlines()

    async def late() -> None:
        with pytest.raises(TimeoutError), deadlines.within(0.01):
            await asyncio.Event().wait()

    async def soon() -> None:
        with deadlines.within(0.01):
            await asyncio.sleep(0)

    asyncio.run(soon())
    asyncio.run(late())
