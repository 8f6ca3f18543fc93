"""The process that others are forked from: it is small, started afresh, single-threaded, and runs only our code.

It is told what to be in one message, answers what it could be, and then forks one process for each call, locks that in
and lets it go. Nothing that a tool does comes back here: a process is used once.
"""

from __future__ import annotations

import gc
import io
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from remit.adapters.sandbox.inside import kernel, landlock, namespaces, runner, seccomp, wire
from remit.adapters.sandbox.inside.jail import Cell, Rules, sandbox_users
from remit.adapters.sandbox.inside.limits import Limits
from remit.adapters.sandbox.inside.sources import Sources

CHANNEL = 3
"""The descriptor of the channel of each process to us."""


SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime")
"""What the interpreter and the libraries of packages need of the machine."""


TASKS_SPARE = 500


def main() -> None:
    """Serve until the other side goes away. Its arguments: where this package is, and the channel to us."""
    os.environ.clear()
    os.environ["LANG"] = "C.UTF-8"
    given = int(sys.argv[2])
    if given != CHANNEL:
        os.dup2(
            given, CHANNEL
        )  # a number that each process will need for its own channel must not be another's
        os.close(given)
    control = socket.socket(fileno=CHANNEL)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a line that a tool has printed is there when it is killed
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    setup = wire.receive(control)
    try:
        cells = _cells(setup)
        _try(cells[0])
        sources = Sources(setup["sources"])
    except (OSError, SyntaxError, ValueError) as error:
        wire.send(control, {"failed": f"{type(error).__name__}: {error}"})
        return
    sys.path.remove(sys.argv[1])
    sys.path += _packages(setup)
    if sources.asynchronous:
        import asyncio  # noqa: F401, PLC0415 - once here, where most toolsets do without, and not in every process
    sources.install()
    gc.collect()
    gc.freeze()
    gc.disable()
    wire.send(control, {"level": setup["level"], "landlock": cells[0].rules.landlock_abi})
    _Zygote(control, cells, sources).serve()


def _cells(setup: Mapping[str, Any]) -> list[Cell]:
    """Be in the namespaces that are wanted, and have a place for each process. Raises: OSError."""
    level = setup["level"]
    namespaced = level == "namespaced"
    wanted = (*SYSTEM, sys.base_prefix, *_packages(setup), *setup["readable"])
    readable = [path for path in wanted if os.path.exists(path)]
    limits = Limits(**setup["limits"])
    if level == "process":
        rules = Rules(readable=readable, limits=limits, namespaced=False, landlock_abi=0, filter=None)
        return [Cell(rules, name, None) for name in setup["cells"]]
    version = landlock.abi()
    if not version:
        raise OSError("this kernel has no Landlock")
    names = setup["cells"]
    users = sandbox_users(len(names))
    if namespaced:
        namespaces.enter(readable, names)
    if (
        users[0] is None
    ):  # all calls are one user's, as are, without namespaces, processes that are none of ours
        others = 0 if namespaced else TASKS_SPARE + _tasks_of(os.getuid())
        limits = replace(limits, processes=limits.processes * len(names) + others)
    profile = seccomp.function_profile(owns_files=namespaced, guards_truncate=version >= 3)
    rules = Rules(
        readable=readable,
        limits=limits,
        namespaced=namespaced,
        landlock_abi=version,
        filter=seccomp.Filter(seccomp.program(profile, kernel.machine())),
    )
    return [Cell(rules, name, user) for name, user in zip(names, users, strict=True)]


def _tasks_of(user: int) -> int:
    """How many threads of all processes a user has."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                count += (
                    len(os.listdir(f"/proc/{name}/task")) if os.stat(f"/proc/{name}").st_uid == user else 0
                )
            except OSError:
                continue  # it has just ended
    return count


def _try(cell: Cell) -> None:
    """Lock a process in, so that what is said of this machine has been seen to be so. Raises: OSError."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    process = os.fork()
    if process == 0:
        try:
            os.dup2(theirs, CHANNEL)  # locking in closes all above it
            cell.lock(parent)
            with open(os.__file__, "rb") as file:  # what is imported later must be there
                file.read(1)
            os.write(CHANNEL, b"1")
        except (OSError, ValueError) as error:
            os.write(CHANNEL, str(error).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    told = os.read(ours, 4096)
    os.close(ours)
    os.waitpid(process, 0)
    if told != b"1":
        raise OSError(told.decode() or "a process that was locked in ended at once")


def _packages(setup: Mapping[str, Any]) -> list[str]:
    """The packages of the virtual environment that was named."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return [f"{setup['venv']}/lib/{version}/site-packages"] if setup["venv"] else []


class _Zygote:
    """The loop: what is asked for on one side, who has ended on the other."""

    def __init__(self, control: socket.socket, cells: list[Cell], sources: Sources) -> None:
        self._control = control
        self._free = cells
        self._sources = sources
        self._running: dict[int, tuple[int, Cell]] = {}
        self._wake, wake_up = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_up, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _woken)
        self._nothing = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def serve(self) -> None:
        """Until the other side goes away; then nothing that was started here lives on."""
        while True:
            ready, _, _ = select.select([self._control.fileno(), self._wake], [], [])
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
            if self._control.fileno() in ready and not self._obey():
                break
        for process in self._running:
            os.kill(process, signal.SIGKILL)

    def _obey(self) -> bool:
        """Do what is asked. False where nobody is there to ask any more."""
        room = socket.CMSG_SPACE(2 * struct.calcsize("i"))
        received, ancillary, _, _ = self._control.recvmsg(wire.CONTROL.size, room, socket.MSG_WAITALL)
        if len(received) < wire.CONTROL.size:
            return False
        verb, number = wire.CONTROL.unpack(received)
        if verb == wire.KILL:
            for process, (one, _) in self._running.items():
                if one == number:
                    os.kill(process, signal.SIGKILL)
            return True
        descriptors = [
            place for level, kind, data in ancillary for place in struct.unpack(f"{len(data) // 4}i", data)
        ]
        self._spawn(number, *descriptors)
        return True

    def _spawn(self, number: int, channel: int, output: int) -> None:
        parent = os.getpid()
        cell = self._free.pop()
        process = os.fork()
        if process == 0:
            self._become_tool(cell, parent, channel, output)
        os.close(channel)
        os.close(output)
        self._running[process] = number, cell

    def _become_tool(self, cell: Cell, parent: int, channel: int, output: int) -> None:
        """In the new process: let go of all but what it needs, be locked in, and do the one call."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            # first out of the way of the numbers that they are to have
            kept = [os.dup(place) for place in (self._nothing, output, output, channel)]
            for wanted, place in enumerate(kept):
                os.dup2(place, wanted)
            code = self._run(cell, parent)
        finally:
            os._exit(code)

    def _run(self, cell: Cell, parent: int) -> int:
        tools = socket.socket(fileno=CHANNEL)
        try:
            cell.lock(parent)
        except (OSError, ValueError) as error:
            wire.send(tools, {"failed": f"the process could not be locked in: {error}"})
            return 1
        return runner.run(tools, self._sources)

    def _reap(self) -> None:
        """Tell of everyone who has ended."""
        while self._running:
            process, status, usage = os.wait4(-1, os.WNOHANG)
            if process == 0:
                return
            if process in self._running:
                number, cell = self._running.pop(process)
                cell.clear()
                self._free.append(cell)
                ended = {
                    "ended": number,
                    "code": os.waitstatus_to_exitcode(status),
                    "cpu_ms": int((usage.ru_utime + usage.ru_stime) * 1000),
                    "memory_kb": usage.ru_maxrss,
                }
                wire.send(self._control, ended)


def _woken(_number: int, _frame: object) -> None:
    """The wake-up descriptor says it all."""
