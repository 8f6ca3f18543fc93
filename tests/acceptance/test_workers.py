"""Workers as processes: what is queued is done, what a killed one left is finished by another, and nothing twice."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance_cli import PATIENCE_S, Cli, agent_folder, changed, until
from silent_server import SilentServer

from remit.ports.journal import AuditQuery

MAIL = "{tool: send_email, args: {to: a@example.com, subject: hello, body: hello}}"
SCRIPTS = {
    "mail": f"name: mail\nmatch: mail\nturns:\n  - call:\n      - {MAIL}\n  - say: sent\n    after: 4\n",
    "slow": "name: slow\nmatch: slow\nturns:\n  - say: late\n    after: 1\n",
    "quick": "name: quick\ndefault: true\nturns:\n  - say: quick\n",
}
ASKS = changed(("  data_access:", "  approvals: [{tool: send_email, reason: drill}]\n  data_access:"))


@contextlib.contextmanager
def working(cli: Cli, config: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that takes runs."""
    with cli.started("worker", config, "--offline", *more) as process:
        assert process.stderr is not None
        told = b""
        while b"up to" not in told:  # it says so once it is there
            told = process.stderr.readline()
            assert told, "the worker ended"
        yield process


def detached(cli: Cli, config: Path, task: str, *more: str) -> str:
    done = cli.run("run", config, "--detach", "--task", task, *more)
    assert done.exit == 0, done.stderr
    return done.stdout.strip()


def ended(cli: Cli, run_id: str) -> Any:
    return cli.run("runs", "wait", run_id, "--timeout", str(PATIENCE_S / 2), "--json").json


def on(database: str, folder: Path, *names: str) -> list[Cli]:
    """Homes on one database. Every one is asked as somebody who asks, and not as who approves."""
    return [Cli(folder / name, REMIT_DATABASE_URL=database, REMIT_PRINCIPAL="requester") for name in names]


def mails(*homes: Cli) -> int:
    return sum(len(list((cli.home / "support" / "outbox" / "new").glob("*"))) for cli in homes)


def test_a_detached_run_is_done_by_a_worker_and_continued_by_an_approval(cli: Cli, tmp_path: Path) -> None:
    config = agent_folder(tmp_path / "agent", config=ASKS, scripts=SCRIPTS)
    cli.environment["REMIT_PRINCIPAL"] = "requester"
    early = detached(cli, config, "quick")
    assert cli.ask("runs", "list", "--status", "queued")[0]["run_id"] == early
    assert cli.ask("agents", "list")["agents"][0]["queued"] == 1
    assert cli.run("runs", "wait", early, "--timeout", "0").exit == 1
    with working(cli, config) as worker:
        assert ended(cli, early)["answer"] == "quick"
        run_id = detached(cli, config, "mail")
        waiting = cli.run("runs", "wait", run_id)
        assert waiting.exit == 4
        assert "approval.required" in waiting.stdout
        assert mails(cli) == 0
        (approval,) = cli.ask("approvals", "list")
        assert cli.run("approvals", "approve", approval["approval_id"], "--as", "alice").exit == 0
        assert ended(cli, run_id)["answer"] == "sent"
        assert mails(cli) == 1
        worker.terminate()
        _, stderr = worker.communicate(timeout=PATIENCE_S)
    assert worker.returncode == 0, stderr
    assert b"Traceback" not in stderr


def test_what_a_killed_worker_was_doing_another_finishes_and_nothing_is_done_twice(
    database: str, tmp_path: Path
) -> None:
    config = agent_folder(tmp_path / "agent", scripts=SCRIPTS)
    one, two = on(database, tmp_path, "one", "two")
    with working(one, config) as first, working(two, config) as second:
        run_id = detached(one, config, "mail")
        until(lambda: _open(one, run_id, "2.m1"), "its second model call")
        taken = _taken(one, run_id)[-1]
        (killed, left) = (first, second) if f":{first.pid}:" in taken else (second, first)
        began = time.monotonic()
        killed.kill()
        assert ended(one, run_id)["answer"] == "sent"
        print(f"finished by another {time.monotonic() - began:.1f} s after the kill")
        assert f":{left.pid}:" in _taken(one, run_id)[-1]
    assert mails(one, two) == 1
    shown = one.ask("runs", "show", run_id)
    assert [(call["call"], call["state"]) for call in shown["calls"]] == [
        ("1.m1", "done"),
        ("1.t0", "done"),
        ("2.m1", "started"),
        ("2.m2", "done"),
        ("2.answer", "done"),
    ]
    told = [(record["kind"], record.get("status"), record.get("code")) for record in shown["story"]]
    assert told == [
        ("run.created", None, None),
        ("run.taken", None, None),
        ("run.ended", "suspended", "run.interrupted"),
        ("run.taken", None, None),
        ("run.ended", "succeeded", None),
    ]
    assert taken in one.run("runs", "show", run_id).stdout


def test_a_mail_that_was_under_way_when_its_worker_was_killed_waits_for_a_person(
    database: str, tmp_path: Path
) -> None:
    config = agent_folder(tmp_path / "agent", scripts=SCRIPTS)
    one, two = on(database, tmp_path, "one", "two")
    with contextlib.closing(SilentServer()) as silent:
        one.environment["REMIT_SMTP_URL"] = silent.url
        with working(one, config) as worker:
            run_id = detached(one, config, "mail")
            until(lambda: _open(one, run_id, "1.t0"), "the mail")
            worker.kill()
    with working(two, config):
        until(lambda: _taken(two, run_id)[1:], "the second worker")
        assert ended(two, run_id)["error"]["code"] == "effect.unknown"
        assert mails(two) == 0
        (effect,) = two.ask("effects", "list")
        resolved = two.run(
            "effects",
            "resolve",
            effect["call_id"],
            "--did-not-happen",
            "--reason",
            "I looked",
            "--as",
            "alice",
        )
        assert resolved.exit == 0, resolved.stderr
        assert ended(two, run_id)["status"] == "succeeded"


def test_a_worker_that_is_asked_to_end_hands_its_runs_over(database: str, tmp_path: Path) -> None:
    config = agent_folder(tmp_path / "agent", scripts=SCRIPTS)
    one, two = on(database, tmp_path, "one", "two")
    with working(one, config, "--grace", "0") as worker:
        run_id = detached(one, config, "mail")
        until(lambda: _open(one, run_id, "2.m1"), "its second model call")
        worker.terminate()
        _, stderr = worker.communicate(timeout=PATIENCE_S)
        assert worker.returncode == 0, stderr
    with working(two, config):
        assert ended(two, run_id)["answer"] == "sent"
    assert mails(one, two) == 1


def test_no_more_runs_than_the_limit_over_all_workers_and_all_are_done(database: str, tmp_path: Path) -> None:
    limited = changed(("max_concurrent_runs: 10", "max_concurrent_runs: 2"))
    config = agent_folder(tmp_path / "agent", config=limited, scripts=SCRIPTS)
    one, two = on(database, tmp_path, "one", "two")
    with working(one, config), working(two, config):
        ids = [detached(one, config, "slow") for _ in range(6)]
        assert [ended(one, run_id)["status"] for run_id in ids] == ["succeeded"] * 6
    runs = one.ask("runs", "list")
    times = sorted((run["started_at"], run["ended_at"]) for run in runs)
    for began, _ in times:
        assert sum(start <= began < end for start, end in times) <= 2, times


def test_a_full_queue_refuses(cli: Cli, tmp_path: Path) -> None:
    limited = changed(("max_concurrent_runs: 10", "max_queued_runs: 1"))
    config = agent_folder(tmp_path / "agent", config=limited, scripts=SCRIPTS)
    detached(cli, config, "quick")
    refused = cli.run("run", config, "--detach", "--task", "quick")
    assert refused.exit == 1
    assert "queue.full" in refused.stderr


@pytest.mark.parametrize("more", [("--stream",), ("--report",)])
def test_a_detached_run_shows_nothing(more: tuple[str, ...], cli: Cli) -> None:
    refused = cli.run("run", "examples/support/agent-config.yaml", "--detach", "--task", "t", *more)
    assert refused.exit == 2
    assert not cli.home.exists()


def _open(cli: Cli, run_id: str, call: str) -> bool:
    found = cli.records(AuditQuery(open_only=True))
    return any((one["run"], one["call"]) == (run_id, call) for one in found)


def _taken(cli: Cli, run_id: str) -> list[str]:
    """Who has taken a run, in turn."""
    return [record["worker"] for record in cli.records(AuditQuery(run_id=run_id, kind="run.taken"))]
