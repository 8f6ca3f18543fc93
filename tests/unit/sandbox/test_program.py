"""A program of its own in the sandbox: it may start others, and all of them end with it, whoever remit is."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from remit.adapters.sandbox.inside.limits import Limits
from remit.adapters.sandbox.program import ProgramSettings, locked_in

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")


USER = 65_531
"""A user that owns nothing, and of whom nobody else has a process."""


def locked_in_as(
    user: str, command: Sequence[str], settings: ProgramSettings = ProgramSettings()
) -> list[str]:
    """The command line that locks a program in, run as that user."""
    inside = locked_in(command, settings)
    if user == "as we are":
        return inside
    ids = ("--reuid", str(USER), "--regid", str(USER), "--clear-groups")
    return ["setpriv", *ids, "/usr/bin/python3", *inside[1:]]


@pytest.fixture(params=["as we are", "as nobody"])
def user(request: pytest.FixtureRequest) -> str:
    possible = os.getuid() == 0 and shutil.which("setpriv") and Path("/usr/bin/python3").exists()
    if request.param == "as nobody" and not possible:
        pytest.skip("only root can become another")
    return str(request.param)


async def run(
    user: str,
    *command: str,
    text: str = "",
    settings: ProgramSettings = ProgramSettings(),
    **environment: str,
) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *locked_in_as(user, command, settings),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", **environment},
    )
    out, error = await asyncio.wait_for(process.communicate(text.encode()), 30)
    code = process.returncode
    assert code is not None
    if code == 126:
        pytest.skip(error.decode())
    return code, out.decode(), error.decode()


async def test_a_program_reads_and_writes_and_starts_others(user: str) -> None:
    code, out, error = await run(
        user, "/bin/sh", "-c", "cat | tr a-z A-Z; echo $GIVEN; pwd; exit 3", text="hi\n", GIVEN="x"
    )
    assert (code, out, error) == (3, "HI\nx\n/calls/program\n", "")


async def test_it_sees_no_file_process_or_network_of_ours(user: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    tries = (
        f"cat {tmp_path}/secret; cat /etc/passwd; ls /home; ls /; echo x > /usr/bin/x; "
        "python3 -c 'import socket; socket.socket()'; python3 -c 'import os; os.unshare' ; id -u; kill -0 1 && echo one"
    )
    _, out, error = await run(user, "/bin/sh", "-c", tries)
    assert out.splitlines()[0] != "0"
    assert "secret: No such file" in error
    assert "/etc/passwd: No such file" in error
    assert "cannot create /usr/bin/x: Read-only" in error
    assert "PermissionError" in error or "not found" in error
    assert "s" not in out.splitlines()


async def test_what_it_may_read_it_may(user: str) -> None:
    with tempfile.TemporaryDirectory() as name:  # which everybody may pass, unlike pytest's own
        folder = Path(name)
        folder.chmod(0o755)
        program = folder / "program"
        program.write_text("#!/bin/sh\necho ran > mine; cat mine\n")
        program.chmod(0o755)
        code, out, error = await run(user, str(program), settings=ProgramSettings(readable=(folder,)))
    assert (code, out, error) == (0, "ran\n", "")


async def test_its_children_end_with_it_however_they_hide(user: str) -> None:
    hidden = "(setsid sh -c 'setsid sleep 300 &' &) ; echo $$"
    code, _, error = await run(user, "/bin/sh", "-c", hidden)
    assert (code, error) == (0, "")
    assert "sleep 300" not in await _processes()


async def test_killing_it_ends_everything(user: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *locked_in_as(user, ["/bin/sh", "-c", "setsid sleep 301 & echo up; wait"]),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert process.stdout is not None
    said = await process.stdout.readline()
    if not said:
        await process.wait()
        pytest.skip("no namespaces")
    assert "sleep 301" in await _processes()
    process.kill()
    await process.wait()
    assert await process.stdout.read() == b""  # whoever held it has ended
    assert "sleep 301" not in await _processes()


async def test_a_fork_bomb_stays_small(user: str) -> None:
    bomb = "i=0; while [ $i -lt 100 ]; do sleep 5 & i=$((i+1)); done; echo all"
    settings = ProgramSettings(limits=Limits(memory_mb=512, cpu_s=10, work_mb=16, processes=30))
    _, out, error = await run(user, "/bin/sh", "-c", bomb, settings=settings)
    assert "all" not in out or "fork" in error.lower()


async def _processes() -> str:
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            try:
                found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
    return "\n".join(found)
