"""One agent asks another, with the real command line: it answers, waits for a person, is killed, is ended; all as one."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from acceptance_cli import PATIENCE_S, ROOT, Cli, until

EXAMPLE = ROOT / "examples" / "delegation"
SUPPORT = ROOT / "examples" / "support"
TASK = "I was charged twice, C-1042"
APPROVALS = "  approvals: [{tool: run_sql_query, reason: charges are read by hand}]\n"


def agents(folder: Path, *, billing: str = "", front: str = "", after_s: float = 0) -> Path:
    """The example's two agents with more lines; billing's model takes `after_s` for its last answer."""
    (folder / "scripts").mkdir(parents=True)
    for part in ("kb", "data"):
        (folder / part).symlink_to(SUPPORT / part)
    for name, more in (("front-desk", front), ("billing", billing)):
        text = (EXAMPLE / f"{name}.yaml").read_text().replace("../support/", "") + more
        (folder / f"{name}.yaml").write_text(text)
        script = (EXAMPLE / "scripts" / f"{name}.yaml").read_text()
        if after_s:
            script = script.replace(
                '  - say: "{{ results[0].rows', f'  - after: {after_s}\n    say: "{{{{ results[0].rows'
            )
        (folder / "scripts" / f"{name}.yaml").write_text(script)
    return folder / "front-desk.yaml"


def family(cli: Cli) -> tuple[Any, Any]:
    """The run of the front desk, and that of billing."""
    runs = {run["agent"]: run for run in cli.ask("runs", "list")}
    assert sorted(runs) == ["billing", "front-desk"]
    return runs["front-desk"], runs["billing"]


def nodes(node: Any) -> list[Any]:
    return [node, *(one for child in node["children"] for one in nodes(child))]


def test_one_task_two_runs_one_trace_and_each_dollar_once(cli: Cli) -> None:
    done = cli.task(TASK, config=EXAMPLE / "front-desk.yaml")
    assert done.exit == 0, done.stderr
    assert "CH-20672 and CH-20673" in done.json["answer"]
    front, billing = family(cli)
    assert (billing["parent"], billing["depth"]) == (f"{front['run_id']}.1.t0", 1)
    assert billing["trace_id"] == front["trace_id"]
    assert billing["principal"] == front["principal"]
    assert done.json["cost_below_nano_usd"] == billing["cost_nano_usd"]
    # the newest run that somebody asked for is the front desk's, and billing's stands below the call in its tree
    tree = cli.ask("trace")
    assert tree["run_id"] == front["run_id"]
    (asked,) = [node for node in nodes(tree["tree"]) if node["name"] == "ask_billing"]
    (below,) = asked["children"]
    assert (below["kind"], below["name"], below["parent_id"]) == ("run", "billing", asked["span_id"])
    both = front["cost_nano_usd"] + billing["cost_nano_usd"]
    assert tree["tree"]["cost_inclusive_nano_usd"] == both
    assert asked["cost_inclusive_nano_usd"] == billing["cost_nano_usd"]
    shown = cli.ask("runs", "show", front["run_id"])
    assert [one["run_id"] for one in shown["below"]] == [billing["run_id"]]
    costs = {row["run"]: row["cost_nano_usd"] for row in cli.ask("costs", "--by", "run")}
    assert costs == {run["run_id"]: run["cost_nano_usd"] for run in (front, billing)}
    created = {one["run"]: one for one in cli.ask("audit", "search", "--kind", "run.created")}
    assert created[billing["run_id"]]["parent"] == billing["parent"]
    assert "with the runs below" in cli.run("runs", "show").stdout


def test_a_person_is_asked_for_the_one_and_the_other_waits(cli: Cli, tmp_path: Path) -> None:
    config = agents(tmp_path / "agents", billing=APPROVALS)
    waits = cli.task(TASK, config=config)
    assert (waits.exit, waits.json["error"]["code"]) == (4, "run.waits")
    front, billing = family(cli)
    assert (front["status"], billing["status"]) == ("suspended", "suspended")
    assert cli.ask("effects", "list") == []
    resume = ("runs", "resume", "--all-ready", "--config", config, "--offline", "--json")
    assert cli.run(*resume).json == []
    (approval,) = cli.ask("approvals", "list")
    assert approval["run_id"] == billing["run_id"]
    alone = cli.run(
        "runs", "resume", billing["run_id"], "--config", tmp_path / "agents" / "billing.yaml", "--offline"
    )
    assert alone.exit != 0
    assert front["run_id"] in alone.stderr
    approved = cli.run("approvals", "approve", approval["approval_id"], "--as", "alice")
    assert approved.exit == 0, approved.stderr
    (result,) = cli.run(*resume).json
    assert (result["run_id"], result["status"]) == (front["run_id"], "succeeded")
    assert "CH-20672 and CH-20673" in result["answer"]
    intents = cli.ask("audit", "search", "--run", billing["run_id"], "--kind", "intent")
    assert sum(one["resource"] == "tool:run_sql_query" for one in intents) == 1
    assert cli.ask("audit", "search", "--open") == []


def _until_billing_thinks(cli: Cli, process: Any) -> None:
    def thinks() -> bool:
        assert process.poll() is None, process.communicate()
        if not (cli.home / "remit.log").exists():
            return False
        return any(
            one["call"] == "2.m1" and one["agent"] == "billing"
            for one in cli.ask("audit", "search", "--open")
        )

    until(thinks, "billing's second model call")


def test_both_are_killed_and_go_on_together(cli: Cli, tmp_path: Path) -> None:
    slow = agents(tmp_path / "slow", after_s=3600)
    with cli.started("run", slow, "--offline", "--task", TASK) as process:
        _until_billing_thinks(cli, process)
        process.kill()
        process.wait(PATIENCE_S)
    script = tmp_path / "slow" / "scripts" / "billing.yaml"
    script.write_text(script.read_text().replace("after: 3600", "after: 0"))
    done = cli.run("runs", "resume", "--all-ready", "--config", slow, "--offline", "--json")
    (result,) = done.json
    assert (result["status"], "CH-20672 and CH-20673" in result["answer"]) == ("succeeded", True), result
    front, billing = family(cli)
    assert (front["status"], billing["status"]) == ("succeeded", "succeeded")
    calls = cli.ask("runs", "show", billing["run_id"])["calls"]
    assert [call["call"] for call in calls if call["kind"] == "tool"] == ["1.t0"]


def test_who_cancels_the_one_ends_the_other(cli: Cli, tmp_path: Path) -> None:
    slow = agents(tmp_path / "slow", after_s=3600)
    with cli.started("run", slow, "--offline", "--json", "--task", TASK) as process:
        _until_billing_thinks(cli, process)
        front, _ = family(cli)
        cancelled = cli.run("runs", "cancel", front["run_id"], "--reason", "wrong customer")
        assert cancelled.exit == 0, cancelled.stderr
        process.wait(PATIENCE_S)
    front, billing = family(cli)
    assert (front["status"], billing["status"]) == ("cancelled", "cancelled")
    assert cli.ask("audit", "search", "--open") == []


def test_both_are_handed_over_and_go_on(cli: Cli, tmp_path: Path) -> None:
    slow = agents(tmp_path / "slow", after_s=3600)
    with cli.started("run", slow, "--offline", "--json", "--grace", "0", "--task", TASK) as process:
        _until_billing_thinks(cli, process)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 4, stderr
    front, billing = family(cli)
    assert [one["error"]["code"] for one in (front, billing)] == ["run.handed_over"] * 2


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ("  agents: {front_desk: {config: front-desk.yaml, description: back}}\n", "config.circular"),
        ("  agents: {more: {config: absent.yaml, description: none}}\n", "config.missing"),
        ("  max_agent_dept: 3\n", "config.unknown_key"),
    ],
)
def test_what_is_wrong_below_is_said_with_its_file_and_line(
    more: str, code: str, cli: Cli, tmp_path: Path
) -> None:
    checked = cli.run("check", agents(tmp_path / "agents", billing=more))
    assert checked.exit == 2
    assert "billing.yaml:" in checked.stderr + checked.stdout
    assert code in checked.stderr + checked.stdout
