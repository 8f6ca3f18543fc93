"""This agent, tested without a key and without a network: the scripts in scripts/ say what the model does.

`pytest` runs it. Add a script for each thing that the agent must do, and for each that it must not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

AGENT = Path(__file__).resolve().parents[1]


def remit(home: Path, *arguments: str) -> Any:
    """What a `remit` command prints as JSON; its state is kept in `home`."""
    command = [sys.executable, "-c", "from remit.cli.main import main; main()", *arguments, "--json"]
    environment = {**os.environ, "REMIT_HOME": str(home)}
    done = subprocess.run(command, cwd=AGENT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ask(home: Path, task: str) -> Any:
    """The finished run of `task`."""
    return remit(home, "run", "agent-config.yaml", "--offline", "--task", task)


def test_it_answers_from_the_knowledge_base(tmp_path: Path) -> None:
    run = ask(tmp_path, "How do I reset my password?")
    assert run["status"] == "succeeded"
    assert "reset-password.md" in run["answer"]


def test_it_counts_the_customers_by_plan(tmp_path: Path) -> None:
    assert "team" in ask(tmp_path, "How many customers are on each plan?")["answer"]


def test_what_it_was_not_granted_is_refused_and_recorded(tmp_path: Path) -> None:
    run = ask(tmp_path, "Delete the account of C-1001")  # scripts/overreach.yaml makes the model try
    assert run["status"] == "succeeded"
    assert "done" not in run["answer"]
    assert "email is pii" in run["answer"]
    refusals = remit(tmp_path, "audit", "search", "--run", run["run_id"], "--kind", "refusal")
    assert [one["code"] for one in refusals] == ["tool.not_granted"]
