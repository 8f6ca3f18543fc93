"""Every attempt to get out is stopped inside, whoever remit is; and outside nearly all succeed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import remit
from remit.adapters.sandbox.probes.check import check_sandbox, planted
from remit.adapters.sandbox.probes.table import attempts
from remit.adapters.sandbox.settings import SandboxSettings
from remit.core.errors import RemitError
from remit.core.tools import Isolation
from remit.runtime.clock import SystemClock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

MAIN = "from remit.cli.main import main; main()"
KNOWN: dict[Isolation, list[str]] = {"sandboxed": ["secret_metadata"], "namespaced": []}
"""What stays open: without namespaces the file system can be looked at, though not opened."""

NOT_OUTSIDE = {"memory_bomb", "mapped_bomb", "huge_result", "forged_length"}
"""What would only hurt the machine, or has a meaning on the channel alone."""

OUTSIDE = {"memory_bomb", "mapped_bomb", "huge_result", "forged_length"}
"""What would only hurt the machine, or has a meaning on the channel alone."""

HARMLESS = {
    "devices": {
        "device",
        "kernel_log",
        "terminal",
        "terminals",
        "sys",
        "cgroup",
        "packets",
        "vsock",
        "netlink",
    },
    "as it is in the test's own process": {"environment", "descriptors", "output", "core"},
}

OUTSIDE = """
import json, os, select, signal, sys
from remit.adapters.sandbox.probes.attempts import Stopped
from remit.adapters.sandbox.probes.table import attempt, attempts
world = json.loads(sys.argv[1])
for name in attempts():
    if name in sys.argv[2].split(","):
        continue
    reads, writes = os.pipe()
    process = os.fork()
    if process == 0:
        os.dup2(os.open("printed", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), 1)
        try:
            told = attempt(name, world)
        except Stopped as stopped:
            told = "stopped by " + str(stopped)
        except BaseException as error:
            told = "broke with " + repr(error)
        os.write(writes, told.encode()[:1000])
        os._exit(0)
    os.close(writes)
    ready, _, _ = select.select([reads], [], [], 2)
    told = os.read(reads, 1000).decode() if ready else ""
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    os.close(reads)
    print(json.dumps([name, told]), flush=True)
"""


USERS = {"sandboxed": 65_532, "namespaced": 65_533}
"""Users that own nothing, and of whom nobody else has a process."""


def venv(folder: Path, *, as_user: int | None) -> Path:
    """An environment whose interpreter anybody may read; `as_user`: which runs as that user and not as root.

    Processes of one user share its limits, so tests that run side by side have users of their own.
    """
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("no interpreter that anybody may read")
    (folder / "bin").mkdir()
    program = folder / "bin/python"
    if as_user is not None:
        if os.getuid() != 0 or shutil.which("setpriv") is None:
            pytest.skip("only root can become another")
        program.write_text(
            f'#!/bin/sh\nexec setpriv --reuid {as_user} --regid {as_user} --clear-groups {python} "$@"\n'
        )
        program.chmod(0o755)
    else:
        program.symlink_to(python)
    return folder


@pytest.mark.parametrize("user", ["as we are", "as nobody"])
@pytest.mark.parametrize("level", ["sandboxed", "namespaced"])
async def test_every_attempt_to_get_out_is_stopped(tmp_path: Path, level: Isolation, user: str) -> None:
    place = venv(tmp_path, as_user=USERS[level] if user == "as nobody" else None)
    settings = SandboxSettings(name="check", sources={}, exactly=level, venv=place)
    try:
        found = await check_sandbox(settings, SystemClock())
    except RemitError as error:
        pytest.skip(f"{level}, {user}: {error.cause}")
    assert found.isolation == level
    assert len(found.probed) >= 100
    still_open = {one.name: one.by for one in found.probed if not one.closed}
    assert set(still_open) == set(KNOWN[level]), still_open
    assert not [one for one in found.probed if "raised" in one.by or "crashed" in one.by]


async def test_outside_of_a_sandbox_the_same_attempts_succeed(tmp_path: Path) -> None:
    async with planted(sys.executable) as world:
        done = subprocess.run(
            [sys.executable, "-c", OUTSIDE, json.dumps({**world, "spin_s": 0.2}), ",".join(NOT_OUTSIDE)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(remit.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    told = dict(json.loads(line) for line in done.stdout.splitlines())
    assert len(told) == len(attempts()) - len(NOT_OUTSIDE)
    broken = {name: what for name, what in told.items() if what.startswith("broke")}
    assert broken.keys() <= {"memfd_exec", "exec"}
    closed = {name: what for name, what in told.items() if what.startswith("stopped")}
    assert len(closed) <= len(told) // (4 if os.getuid() == 0 else 2), closed


def test_the_command_says_what_is_open(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "doctor", "--sandbox", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(remit.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert not done.stderr, done.stderr
    said = json.loads(done.stdout)
    assert said["probes"] == len(said["attempts"]) >= 45
    assert done.returncode == (1 if said["open"] else 0)
    assert said["open"] == KNOWN.get(said["isolation_level"], said["open"])
