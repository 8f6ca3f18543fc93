"""What a stranger to the project might have in the environment, or paste into a command."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

from acceptance_cli import CONFIG, ROOT, Cli


def test_offline_asks_no_proxy_of_the_environment(tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9"
    cli = Cli(tmp_path / "home", HTTP_PROXY=nobody, HTTPS_PROXY=nobody, ALL_PROXY=nobody, http_proxy=nobody)
    done = cli.run("run", CONFIG, "--offline", "--task", "How do refunds work?", "--json")
    assert (done.exit, done.json["status"]) == (0, "succeeded"), done.stderr


def test_what_a_run_keeps_is_for_its_owner_alone_also_in_an_open_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    cli = Cli(home)
    done = cli.run("run", CONFIG, "--offline", "--task", "Customer C-1042 was charged twice", "--json")
    assert done.exit == 0, done.stderr
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path.name for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_an_audit_search_takes_the_beginning_of_a_run_and_refuses_an_unknown_one(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home")
    run_id = cli.run("run", CONFIG, "--offline", "--task", "How do refunds work?", "--json").json["run_id"]
    assert len(cli.run("audit", "search", "--run", run_id[:12], "--json").json) > 5
    unknown = cli.run("audit", "search", "--run", "0000", "--json")
    assert (unknown.exit, unknown.stdout) == (2, "")
    assert "run.unknown" in unknown.stderr


def test_a_task_given_to_make_is_text_and_no_command(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        raise AssertionError("make is part of what this project needs")
    marker = tmp_path / "made"
    task = f'say "hi" $(touch {marker}) `touch {marker}` $(shell touch {marker})'
    printed = subprocess.run(
        ["make", "--no-print-directory", "-C", str(ROOT), "show-task", f"TASK={task}"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
        check=True,
    )
    assert printed.stdout.strip() == task
    assert not marker.exists()
