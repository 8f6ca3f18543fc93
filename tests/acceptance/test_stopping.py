"""Stop means stop: a run is cancelled, an agent or a tool is paused, from another process, while it is under way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from acceptance_cli import PATIENCE_S, Cli, agent_folder, until

SCRIPTS = {
    "slow": "name: slow\nmatch: slow\nturns:\n"
    "  - call:\n      - {tool: search_kb, args: {query: refund}}\n"
    "  - say: late\n    after: 3600\n",
    "steps": "name: steps\nmatch: steps\nturns:\n"
    "  - call:\n      - {tool: search_kb, args: {query: refund}}\n"
    "  - call:\n      - {tool: search_kb, args: {query: invoice}}\n    after: 2\n"
    "  - say: done\n",
    "quick": "name: quick\ndefault: true\nturns:\n  - say: quick\n",
}
AGENT = "customer-support-v2"


def _begun(cli: Cli, call: str) -> Any:
    def found() -> Any:
        if not (cli.home / "remit.log").exists():
            return []
        return [one for one in cli.ask("audit", "search", "--open") if one["call"] == call]

    return until(found, f"an open intent of {call}")[0]


def test_a_run_is_cancelled_from_another_process_and_ends_what_it_is_in(cli: Cli, tmp_path: Path) -> None:
    config = agent_folder(tmp_path / "agent", scripts=SCRIPTS)
    with cli.started("run", config, "--offline", "--json", "--task", "slow") as process:
        run_id = _begun(cli, "2.m1")["run"]
        cancelled = cli.run("runs", "cancel", run_id, "--reason", "wrong customer", "--as", "alice")
        assert cancelled.exit == 0, cancelled.stderr
        stdout, _ = process.communicate(timeout=PATIENCE_S)
    ended = json.loads(stdout)
    assert (process.returncode, ended["status"]) == (1, "cancelled")
    assert ended["error"]["message"] == "user:alice cancelled it: wrong customer"
    assert cli.ask("audit", "search", "--open") == []
    again = cli.run("runs", "cancel", run_id, "--reason", "wrong customer")
    assert (again.exit, "run.not_running" in again.stderr) == (3, True)
    assert cli.run("runs", "resume", run_id, "--config", config, "--offline").exit == 3


def test_a_paused_agent_stops_at_its_next_gate_crossing_and_goes_on_later(cli: Cli, tmp_path: Path) -> None:
    config = agent_folder(tmp_path / "agent", scripts=SCRIPTS)
    with cli.started("run", config, "--offline", "--json", "--task", "steps") as process:
        _begun(cli, "2.m1")
        assert cli.run("agents", "pause", AGENT, "--reason", "drill", "--as", "alice").exit == 0
        stdout, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, json.loads(stdout)["error"]["code"]) == (4, "agent.paused")
    (listed,) = cli.ask("agents", "list")["agents"]
    assert (listed["agent"], listed["suspended"]) == (AGENT, 1)
    assert listed["paused"]["reason"] == "drill (user:alice)"
    assert "drill (user:alice)" in cli.run("agents", "list").stdout
    calls = len(cli.ask("audit", "search", "--kind", "intent"))
    assert cli.task("quick", config=config).exit == 4
    resume = ("runs", "resume", "--all-ready", "--config", config, "--offline", "--json")
    assert cli.run(*resume).json == []
    assert len(cli.ask("audit", "search", "--kind", "intent")) == calls  # nothing was done meanwhile
    assert cli.run("agents", "resume", AGENT).exit == 0
    assert cli.run("agents", "resume", AGENT).exit == 2
    resumed = cli.run(*resume)
    assert sorted(one["answer"] for one in resumed.json) == ["done", "quick"], resumed.stderr


def test_a_paused_tool_is_refused_and_the_model_is_told(cli: Cli, tmp_path: Path) -> None:
    scripts = SCRIPTS | {
        "told": "name: told\nmatch: told\nturns:\n"
        "  - call:\n      - {tool: search_kb, args: {query: refund}}\n"
        "  - say: '{{ results[0] }}'\n"
    }
    config = agent_folder(tmp_path / "agent", scripts=scripts)
    assert cli.task("quick", config=config).exit == 0
    assert cli.run("tools", "pause", "search_kb", "--reason", "the index is rebuilt").exit == 0
    done = cli.task("told", config=config)
    assert done.exit == 0, done.stderr
    assert "the index is rebuilt" in done.json["answer"]
    assert cli.run("tools", "pause", "no_such_tool", "--reason", "r").exit == 3
    assert cli.run("tools", "resume", "search_kb").exit == 0
    assert "the index is rebuilt" not in cli.task("told", config=config).json["answer"]
