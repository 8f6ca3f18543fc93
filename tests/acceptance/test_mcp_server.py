"""`remit mcp serve`: the official client on one side, the gate on the other, real processes between them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from tests.acceptance.acceptance_cli import ROOT, Cli

CONFIG = ROOT / "examples" / "support" / "agent-config.yaml"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home")


def connected(cli: Cli) -> Client:
    command = cli.command(("mcp", "serve", CONFIG, "--as", "ana"))
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
    assert told(limited)["error"]["code"] == "rate.limited"
    assert "max_tickets_per_hour" in told(limited)["error"]["rule"]
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
