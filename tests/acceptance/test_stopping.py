"""Stop means stop: a run is cancelled, an agent or a tool is paused, from another process, while it is under way."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from acceptance_cli import PATIENCE_S, Cli, agent_folder

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


@contextlib.contextmanager
def standing_still(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """The process does nothing meanwhile, so that nothing depends on how long that takes."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def test_a_run_is_cancelled_from_another_process_and_ends_what_it_is_in(cli: Cli, tmp_path: Path) -> None:
    config = agent_folder(tmp_path / "agent", scripts=SCRIPTS)
    with cli.started("run", config, "--offline", "--json", "--task", "slow") as process:
        run_id = cli.begun("2.m1", process)["run"]
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
        cli.begun("2.m1", process)
        with standing_still(process):
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
