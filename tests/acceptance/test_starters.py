"""What begins runs without a person at a shell: the clock."""

from __future__ import annotations

from pathlib import Path

from acceptance_cli import CONFIG, agent_folder, until
from test_workers import SCRIPTS, ended, on, working

EVERY_MINUTE = (
    '  schedules: [{name: often, cron: "* * * * *", timezone: Europe/Zurich, task: quick, urgency: 7}]\n'
)


def test_two_workers_start_a_tick_once_and_one_of_them_runs_it(database: str, tmp_path: Path) -> None:
    config = agent_folder(tmp_path / "agent", config=CONFIG.read_text() + EVERY_MINUTE, scripts=SCRIPTS)
    one, two = on(database, tmp_path, "one", "two")
    (listed,) = one.ask("schedules", "list", config)
    assert listed["last"] is None
    with working(one, config), working(two, config):
        # the minute that has begun is on time
        run_id = until(lambda: one.ask("schedules", "list", config)[0]["last"], "the first tick")["run_id"]
        assert ended(one, run_id)["answer"] == "quick"
    # each of the ticks that came meanwhile has one run, whoever was first
    runs = one.ask("runs", "list")
    created = one.ask("audit", "search", "--kind", "run.created")
    ticks = {run["run_id"][:10] for run in runs}
    assert len(ticks) == len(runs) == len(created)
    assert {record["principal"] for record in created} == {"service:schedule:often"}
    (listed,) = one.ask("schedules", "list", config)
    assert listed["last"]["tick"].endswith(":00.000000Z")
    assert "Every minute" in one.run("schedules", "list", config).stdout
    assert "begin the task of often: Every minute (Europe/Zurich), next 2" in one.run("check", config).stdout
