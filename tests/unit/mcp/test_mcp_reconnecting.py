"""Servers that go away: reached again, ever less often where that does not help, and nothing is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.unit.mcp.mcp_servers import (
    CLOCK,
    accept,
    context,
    odd_section,
    over_http,
    section_of,
    served_over_http,
)

from remit.adapters.tools.mcp.connection import Connection, Streams, Unheard, transport_of
from remit.adapters.tools.mcp.pins import read_pins
from remit.adapters.tools.mcp.specs import declare_mcp, pins_file
from remit.adapters.tools.mcp.toolset import McpTools
from remit.governance.toolsets import McpToolset
from remit.ports.effects import EffectFailed
from remit.testing.fakes import FakeClock

ADD = {"a": 1, "b": 1}
NOWHERE = section_of(command=["/nowhere/at-all"], env={}, readable=[], unsafe_no_sandbox=True)


class World:
    """Tools of a server, which `is_down` or not, and how often it was connected to."""

    def __init__(self, folder: Path, section: McpToolset) -> None:
        up = transport_of(section, folder, {"ODD": ""}, CLOCK)
        down = transport_of(NOWHERE, folder, {}, CLOCK)
        self.is_down = False
        self.connected = 0
        self.clock = FakeClock()
        self.connection = Connection(self._counted(up, down))
        pins = read_pins(pins_file("shop", section, folder), "shop")
        specs = declare_mcp("shop", section, folder).specs
        self.tools = McpTools("shop", section, specs, pins, self.connection, self.clock)

    def _counted(self, up: Callable[[], Streams], down: Callable[[], Streams]) -> Callable[[], Streams]:
        def connect() -> Streams:
            self.connected += 1
            return (down if self.is_down else up)()

        return connect

    async def answers(self) -> None:
        assert await self.tools.call(self.tools.specs[0].name, ADD, context())

    async def is_away(self) -> float | None:
        with pytest.raises(EffectFailed, match="the server shop is away") as raised:
            await self.tools.call(self.tools.specs[0].name, ADD, context())
        assert raised.value.retryable
        return raised.value.retry_after_s


@pytest.fixture
async def opening() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def opened(opening: AsyncExitStack, folder: Path, section: McpToolset) -> World:
    await accept(section, folder)
    world = World(folder, section)
    opening.push_async_callback(world.tools.close)
    await world.tools.connect()
    return world


async def test_a_server_that_does_not_come_back_is_tried_ever_less_often(
    tmp_path: Path, opening: AsyncExitStack
) -> None:
    world = await opened(opening, tmp_path, odd_section("plain", "halves"))
    with pytest.raises(Unheard):
        await world.tools.call("halves", {}, context())
    world.is_down = True
    pauses = []
    for attempt in range(9):
        pauses.append(await world.is_away())
        for _ in range(20):
            await world.is_away()  # meanwhile nobody tries
        assert world.connected == 2 + attempt
        world.clock.advance(pauses[-1] or 0)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    world.is_down = False
    await world.answers()
    # once it has answered it is as any other: the next time it is tried at once
    with pytest.raises(Unheard):
        await world.tools.call("halves", {}, context())
    await world.answers()


async def test_a_server_that_dies_in_each_call_is_not_started_for_each(
    tmp_path: Path, opening: AsyncExitStack
) -> None:
    world = await opened(opening, tmp_path, odd_section("plain", "halves"))
    for _ in range(2):
        with pytest.raises(Unheard):
            await world.tools.call("halves", {}, context())
    assert await world.is_away() == 1
    assert world.connected == 2


async def test_a_server_that_ended_while_nobody_called_is_known_to_have_ended(
    tmp_path: Path, opening: AsyncExitStack
) -> None:
    world = await opened(opening, tmp_path, odd_section("plain", "last"))
    await world.tools.call("last", {}, context())
    async with asyncio.timeout(60):
        while world.connection.is_open:
            await asyncio.sleep(0.01)
    await world.answers()  # a write, of which nobody has to wonder whether the dead server did it
    assert world.connected == 2


async def test_calls_that_come_while_it_is_connected_to_wait_for_the_one_connection(
    tmp_path: Path, opening: AsyncExitStack
) -> None:
    world = await opened(opening, tmp_path, odd_section("plain", "halves"))
    with pytest.raises(Unheard):
        await world.tools.call("halves", {}, context())
    await asyncio.gather(*(world.answers() for _ in range(5)))
    assert world.connected == 2


async def test_a_call_has_no_more_time_because_its_server_is_started(
    tmp_path: Path, opening: AsyncExitStack
) -> None:
    world = await opened(opening, tmp_path, odd_section("plain", "halves"))
    with pytest.raises(Unheard):
        await world.tools.call("halves", {}, context())
    with pytest.raises(EffectFailed, match="is not ready yet"):
        await world.tools.call("plain", ADD, context(0.001))
    await world.answers()  # what was begun for the one is there for the next
    assert world.connected == 2


@pytest.mark.parametrize("is_old", [False, True])
async def test_a_server_over_http_that_was_down_was_not_asked_and_is_found_again(
    tmp_path: Path, opening: AsyncExitStack, is_old: bool
) -> None:
    async with served_over_http(is_old=is_old) as url:
        world = await opened(opening, tmp_path, over_http(url))
        await world.answers()
    await world.is_away()
    async with served_over_http(is_old=is_old, port=int(url.split(":")[2].split("/")[0])):
        world.clock.advance(60)
        if is_old:
            await world.is_away()  # the new process knows nothing of the session with the old one
            world.clock.advance(60)
        await world.answers()
