"""Processes that are killed, asked to end, or started twice: nothing is lost, repeated or left unsaid."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from acceptance_cli import PATIENCE_S, Cli, Finished, agent_folder, changed
from silent_server import SilentServer

from remit.core.money import format_usd

SCRIPTS = {
    "mail": "name: mail\nmatch: mail\nturns:\n  - call:\n"
    "      - {tool: send_email, args: {to: a@example.com, subject: hello, body: hello}}\n"
    "  - say: sent\n",
    "slow": "name: slow\nmatch: slow\nturns:\n"
    "  - call:\n      - {tool: search_kb, args: {query: refund}}\n"
    "  - say: late\n    after: 3600\n",
    "quick": "name: quick\ndefault: true\nturns:\n  - say: quick\n",
}

_WITH_SHORT_TOOLS = changed(("  data_access:", "  timeouts: {tool_call_s: 8}\n  data_access:"))


@pytest.fixture(scope="module")
def silent() -> Iterator[SilentServer]:
    server = SilentServer()
    yield server
    server.close()


@dataclass(frozen=True)
class Killed:
    cli: Cli
    config: Path
    intent: Any
    second_worker: Finished
    open_after_kill: list[Any]
    next_run: Finished


def _running(
    cli: Cli, task: str, config: Path, *more: str
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return cli.started("run", config, "--offline", "--json", "--task", task, *more)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, silent: SilentServer) -> Killed:
    """A run that was killed while a mail was under way, what others saw meanwhile, and the run after it."""
    folder = tmp_path_factory.mktemp("killed")
    config = agent_folder(folder / "agent", scripts=SCRIPTS)
    cli = Cli(folder / "home", REMIT_SMTP_URL=silent.url)
    with _running(cli, "mail", config) as process:
        intent = cli.begun("1.t0", process)
        second_worker = cli.task("quick", config=config)
        assert process.poll() is None, "the first worker ended before it was killed"
        process.kill()
    return Killed(
        cli=cli,
        config=config,
        intent=intent,
        second_worker=second_worker,
        open_after_kill=cli.ask("audit", "search", "--open"),
        next_run=cli.task("quick", config=config),
    )


def test_a_second_worker_on_a_home_is_told_who_has_it(killed: Killed) -> None:
    second = killed.second_worker
    assert second.exit == 2
    assert second.stdout == ""
    assert "journal.locked" in second.stderr
    assert "process " in second.stderr
    assert "--home" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_killed_run_leaves_its_intent_open(killed: Killed) -> None:
    (intent,) = killed.open_after_kill
    assert intent == killed.intent
    assert (intent["kind"], intent["resource"]) == ("intent", "tool:send_email")
    listed = killed.cli.run("audit", "search", "--open")
    assert "tool:send_email" in listed.stdout


def test_the_next_process_leaves_the_interrupted_run_to_go_on_and_says_so(killed: Killed) -> None:
    assert killed.next_run.exit == 0
    assert killed.next_run.json["answer"] == "quick"
    assert "runs resume --all-ready" in killed.next_run.stderr
    assert "1 run" in killed.next_run.stderr
    runs = {run["run_id"]: run for run in killed.cli.ask("runs", "list")}
    interrupted = runs[killed.intent["run"]]
    assert interrupted["status"] == "suspended"
    assert interrupted["error"]["code"] == "run.interrupted"
    assert interrupted["ended_at"] is None
    (ended,) = [
        record
        for record in killed.cli.ask("audit", "search", "--kind", "run.ended")
        if record["run"] == interrupted["run_id"]
    ]
    assert ended["code"] == "run.interrupted"


def test_the_intent_stays_open_and_is_not_performed_again(killed: Killed) -> None:
    # nobody can know whether the mail went out: it stays open until a person decides
    assert killed.cli.ask("audit", "search", "--open") == [killed.intent]
    trace = killed.cli.run("trace", killed.intent["run"])
    assert trace.exit == 0
    assert "send_email" in trace.stdout


def test_money_of_a_model_call_that_was_killed_is_presumed_spent(cli: Cli, tmp_path: Path) -> None:
    config = agent_folder(tmp_path / "agent", scripts=SCRIPTS)
    with _running(cli, "slow", config) as process:
        intent = cli.begun("2.m1", process)
        process.kill()
    assert cli.ask("audit", "search", "--open") == [intent]
    assert intent["resource"].startswith("model:")
    held = intent["held_nano_usd"]
    assert held > 0
    assert cli.task("quick", config=config).exit == 0
    shown = cli.run("costs").stdout
    assert "presumed spent" in shown
    assert format_usd(held) in shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_run_that_is_asked_to_end_twice_is_handed_over_and_goes_on(
    number: signal.Signals, cli: Cli, tmp_path: Path
) -> None:
    scripts = SCRIPTS | {"slow": SCRIPTS["slow"].replace("after: 3600", "after: 3")}
    config = agent_folder(tmp_path / "agent", scripts=scripts)
    with _running(cli, "slow", config, "--grace", "3600") as process:
        cli.begun("2.m1", process)
        process.send_signal(number)
        assert process.stderr is not None
        assert any(b"handed over" in line for line in process.stderr)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 4, stderr
    assert json.loads(stdout)["error"]["code"] == "run.handed_over"
    assert cli.ask("audit", "search", "--open") == []
    resumed = cli.run("runs", "resume", "--all-ready", "--config", config, "--offline", "--json")
    assert resumed.exit == 0, resumed.stderr
    assert [(one["status"], one["answer"]) for one in resumed.json] == [("succeeded", "late")]
    # the search was done once, and the model's first reply was not asked for again
    (run,) = cli.ask("runs", "list")
    calls = [(call["call"], call["state"]) for call in cli.ask("runs", "show", run["run_id"])["calls"]]
    assert calls == [
        ("1.m1", "done"),
        ("1.t0", "done"),
        ("2.m1", "failed"),
        ("2.m2", "done"),
        ("2.answer", "done"),
    ]


def test_a_run_may_finish_within_the_grace_time(cli: Cli, tmp_path: Path) -> None:
    scripts = SCRIPTS | {"slow": SCRIPTS["slow"].replace("after: 3600", "after: 1")}
    config = agent_folder(tmp_path / "agent", scripts=scripts)
    with _running(cli, "slow", config, "--grace", "3600") as process:
        cli.begun("2.m1", process)
        process.send_signal(signal.SIGTERM)
        stdout, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, json.loads(stdout)["answer"]) == (0, "late")


def test_a_mail_under_way_at_the_end_is_unknown_until_a_person_finds_out(
    cli: Cli, tmp_path: Path, silent: SilentServer
) -> None:
    cli.environment["REMIT_SMTP_URL"] = silent.url
    scripts = SCRIPTS | {"mail": SCRIPTS["mail"].replace("say: sent", "say: 'told: {{ results[0] }}'")}
    # the thread that waits for the mail server cannot be interrupted: its timeout is what ends it
    config = agent_folder(tmp_path / "agent", scripts=scripts, config=_WITH_SHORT_TOOLS)
    with _running(cli, "mail", config, "--grace", "0") as process:
        cli.begun("1.t0", process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 4
    (unknown,) = cli.ask("effects", "list")
    assert (unknown["tool"], unknown["state"]) == ("send_email", "unknown")
    resume = ("runs", "resume", "--all-ready", "--config", config, "--offline", "--json")
    assert cli.run(*resume).json == []  # nobody knows: it waits
    found = cli.run("effects", "resolve", unknown["call_id"], "--happened", "--reason", "asked the server")
    assert found.exit == 0, found.stderr
    again = cli.run("effects", "resolve", unknown["call_id"], "--happened", "--reason", "asked the server")
    assert (again.exit, "effect.settled" in again.stderr) == (2, True)
    (resumed,) = cli.run(*resume).json
    assert resumed["status"] == "succeeded"
    assert "asked the server" in resumed["answer"]
    assert "do not repeat it" in resumed["answer"]
    (record,) = cli.ask("audit", "search", "--kind", "effect.resolved")
    assert record["happened"] is True
    intents = cli.ask("audit", "search", "--kind", "intent")
    assert sum(one["resource"] == "tool:send_email" for one in intents) == 1


def test_the_four_metrics_are_served_while_a_run_is_on(cli: Cli, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    cli.environment["REMIT_METRICS_ADDRESS"] = address
    config = agent_folder(tmp_path / "agent", scripts=SCRIPTS)
    with _running(cli, "slow", config) as process:
        cli.begun("2.m1", process)
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as response:
            text = response.read().decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    agent = 'agent_name="customer-support-v2"'
    assert float(values[f"agent_active_runs{{{agent}}}"]) == 1
    assert float(values[f'agent_tasks_total{{{agent},status="success"}}']) == 0
    assert float(values[f'agent_task_duration_seconds_count{{{agent},tool="llm"}}']) == 1
    assert float(values[f'agent_task_duration_seconds_count{{{agent},tool="search_kb"}}']) == 1
    spent = values[f'agent_cost_total_usd{{{agent},model="claude-sonnet-4-20260514"}}']
    assert 0 < float(spent) < 0.1
