"""Every dispatcher keeps the port's promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from remit.adapters.dispatch.dbos_dispatcher import DbosDispatcher, DbosOptions
from remit.ports.dispatch import Dispatcher
from remit.runtime.clock import SystemClock
from remit.testing.dispatcher_suite import DispatcherPlace, DispatcherSuite
from remit.testing.memory_dispatcher import MemoryDispatcher, MemoryQueue


class InMemory:
    def __init__(self) -> None:
        self._queue = MemoryQueue()

    async def open(self, worker: str) -> Dispatcher:
        return MemoryDispatcher(self._queue, worker, SystemClock())

    async def die(self, dispatcher: Dispatcher) -> None:
        await dispatcher.close(0.0)


class OnDatabase:
    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: list[Dispatcher] = []

    async def open(self, worker: str) -> Dispatcher:
        options = DbosOptions(url=self._url, worker=worker, poll_s=0.02)
        self._opened.append(await DbosDispatcher.open(options, SystemClock()))
        return self._opened[-1]

    async def die(self, dispatcher: Dispatcher) -> None:
        await dispatcher.close(0.0)  # cancelled work is not ended, as a killed process's is not

    async def close(self) -> None:
        for dispatcher in self._opened:  # a second closing does nothing
            await dispatcher.close(0.0)


class TestMemoryDispatcher(DispatcherSuite):
    @pytest.fixture
    def queue(self) -> DispatcherPlace:
        return InMemory()


class TestDbosOnSqlite(DispatcherSuite):
    @pytest.fixture
    async def queue(self, tmp_path: Path) -> AsyncIterator[DispatcherPlace]:
        place = OnDatabase(f"sqlite:///{tmp_path / 'queue.db'}")
        yield place
        await place.close()


class TestDbosOnPostgres(DispatcherSuite):
    @pytest.fixture
    async def queue(self, database: str) -> AsyncIterator[DispatcherPlace]:
        place = OnDatabase(database)
        yield place
        await place.close()


async def test_an_unreachable_database_is_told_without_its_address() -> None:
    url = "postgresql://me:secret@127.0.0.1:1/none"
    with pytest.raises(Exception, match=r"dispatch\.unavailable") as caught:
        async with asyncio.timeout(30):
            await DbosDispatcher.open(DbosOptions(url=url, worker="w"), SystemClock())
    assert "secret" not in f"{caught.value!r} {caught.value}"
