"""The short form of the drill (`make chaos` is the long one), and a disk that is full for a while."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.chaos.drill import Drill, Options
from tests.chaos.world import ROOT


async def test_among_faults_nothing_is_lost_repeated_or_stuck(tmp_path: Path) -> None:
    options = Options(runs=24, faults=8, seed=3)
    report = await Drill(options, tmp_path / "drill").run()
    print("\n".join(report.lines()))
    assert report.wrong == [], f"logs in {tmp_path}"
    assert report.statuses == {"succeeded": options.runs}


def test_a_full_disk_stops_effects_and_loses_none(tmp_path: Path) -> None:
    alone = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("no small disk can be mounted here: mount namespaces are not permitted")
    command = [*alone, sys.executable, "-m", "tests.chaos.full_disk", str(tmp_path / "disk")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    assert told["worker_is_alive"]
    assert max(told["mails"].values()) <= 1, told
    assert all(told["mails"][task] == 1 for task in told["sent"]), told
    assert set(told["statuses"]) <= {"succeeded", "suspended effect.unknown"}, told
    assert told["mails_while_full"] < len(told["mails"]), "the disk was full while runs were under way"
