"""Workers on one PostgreSQL database, as processes: what one has done all see, what one leaves behind others end."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from acceptance_cli import Cli, agent_folder, until
from psycopg.conninfo import make_conninfo

_SLOW = {
    "slow": "name: slow\ndefault: true\nturns:\n"
    "  - call:\n      - {tool: search_kb, args: {query: refund}}\n"
    "  - say: late\n    after: 3600\n"
}


def worker(folder: Path, name: str, database: str, **environment: str) -> Cli:
    return Cli(folder / name, REMIT_DATABASE_URL=database, **environment)


def test_what_one_worker_has_done_all_see(tmp_path: Path, database: str) -> None:
    one, other = worker(tmp_path, "one", database), worker(tmp_path, "other", database)
    assert other.run("runs", "list").exit == 0
    done = one.task("Customer C-1042 was charged twice this month.")
    assert done.exit == 0, done.stderr
    run_id = done.json["run_id"]
    assert [run["run_id"] for run in other.ask("runs", "list")] == [run_id]
    for arguments in (("runs", "show", run_id), ("audit", "search"), ("costs",), ("trace", run_id)):
        shown = other.run(*arguments)
        assert shown.exit == 0, shown.stderr
    assert not (one.home / "remit.db").exists()
    doctor = one.run("doctor")
    assert doctor.exit == 0, doctor.stdout
    assert "PostgreSQL" in doctor.stdout


def test_what_a_killed_process_left_waits_to_go_on_and_what_a_live_one_has_does_not(
    tmp_path: Path, database: str
) -> None:
    slow = agent_folder(tmp_path / "agent", scripts=_SLOW)
    live, killed = worker(tmp_path, "live", database), worker(tmp_path, "killed", database)
    third = worker(tmp_path, "third", database)
    begun = ("run", slow, "--offline", "--json", "--task", "wait")

    def running() -> list[str]:
        runs = third.read(lambda journal: journal.runs(status="running")) or ()
        return [record.run.id for record in runs]

    with live.started(*begun):
        until(running, "the first run")
        (living,) = running()
        with killed.started(*begun) as process:
            until(lambda: len(running()) == 2, "the second run")
            (left,) = set(running()) - {living}
            process.kill()
            process.wait()
        with psycopg.connect(database, autocommit=True) as connection:
            # as if the lease's time had passed
            connection.execute(
                "UPDATE remit.worker SET lease_until = 0 FROM remit.run WHERE run.id = %s AND worker.id = run.worker",
                (left,),
            )
        done = third.task("Customer C-1042 was charged twice this month.")
        assert done.exit == 0, done.stderr
        assert running() == [living]
        shown = third.ask("runs", "show", left)
        assert shown["status"] == "suspended"
        assert "run.interrupted" in str(shown)


@pytest.mark.parametrize("arguments", [("runs", "list"), ("doctor",)])
def test_a_database_that_is_not_there_is_said_without_its_secret(
    tmp_path: Path, database: str, arguments: tuple[str, ...]
) -> None:
    # nobody listens on port 1
    cli = worker(tmp_path, "home", make_conninfo(database, password="hush-hush", port=1))
    said = cli.run(*arguments)
    assert said.exit == 1
    assert "hush-hush" not in said.stdout + said.stderr
    assert "journal" in said.stdout + said.stderr
