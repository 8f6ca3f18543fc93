"""`remit mcp serve`: the official client on one side, the gate on the other, real processes between them."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from tests.acceptance.acceptance_cli import EXAMPLE, PATIENCE_S, ROOT, Cli

from remit.ports.journal import AuditQuery

CONFIG = ROOT / "examples" / "support" / "agent-config.yaml"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home")


def connected(cli: Cli, config: Path = CONFIG) -> Client:
    command = cli.command(("mcp", "serve", config, "--as", "ana"))
    return Client(StdioServerParameters(command=command[0], args=command[1:], env=dict(cli.environment)))


def told(result: Any) -> Any:
    return json.loads(result.content[0].text)


async def test_the_tools_of_a_remit_are_offered_and_governed(cli: Cli) -> None:
    async with connected(cli) as client:
        await _use(client, cli)


async def _use(client: Client, cli: Cli) -> None:
    offered = {tool.name: tool for tool in (await client.list_tools()).tools}
    granted = {"search_kb", "get_customer", "create_ticket", "send_email", "run_sql_query"}
    assert set(offered) == granted
    assert offered["search_kb"].annotations is not None
    assert offered["search_kb"].annotations.read_only_hint
    found = await client.call_tool("search_kb", {"query": "refund"})
    assert not found.is_error
    assert found.structured_content["results"]
    ticket = {"customer_id": "C-1042", "issue": "i", "priority": "low"}
    for _ in range(5):
        assert not (await client.call_tool("create_ticket", ticket)).is_error
    limited = await client.call_tool("create_ticket", ticket)
    assert limited.is_error
    assert limited.structured_content == told(limited)
    why = told(limited)["error"]
    assert (why["code"], why["rule"]) == ("rate.limited", "rate_limits.max_tickets_per_hour")
    assert why["rule"] in why["message"]
    assert why["source"].startswith("agent-config.yaml:")
    assert why["remedy"]
    denied = await client.call_tool("get_customer", {"customer_id": "C-1042"})
    assert told(denied)["error"]["code"] == "data.denied"
    unknown = await client.call_tool("drop_everything", {})
    assert told(unknown)["error"]["code"] == "tool.not_granted"
    (run,) = cli.ask("runs", "list")
    assert (run["status"], run["task"]) == ("running", "remit mcp serve")


async def test_the_session_is_a_run_in_the_name_of_whoever_opened_it(cli: Cli) -> None:
    async with connected(cli) as client:
        await client.call_tool("search_kb", {"query": "refund"})
    async with asyncio.timeout(20):
        while [run["status"] for run in cli.ask("runs", "list")] != ["succeeded"]:
            await asyncio.sleep(0.1)
    (run,) = cli.ask("runs", "list")
    shown = cli.run("runs", "show", run["run_id"]).stdout
    assert "ana" in shown
    assert "search_kb" in shown


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
async def test_a_call_that_its_client_takes_back_is_cancelled_and_recorded(cli: Cli, tmp_path: Path) -> None:
    shop = {
        "kind": "mcp",
        "command": [sys.executable, "./server.py"],
        "readable": [sys.prefix, sys.base_prefix, "server.py"],
        "tools": {"wait": {}, "add": {}},
    }
    agent = {
        "name": "a",
        "model": "claude-sonnet-4-20250514",
        "allowed_tools": ["wait", "add"],
        "timeouts": {"tool_call_s": 600},  # nothing but the client ends the call within this test
        "cost_controls": {"max_daily_spend_usd": 1, "max_cost_per_run_usd": 1},
        "toolsets": {"shop": shop},
    }
    config = tmp_path / "agent-config.yaml"
    config.write_text(json.dumps({"agent": agent}))
    shutil.copy(ROOT / "tests" / "unit" / "mcp" / "server.py", tmp_path)
    assert cli.run("tools", "accept", config, "shop", "--yes").exit == 0

    def is_open() -> bool:
        return bool(cli.records(AuditQuery(open_only=True)))

    async with connected(cli, config) as client, asyncio.timeout(PATIENCE_S):
        call = asyncio.create_task(client.call_tool("wait", {}))
        while not await asyncio.to_thread(is_open):
            await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait({call})
        # the server was asked to stop, and whether it had done something nobody knows
        while await asyncio.to_thread(is_open):
            await asyncio.sleep(0.05)
        (outcome,) = cli.ask("audit", "search", "--kind", "outcome")
        assert outcome["outcome"] == "unknown"
        added = await client.call_tool("add", {"a": 1, "b": 2})
        assert added.structured_content == {"structured": {"result": 3}}


@asynccontextmanager
async def by_http(url: str, token: str) -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        yield client


async def test_over_http_each_caller_has_a_name_and_what_waits_outlives_the_server(
    cli: Cli, tmp_path: Path
) -> None:
    folder = tmp_path / "agent"
    shutil.copytree(EXAMPLE, folder)
    config = folder / "agent-config.yaml"
    config.write_text(
        config.read_text() + "\n  approvals: [{tool: create_ticket, when: {priority: {eq: high}}}]\n"
    )
    file = tmp_path / "tokens.json"
    ana, ben = (cli.run("mcp", "token", name, "--tokens", file).stdout.strip() for name in ("ana", "ben"))
    ticket = {"customer_id": "C-1042", "issue": "i", "priority": "high"}
    serving = ("mcp", "serve", config, "--http", "127.0.0.1:0", "--tokens", file)
    with cli.started(*serving) as server:
        url = await _url(server)
        async with by_http(url, ana) as first, by_http(url, ben) as second:
            assert (await first.call_tool("search_kb", {"query": "refund"})).structured_content["results"]
            asked = await first.call_tool("create_ticket", ticket)
            assert told(asked)["error"]["code"] == "approval.required"
            assert not (await second.call_tool("search_kb", {"query": "refund"})).is_error
        server.terminate()
        await asyncio.to_thread(server.wait)
    approval = told(asked)["error"]["approval"]
    assert approval in told(asked)["error"]["remedy"]
    assert told(asked)["error"]["rule"].startswith("approvals")
    assert {run["principal"]: run["status"] for run in cli.ask("runs", "list")} == {
        "user:ana": "suspended",
        "user:ben": "succeeded",
    }
    assert cli.run("approvals", "approve", approval, "--as", "lead", "--reason", "r").exit == 0
    with cli.started(*serving) as server:
        url = await _url(server)
        async with by_http(url, ben) as other:
            assert (
                told(await other.call_tool("create_ticket", ticket))["error"]["code"] == "approval.required"
            )
        async with by_http(url, ana) as again:
            done = await again.call_tool("create_ticket", ticket)
            assert not done.is_error, told(done)
            assert (
                told(await again.call_tool("create_ticket", ticket))["error"]["code"] == "approval.required"
            )


async def _url(server: Any) -> str:
    line = await asyncio.to_thread(server.stderr.readline)
    assert b" are at http://" in line, line + server.stderr.read()
    return str(line.split()[-1].decode())


def test_http_without_a_file_of_tokens_is_not_served(cli: Cli, tmp_path: Path) -> None:
    refused = cli.run("mcp", "serve", CONFIG, "--http", "127.0.0.1:0")
    assert refused.exit == 2
    assert "remit mcp token" in refused.stderr
    assert cli.run("mcp", "serve", CONFIG, "--http", "127.0.0.1", "--tokens", tmp_path / "t").exit == 2
    assert cli.run("mcp", "serve", CONFIG, "--http", "127.0.0.1:0", "--tokens", tmp_path / "t").exit == 2
    assert cli.run("mcp", "token", "a b", "--tokens", tmp_path / "t").exit == 2
