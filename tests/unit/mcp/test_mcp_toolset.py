"""Tools of an MCP server: real processes, real HTTP; what was accepted is what can be called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

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

from remit.adapters.tools.mcp.connection import Unheard, described, transport_of
from remit.adapters.tools.mcp.specs import declare_mcp
from remit.adapters.tools.mcp.toolset import McpTools, open_mcp
from remit.core.errors import RemitError
from remit.governance import data
from remit.governance.toolsets import McpToolset
from remit.ports.effects import EffectFailed

Opened = Callable[..., Awaitable[McpTools]]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    async with AsyncExitStack() as stack:

        async def make(section: McpToolset, **environment: str) -> McpTools:
            declared = declare_mcp("shop", section, tmp_path)
            tools = await open_mcp("shop", section, declared, tmp_path, {"ODD": "", **environment}, CLOCK)
            stack.push_async_callback(tools.close)
            return tools

        yield make


async def test_listed_tools_are_called_as_they_were_accepted(tmp_path: Path, opened: Opened) -> None:
    section = section_of(tools={"add": {"name": "plus", "tool": {"effect": "pure"}}, "words": {}, "fail": {}})
    await accept(section, tmp_path)
    tools = await opened(section)
    by_name = {spec.name: spec for spec in tools.specs}
    assert [(one.effect, one.idempotency, one.result_trust) for one in by_name.values()] == [
        ("pure", "at_most_once", "untrusted"),
        ("write", "at_most_once", "untrusted"),
        ("write", "at_most_once", "untrusted"),
    ]
    assert by_name["plus"].args_schema["required"] == ["a", "b"]
    assert (await tools.call("plus", {"a": 2, "b": 3}, context()))["structured"] == {"result": 5}
    both = await asyncio.gather(*(tools.call("plus", {"a": n, "b": n}, context()) for n in range(10)))
    assert [one["structured"]["result"] for one in both] == [2 * n for n in range(10)]
    with pytest.raises(EffectFailed, match="the tool failed"):
        await tools.call("fail", {}, context())


async def test_a_server_gets_the_variables_that_are_named_and_no_other(
    tmp_path: Path, opened: Opened
) -> None:
    section = section_of(tools={"environment": {}})
    await accept(section, tmp_path, SECRET="s", PATH="/usr/bin")
    tools = await opened(section, SECRET="s", PATH="/usr/bin")
    found = await tools.call("environment", {}, context())
    assert set(found["structured"]["result"]) - {"LC_CTYPE"} <= {"ODD", "PATH", "HOME", "TMPDIR"}


async def test_a_server_is_in_the_sandbox_unless_a_person_says_otherwise(
    tmp_path: Path, opened: Opened
) -> None:
    (tmp_path / "secret.txt").write_text("s3cret")
    section = section_of(tools={"read": {}})
    await accept(section, tmp_path)
    locked = await (await opened(section)).call("read", {"path": str(tmp_path / "secret.txt")}, context())
    assert locked["structured"]["result"] in ("FileNotFoundError", "PermissionError")
    free = section_of(tools={"read": {}}, unsafe_no_sandbox=True)
    read = await (await opened(free)).call("read", {"path": str(tmp_path / "secret.txt")}, context())
    assert read["structured"]["result"] == "s3cret"


async def test_nothing_is_declared_before_it_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(RemitError) as raised:
        declare_mcp("shop", section_of(), tmp_path)
    assert raised.value.code == "mcp.unpinned"
    await accept(section_of(tools={"add": {}}), tmp_path)
    with pytest.raises(RemitError, match="words") as raised:
        declare_mcp("shop", section_of(tools={"add": {}, "words": {}}), tmp_path)
    assert raised.value.code == "mcp.unpinned"


async def test_a_tool_that_says_something_else_of_itself_is_refused_and_the_others_are_not(
    tmp_path: Path, opened: Opened
) -> None:
    section = section_of(tools={"add": {}, "words": {}})
    await accept(section, tmp_path)
    tools = await opened(section, ODD="described")
    with pytest.raises(EffectFailed) as raised:
        await tools.call("add", {"a": 1, "b": 1}, context())
    assert raised.value.code == "mcp.changed"
    assert tools.notices == ("the server shop has changed add: refused until accepted",)
    assert (await tools.call("words", {"count": 1}, context()))["structured"] == {"result": "word "}
    # what it says now is shown, and once it is accepted it is called
    await accept(section, tmp_path, ODD="described")
    tools = await opened(section, ODD="described")
    assert "send all files" in tools.specs[0].description
    await tools.call("add", {"a": 1, "b": 1}, context())


async def test_a_server_that_calls_itself_something_else_is_told_and_called(
    tmp_path: Path, opened: Opened
) -> None:
    section = section_of(tools={"add": {}})
    await accept(section, tmp_path)
    tools = await opened(section, ODD="renamed")
    (notice,) = tools.notices
    assert notice == "the server shop is shop<U+202E> 2.0, and was shop 1.0 when it was accepted"
    assert (await tools.call("add", {"a": 1, "b": 1}, context()))["structured"] == {"result": 2}


async def test_a_server_that_dies_in_a_call_is_started_again_for_the_next(
    tmp_path: Path, opened: Opened
) -> None:
    section = section_of(tools={"add": {}, "end": {}})
    await accept(section, tmp_path)
    tools = await opened(section)
    with pytest.raises(Unheard):  # nobody knows what it did
        await tools.call("end", {}, context())
    assert (await tools.call("add", {"a": 1, "b": 1}, context()))["structured"] == {"result": 2}


async def test_who_never_answers_is_given_up_at_the_deadline(tmp_path: Path, opened: Opened) -> None:
    section = section_of(tools={"wait": {}, "add": {}})
    await accept(section, tmp_path)
    tools = await opened(section)
    with pytest.raises(Unheard, match="no answer within"):
        await tools.call("wait", {}, context(0.3))
    assert (await tools.call("add", {"a": 1, "b": 1}, context()))["structured"] == {"result": 2}


async def test_a_read_that_was_not_heard_certainly_changed_nothing(tmp_path: Path, opened: Opened) -> None:
    section = section_of(tools={"wait": {"tool": {"effect": "read"}}})
    await accept(section, tmp_path)
    with pytest.raises(EffectFailed, match="no answer within") as raised:
        await (await opened(section)).call("wait", {}, context(0.3))
    assert raised.value.retryable


async def test_a_message_that_is_too_long_ends_the_server(tmp_path: Path, opened: Opened) -> None:
    section = section_of(tools={"words": {}}, message_bytes_max=20_000)
    await accept(section, tmp_path)
    tools = await opened(section)
    with pytest.raises(Unheard):
        await tools.call("words", {"count": 10_000}, context())
    assert (await tools.call("words", {"count": 1}, context()))["structured"] == {"result": "word "}


async def test_what_is_no_message_is_passed_over_and_who_is_no_server_is_said(
    tmp_path: Path, opened: Opened
) -> None:
    section = section_of(tools={"add": {}})
    await accept(section, tmp_path)
    tools = await opened(section, ODD="garbage")
    assert (await tools.call("add", {"a": 1, "b": 1}, context()))["structured"] == {"result": 2}
    with pytest.raises(RemitError, match="cannot be reached"):
        await opened(section, ODD="gone")
    with pytest.raises(RemitError, match="cannot be reached"):
        await described(
            transport_of(section_of(command=["/nowhere/at-all"], env={}, readable=[]), tmp_path, {}, CLOCK)
        )


async def test_a_server_over_http_is_reached_through_the_one_way_out(tmp_path: Path, opened: Opened) -> None:
    async with served_over_http() as url:
        section = over_http(url)
        await accept(section, tmp_path)
        tools = await opened(section)
        assert (await tools.call("add", {"a": 2, "b": 3}, context()))["structured"] == {"result": 5}
        await tools.close()
        with pytest.raises(RemitError, match="cannot be reached"):
            await described(transport_of(over_http(url, inner_hosts=[]), tmp_path, {}, CLOCK))


@pytest.mark.parametrize("is_old", [False, True])
async def test_a_message_over_http_may_be_as_long_as_the_section_says_and_no_longer(
    tmp_path: Path, opened: Opened, is_old: bool
) -> None:
    async with served_over_http(is_old=is_old) as url:
        section = over_http(url, message_bytes_max=4_000_000)
        await accept(section, tmp_path)
        tools = await opened(section)
        long = await tools.call(
            "words", {"count": 300_000}, context()
        )  # more than the library takes by itself
        assert len(long["structured"]["result"]) == 1_500_000
        tools = await opened(over_http(url, message_bytes_max=20_000))
        with pytest.raises(Unheard):
            await tools.call("words", {"count": 100_000}, context(5))
        assert (await tools.call("add", {"a": 1, "b": 3}, context()))["structured"] == {"result": 4}


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"url": "http://a.test"}, "one of command, url"),
        ({"command": None, "env": {}, "readable": []}, "one of command, url"),
        ({"command": None, "url": "http://a.test"}, "are for a command"),
        ({"tools": {"a b": {}}}, "can be no name of a tool"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused(tmp_path: Path, keys: dict[str, Any], why: str) -> None:
    with pytest.raises(RemitError, match=why):
        declare_mcp("shop", section_of(**keys), tmp_path)


async def test_a_text_shows_no_field_that_is_denied(tmp_path: Path, opened: Opened) -> None:
    section = odd_section("people", "conflict", "unnumbered")
    override = {"tool": {"field_classes": {"email": "pii"}}}
    section = McpToolset.model_validate(
        section.model_dump(exclude_unset=True) | {"tools": dict.fromkeys(section.tools, override)}
    )
    await accept(section, tmp_path)
    tools = await opened(section)
    denies = context()._replace(constraints=replace(context().constraints, denied_classes=frozenset({"pii"})))
    spec = next(one for one in tools.specs if one.name == "people")
    found = data.clean(await tools.call("people", {}, denies), spec, denies.constraints).value
    assert found["structured"] == {"name": "Ana", "email": "[redacted: pii]"}
    assert "ana@" not in str(found)
    for name in ("conflict", "unnumbered"):
        with pytest.raises(EffectFailed) as raised:
            await tools.call(name, {}, denies)
        assert "ana@" not in raised.value.message
    assert "Her email is ana@" in str(await tools.call("people", {}, context()))
