"""Runs a program of its own, and all that it starts, in namespaces that end with it.

Its standard input, output and error are the caller's. It has the environment that this process was given, an empty
work folder, and what may be read; the internet only where that was said. The first process of the namespace is ours: it
waits for what is left behind, and when it ends, so does everything.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from remit.adapters.sandbox.inside import kernel, landlock, limits, namespaces, seccomp
from remit.adapters.sandbox.inside.jail import Cell, Rules, sandbox_users
from remit.adapters.sandbox.inside.zygote import SYSTEM

PROGRAMS = ("/bin", "/sbin", "/etc/alternatives")
NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/pki")
CANNOT = 126
"""The exit code where the program could not be locked in, so was not begun; the reason is on standard error."""


def main() -> None:
    """Be locked in, and become the program. Arguments: where this package is, the setup as JSON, the program's own."""
    setup, command = json.loads(sys.argv[2]), sys.argv[3:]
    try:
        cell = _enter(setup)
        program = os.fork()
        if program == 0:
            _become(cell, command)
        os.closerange(0, 3)
        _wait_for(program)
    except (OSError, ValueError) as error:
        print(f"the program could not be locked in: {error}", file=sys.stderr)
        os._exit(CANNOT)


def _enter(setup: Mapping[str, Any]) -> Cell:
    version = landlock.abi()
    if not version:
        raise OSError("this kernel has no Landlock")
    (user,) = sandbox_users(1)
    wanted = (*SYSTEM, *PROGRAMS, *(NETWORK if setup["network"] else ()), sys.base_prefix, *setup["readable"])
    readable = [path for path in wanted if os.path.exists(path)]
    namespaces.enter(readable, ["program"], network=setup["network"])
    profile = seccomp.subprocess_profile(network=setup["network"])
    rules = Rules(
        readable=readable,
        limits=limits.Limits(**setup["limits"]),
        namespaced=True,
        landlock_abi=version,
        filter=seccomp.Filter(seccomp.program(profile, kernel.machine())),
        access=landlock.RUN,
        network=setup["network"],
    )
    return Cell(rules, "program", user)


def _become(cell: Cell, command: list[str]) -> None:
    try:
        os.setsid()
        environment = dict(os.environ)
        cell.lock(os.getppid())
        environment.update(HOME=os.getcwd(), TMPDIR=os.getcwd())
        os.execvpe(command[0], command, environment)  # noqa: S606 - the program that was asked for, and no shell
    except (OSError, ValueError) as error:
        print(f"the program could not be locked in: {error}", file=sys.stderr)
    finally:
        os._exit(CANNOT)


def _wait_for(program: int) -> None:
    """End as the program does; whatever it has left behind ends then too."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda given, _frame: os.kill(program, given))
    while True:
        process, status = os.wait()
        if process == program:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
