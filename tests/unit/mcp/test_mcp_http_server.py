"""Tools over HTTP: who has no token gets nothing, who has one is who the file says, and a page of the web is nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from remit.adapters.tools.mcp.http_serving import HttpOptions, serve_http, who_by
from remit.adapters.tools.mcp.serving import Reply, server_of
from remit.adapters.tools.mcp.tokens import Tokens, add_token, digest_of, read_tokens
from remit.core.actions import Principal
from remit.core.errors import RemitError
from remit.core.tools import ToolSpec

ANA = Principal(kind="user", id="ana", roles=("support",))
BEN = Principal(kind="service", id="ben", tenant="acme")
LOOK = ToolSpec(name="look", description="Looks.", args_schema={"type": "object"}, effect="read")
ASKED = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}


class Desk:
    """Takes calls, and keeps them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.cancelled = asyncio.Event()
        self.holds = asyncio.Event()

    async def call(self, principal: Principal, name: str, args: dict[str, Any]) -> Reply:
        self.calls.append((principal.id, args))
        if args.get("wait"):
            self.holds.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)  # what has to be recorded can be
                self.cancelled.set()
        return (
            Reply({"for": principal.id}) if name == "look" else Reply({"error": {"code": "x"}}, is_error=True)
        )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.json"
    add_token(file, "of-ana", ANA)
    add_token(file, "of-ben", BEN)
    return file


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@asynccontextmanager
async def serving(desk: Desk, file: Path, **options: Any) -> AsyncIterator[str]:
    tokens = Tokens(file)
    server = server_of("a", [LOOK], desk.call, who_by(tokens))
    async with serve_http(server, tokens, HttpOptions(host="127.0.0.1", port=0, **options)) as url:
        yield url


@asynccontextmanager
async def connected(url: str, token: str, mode: str = "auto") -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=20, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


async def post(url: str, body: Any, **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=20, trust_env=False) as http:
        return await http.post(url, headers=HEADERS | headers, content=json.dumps(body))


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_each_calls_in_the_name_of_the_token(desk: Desk, file: Path, mode: str) -> None:
    async with (
        serving(desk, file) as url,
        connected(url, "of-ana", mode) as ana,
        connected(url, "of-ben", mode) as ben,
    ):
        (offered,) = (await ana.list_tools()).tools
        assert (offered.name, offered.annotations and offered.annotations.read_only_hint) == ("look", True)
        assert (await ana.call_tool("look", {"a": 1})).structured_content == {"for": "ana"}
        assert (await ben.call_tool("look", {})).structured_content == {"for": "ben"}
        assert (await ben.call_tool("drop", {})).is_error
    assert desk.calls == [("ana", {"a": 1}), ("ben", {}), ("ben", {})]


@pytest.mark.parametrize(
    "header",
    [{}, {"authorization": "Bearer guessed"}, {"authorization": "Basic b2YtYW5h"}, {"authorization": ""}],
)
async def test_without_a_token_there_is_nothing(desk: Desk, file: Path, header: dict[str, str]) -> None:
    async with serving(desk, file) as url:
        for body in (INITIALIZE, ASKED):
            answer = await post(url, body, **header)
            assert answer.status_code == 401
            assert "look" not in answer.text
        digest = next(iter(read_tokens(file)))
        assert (await post(url, ASKED, authorization=f"Bearer {digest}")).status_code == 401


async def test_a_page_of_the_web_that_was_led_here_is_sent_away(desk: Desk, file: Path) -> None:
    token = {"authorization": "Bearer of-ana"}
    async with serving(desk, file, names=("agents.test:443", "inner.test")) as url:
        assert (await post(url, INITIALIZE, **token, host="evil.test")).status_code == 421
        assert (await post(url, INITIALIZE, **token, origin="http://evil.test")).status_code == 403
        for host in ("agents.test:443", "inner.test", url.split("/")[2]):
            assert (await post(url, INITIALIZE, **token, host=host)).status_code == 200
    assert desk.calls == []


async def test_a_session_is_of_the_token_that_opened_it(desk: Desk, file: Path) -> None:
    async with serving(desk, file) as url:
        opened = await post(url, INITIALIZE, authorization="Bearer of-ana")
        session = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-06-18"}
        assert (await post(url, ASKED, authorization="Bearer of-ana", **session)).status_code == 200
        assert (await post(url, ASKED, authorization="Bearer of-ben", **session)).status_code == 404


async def test_a_token_that_was_withdrawn_opens_nothing_any_more(desk: Desk, file: Path) -> None:
    async with serving(desk, file) as url, connected(url, "of-ana") as ana:
        await ana.call_tool("look", {})
        only_ben = [one for one in json.loads(file.read_text())["tokens"] if one["id"] == "ben"]
        file.write_text(json.dumps({"tokens": only_ben}))
        with pytest.raises((MCPError, httpx2.HTTPError)):
            await ana.call_tool("look", {})
        assert (await post(url, INITIALIZE, authorization="Bearer of-ben")).status_code == 200
        file.write_text("{")  # nobody is known while it cannot be read
        assert (await post(url, INITIALIZE, authorization="Bearer of-ben")).status_code == 401
    assert desk.calls == [("ana", {})]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_that_takes_its_call_back_has_it_cancelled(desk: Desk, file: Path, mode: str) -> None:
    async with serving(desk, file) as url, connected(url, "of-ana", mode) as ana:
        call = asyncio.create_task(ana.call_tool("look", {"wait": True}))
        async with asyncio.timeout(20):
            await desk.holds.wait()
            call.cancel()
            await asyncio.wait({call})
            await desk.cancelled.wait()
        assert (await ana.call_tool("look", {})).structured_content == {"for": "ana"}


async def test_who_asks_for_it_is_told_that_a_call_is_under_way(file: Path) -> None:
    told = asyncio.Event()

    async def call(principal: Principal, name: str, args: dict[str, Any]) -> Reply:
        await told.wait()
        return Reply([1])

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.set()

    tokens = Tokens(file)
    server = server_of("a", [LOOK], call, who_by(tokens), progress_s=0.02)
    async with (
        serve_http(server, tokens, HttpOptions(host="127.0.0.1", port=0)) as url,
        connected(url, "of-ana") as ana,
        asyncio.timeout(20),
    ):
        answer = await ana.call_tool("look", {}, progress_callback=progress)
    assert (answer.content[0].text, answer.structured_content) == ("[1]", None)


async def test_what_is_too_long_is_not_read(desk: Desk, file: Path) -> None:
    async with serving(desk, file, body_bytes_max=1_000) as url:
        answer = await post(url, INITIALIZE | {"more": "x" * 2_000}, authorization="Bearer of-ana")
    assert answer.status_code == 413


def test_the_file_has_no_token_and_names_no_value_that_does_not_fit(tmp_path: Path, file: Path) -> None:
    assert "of-ana" not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert read_tokens(file) == {digest_of("of-ana"): ANA, digest_of("of-ben"): BEN}
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({"tokens": [{"sha256": "a-token-in-the-clear", "id": "ana"}]}))
    with pytest.raises(RemitError) as raised:
        read_tokens(wrong)
    assert raised.value.code == "config.invalid"
    assert "a-token-in-the-clear" not in f"{raised.value!r} {raised.value}"
    with pytest.raises(RemitError, match="no name"):
        add_token(file, "t", Principal(kind="user", id="a b"))
