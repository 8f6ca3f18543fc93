"""Attempts to get out, as a tool might make them. Each returns what it reached, or is stopped.

Run inside, on the standard library. An attempt that comes back with anything, even a complaint of the kernel about its
arguments, has reached what it should not; only a refusal stops it. Outside of a sandbox nearly all succeed.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from remit.adapters.sandbox.inside import kernel, seccomp

World = Mapping[str, Any]
"""What is planted outside: `secret` a file, `unix` and `abstract` sockets, `port` of loopback, `parent` a process,
`sibling` another, `work` the work folder of another call, `spin_s` how long what does not end goes on."""

_REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS)


class Stopped(Exception):
    """The attempt was refused, and by what."""


class Attempt(NamedTuple):
    """What is tried, in words, and how. `ends`: the codes with which our side may end it."""

    tried: str
    make: Callable[[World], str]
    ends: tuple[str, ...] = ()


def refused(error: OSError) -> Stopped:
    call = seccomp.refused_call(error.errno, kernel.machine())
    if call is not None:
        return Stopped(f"seccomp refuses {call}")
    return Stopped(errno.errorcode.get(error.errno or 0, str(error.errno)))


def of_files(use: Callable[[World], object]) -> Callable[[World], str]:
    """An attempt that any error of the system stops."""

    def make(world: World) -> str:
        try:
            return f"reached {str(use(world))[:60]!r}"
        except OSError as error:
            raise refused(error) from error

    return make


def call(name: str, *arguments: Any) -> Callable[[World], str]:
    """A system call that only a refusal stops: a complaint about its arguments has reached the kernel's own code."""

    def make(world: World) -> str:
        values = [world[one[1:]] if isinstance(one, str) else one for one in arguments]
        try:
            return f"the kernel answered {kernel.syscall(name, *values)}"
        except OSError as error:
            if error.errno in _REFUSALS or seccomp.refused_call(error.errno, kernel.machine()):
                raise refused(error) from error
            return f"the kernel answered {error}"

    return make


def read(path: str) -> Callable[[World], str]:
    def use(world: World) -> object:
        with open(path.format(**world), "rb") as file:
            return file.read(40)

    return of_files(use)


def write(path: str) -> Callable[[World], str]:
    def use(world: World) -> object:
        place = path.format(**world)
        with open(place, "w") as file:
            file.write("x")
        os.unlink(place)
        return place

    return of_files(use)


def connect(family: int, kind: int, address: Callable[[World], Any]) -> Callable[[World], str]:
    def use(world: World) -> object:
        with socket.socket(family, kind) as channel:
            channel.settimeout(1.0)
            target = address(world)
            if target is None:
                return "a socket"
            try:
                channel.connect(target)
                channel.send(b"x")
            except OSError as error:
                if error.errno in _REFUSALS:
                    raise
                return f"a socket, then {error}"
        return target

    return of_files(use)


def symlink(world: World) -> object:
    os.symlink(world["secret"], "link")
    try:
        with open("link") as file:
            return file.read(40)
    finally:
        os.unlink("link")


def link(world: World) -> object:
    os.link(world["secret"], "hard")
    os.unlink("hard")
    return world["secret"]


def rename(world: World) -> object:
    with open(world["secret"] + ".mine", "w") as file:
        file.write("x")
    os.rename(world["secret"] + ".mine", world["secret"] + ".moved")
    os.unlink(world["secret"] + ".moved")
    return "renamed"


def environment(world: World) -> str:
    foreign = sorted(set(os.environ) - {"HOME", "LANG", "LC_CTYPE", "TMPDIR"})
    if foreign:
        return f"variables {', '.join(foreign[:3])}"
    raise Stopped("there is none of ours")


def descriptors(world: World) -> str:
    found = []
    for number in range(256):
        try:
            os.fstat(number)
        except OSError:
            continue
        found.append(number)
    foreign = [number for number in found if number > 3]
    if foreign or 3 not in found:
        return f"descriptors {foreign}"
    raise Stopped("there are four, all its own")


def inherited_output(world: World) -> str:
    """Whether what it prints goes to a terminal or a pipe that somebody reads."""
    mode = os.fstat(1).st_mode
    if mode & 0o170000 in (0o010000, 0o020000, 0o140000):
        return f"an output of mode {mode:o}"
    raise Stopped("its output is a file of its own")


def exec(world: World) -> object:
    os.execve("/usr/bin/env", ["env"], {})  # noqa: S606 - what is tried
    return "it ran"


def memfd_exec(world: World) -> object:
    place = os.memfd_create("program")
    os.write(place, b"#!/usr/bin/env true\n")
    os.execve(place, ["x"], {})  # noqa: S606 - what is tried
    return "it ran"


def spawn(world: World) -> object:
    process = os.posix_spawn("/usr/bin/env", ["env", "true"], {})
    os.waitpid(process, 0)
    return process


def fork(world: World) -> object:
    process = os.fork()
    if process == 0:
        os._exit(0)
    os.waitpid(process, 0)
    return process


def fork_bomb(world: World) -> object:
    processes = []
    for _ in range(200):
        process = os.fork()
        if process == 0:
            time.sleep(5)
            os._exit(0)
        processes.append(process)
    for process in processes:
        os.kill(process, 9)
        os.waitpid(process, 0)
    return f"{len(processes)} processes"


def zombies(world: World) -> object:
    for _ in range(3):
        if os.fork() == 0:
            os._exit(0)
    return "children that nobody waits for"


def double_fork(world: World) -> object:
    process = os.fork()
    if process == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1)
        os._exit(0)
    os.waitpid(process, 0)
    return "a process that nobody knows"


def thread_bomb(world: World) -> str:
    threading.stack_size(32 * 1024)
    done = threading.Event()
    count = 0
    try:
        for _ in range(2_000):
            threading.Thread(target=done.wait, daemon=True).start()
            count += 1
    except (RuntimeError, MemoryError) as error:
        raise Stopped(f"after {count} threads: {error}") from error
    finally:
        done.set()
    return f"{count} threads"


def memory_bomb(world: World) -> str:
    kept = []
    try:
        for _ in range(40):
            kept.append(bytearray(64 * 1024 * 1024))
    except MemoryError as error:
        raise Stopped(f"after {len(kept) * 64} MB") from error
    return f"{len(kept) * 64} MB"


def mapped_bomb(world: World) -> object:
    kept = [mmap.mmap(-1, 256 * 1024 * 1024) for _ in range(10)]
    return f"{len(kept) * 256} MB"


def disk_bomb(world: World) -> object:
    with open("big", "wb") as file:
        for _ in range(300):
            file.write(bytes(1024 * 1024))
    os.unlink("big")
    return "300 MB"


def many_files(world: World) -> object:
    names = [f"f{number}" for number in range(6_000)]
    for name in names:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
    for name in names:
        os.unlink(name)
    return "6,000 files"


def open_bomb(world: World) -> object:
    kept = [os.dup(0) for _ in range(600)]
    for place in kept:
        os.close(place)
    return f"{len(kept)} descriptors"


def print_bomb(world: World) -> object:
    for _ in range(300):
        os.write(1, bytes(1024 * 1024))
    return "300 MB printed"


def spin(world: World) -> str:
    end = time.monotonic() + world["spin_s"]
    while time.monotonic() < end:
        pass
    return "ran on"


def sleep_on(world: World) -> str:
    """Nothing that it can do about signals makes it outlive its deadline."""
    import signal  # noqa: PLC0415 - beside what it is for

    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    threading.Thread(target=time.sleep, args=(world["spin_s"],)).start()
    time.sleep(world["spin_s"])
    return "slept on"


def huge_result(world: World) -> str:
    return "x" * 50_000_000


def forged_length(world: World) -> str:
    os.write(3, struct.pack("!I", 2**32 - 1) + b"{" * 1000)
    time.sleep(world["spin_s"])
    return "nobody minded"


def own_signal(world: World) -> object:
    """Has the kernel send a signal in its place, when a pipe can be read."""
    import fcntl  # noqa: PLC0415 - beside what it is for

    reads, _ = os.pipe()
    fcntl.fcntl(reads, 8, world["sibling"])  # F_SETOWN
    return "a signal to another"


def raise_limit(world: World) -> object:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most + 1))
    except ValueError as error:
        raise Stopped(str(error)) from error
    return "a higher limit"


def core(world: World) -> str:
    if resource.getrlimit(resource.RLIMIT_CORE) != (0, 0):
        return "a core would be written"
    raise Stopped("no core is written")


def become_root(world: World) -> object:
    os.setuid(0)
    return os.getuid()


def is_root(world: World) -> str:
    if os.geteuid() == 0:
        return "it is root"
    raise Stopped("it is nobody")


def capabilities(world: World) -> str:
    header, data = (
        ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8),
        ctypes.create_string_buffer(24),
    )
    kernel.syscall("capget", kernel.address(header), kernel.address(data))
    effective = struct.unpack("=6I", data.raw)
    if any(effective):
        return f"capabilities {effective[0]:x}"
    raise Stopped("it has none")
