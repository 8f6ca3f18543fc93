"""Servers that mean no good: whatever they send, a call ends, nothing is lent to them, and the next call works."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.mcp.mcp_servers import context

from remit.adapters.tools.mcp.connection import Unheard, described, transport_of
from remit.adapters.tools.mcp.pins import Pins, written
from remit.adapters.tools.mcp.specs import declare_mcp, pins_file
from remit.adapters.tools.mcp.toolset import McpTools, open_mcp
from remit.governance.toolsets import McpToolset
from remit.ports.effects import EffectFailed
from remit.testing.fakes import FakeClock

SERVER = Path(__file__).parent / "odd_server.py"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def tools(tmp_path: Path, clock: FakeClock) -> AsyncIterator[McpTools]:
    given = {
        "kind": "mcp",
        "command": [sys.executable, "-I", "-S", str(SERVER)],
        "readable": [sys.prefix, str(SERVER)],
        "message_bytes_max": 1_000_000,
        "tools": {"plain": {}},
    }
    server, now = await described(transport_of(McpToolset.model_validate(given), tmp_path, {}, clock))
    section = McpToolset.model_validate(given | {"tools": {name: {} for name in now}})
    pins_file("odd", section, tmp_path).write_bytes(written(Pins(server=server, tools=now)))
    tools = await open_mcp("odd", section, declare_mcp("odd", section, tmp_path), tmp_path, {}, clock)
    yield tools
    await tools.close()


async def still_works(tools: McpTools) -> None:
    assert await tools.call("plain", {}, context()) == {"text": "done"}


async def test_what_is_endless_is_not_read(tools: McpTools) -> None:
    with pytest.raises(Unheard):
        await tools.call("huge", {}, context())
    await still_works(tools)


async def test_a_flood_of_notices_keeps_no_answer_away(tools: McpTools) -> None:
    assert await tools.call("flood", {}, context(60)) == {"text": "done"}
    await still_works(tools)


async def test_no_model_no_person_and_no_folder_is_lent_to_a_server(tools: McpTools) -> None:
    assert await tools.call("asks", {}, context()) == {"text": "refused refused refused"}
    await still_works(tools)


async def test_answers_to_nobody_and_answers_twice_are_passed_over(tools: McpTools) -> None:
    assert await tools.call("strangers", {}, context()) == {"text": "yours"}
    await still_works(tools)


async def test_what_cannot_be_read_is_passed_over(tools: McpTools) -> None:
    assert await tools.call("nested", {}, context()) == {"text": "done"}
    await still_works(tools)


async def test_what_is_no_text_is_no_message(tools: McpTools) -> None:
    with pytest.raises(Unheard, match="no answer within"):
        await tools.call("surrogate", {}, context(0.5))
    await still_works(tools)


async def test_an_answer_of_no_known_shape_leaves_open_what_happened(tools: McpTools) -> None:
    with pytest.raises(Unheard):
        await tools.call("shapeless", {}, context())
    await still_works(tools)


async def test_a_message_that_was_begun_and_never_ended_leaves_open_what_happened(tools: McpTools) -> None:
    with pytest.raises(Unheard):
        await tools.call("halves", {}, context())
    await still_works(tools)


async def test_what_changes_while_it_runs_is_refused_from_then_on(tools: McpTools) -> None:
    assert await tools.call("change", {}, context()) == {"text": "changed"}
    with pytest.raises(EffectFailed) as raised:
        await tools.call("plain", {}, context())
    assert raised.value.code == "mcp.changed"


async def test_what_changes_without_a_word_is_refused_when_it_is_looked_at_again(
    tools: McpTools, clock: FakeClock
) -> None:
    assert await tools.call("quiet", {}, context()) == {"text": "changed"}
    await still_works(tools)
    clock.advance(61)
    with pytest.raises(EffectFailed) as raised:
        await tools.call("plain", {}, context())
    assert raised.value.code == "mcp.changed"


async def test_a_server_that_says_it_has_changed_and_not_how_is_not_called(tools: McpTools) -> None:
    assert await tools.call("mute", {}, context()) == {"text": "mute"}
    for _ in range(3):
        with pytest.raises(EffectFailed, match="is not ready yet") as raised:
            await tools.call("plain", {}, context(0.1))
        assert raised.value.retryable


async def test_an_error_of_the_servers_leaves_open_what_happened_and_a_refusal_does_not(
    tools: McpTools,
) -> None:
    with pytest.raises(Unheard, match="half of it was done"):
        await tools.call("broken", {}, context())
    with pytest.raises(EffectFailed, match="answered with an error: no<U"):
        await tools.call("refuses", {}, context())
    await still_works(tools)


async def test_a_call_that_is_given_up_is_cancelled_at_the_server(tools: McpTools) -> None:
    with pytest.raises(Unheard):
        await tools.call("wait", {}, context(0.3))
    async with asyncio.timeout(20):
        while await tools.call("cancelled", {}, context()) == {"text": "0"}:
            await asyncio.sleep(0)


async def test_of_all_that_a_result_may_hold_texts_are_shown_and_the_rest_is_named(tools: McpTools) -> None:
    assert await tools.call("everything", {}, context()) == {
        "text": "words\nfile:///a:\ninner",
        "others": [
            "image, which is not shown",
            "a link to p: file:///etc/passwd",
            "resource, which is not shown",
        ],
    }
