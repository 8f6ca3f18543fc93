"""A name server that answers otherwise at every question leads nobody in, through the system's own resolver."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def came_of(who: str) -> str:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no unshare to make a network with")
    command = [unshare, "--user", "--map-root-user", "--mount", "--net"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a network of his own")
    program = str(Path(__file__).with_name("rebinding.py"))
    done = subprocess.run(
        [*command, sys.executable, program, who], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_who_looks_and_then_connects_to_the_name_is_led_in() -> None:
    assert came_of("naive") == "sent | asked 2 | reached 1"


def test_the_door_asks_once_and_connects_to_what_it_looked_at() -> None:
    refused = "refused, refused, refused"
    assert came_of("door") == f"not sent, {refused}, not sent, refused | asked 6 | reached 0"
