"""The calls of the Linux kernel that Python has no name for. Each raises OSError with the call's name."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path

Machine = str
MACHINES: tuple[Machine, ...] = ("x86_64", "aarch64")

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
AT_RECURSIVE = 0x8000
AT_FDCWD = -100

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_VERSION_3 = 0x20080522


@cache
def numbers(machine: Machine) -> Mapping[str, int]:
    """The numbers of the system calls of a machine, by name. Raises: OSError where it is a foreign one."""
    if machine not in MACHINES:
        raise OSError(f"no table of system calls for {machine}")
    column = 1 + MACHINES.index(machine)
    lines = (Path(__file__).parent / "syscalls.txt").read_text().splitlines()
    rows = (line.split() for line in lines if not line.startswith("#"))
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def machine() -> Machine:
    """What this process runs on."""
    return platform.machine()


def syscall(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """What the kernel answers. Raises: OSError."""
    number = numbers(machine()).get(name)
    if number is None:
        raise OSError(38, "no such system call here", name)
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    answer = int(_libc().syscall(ctypes.c_long(number), *words))
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return answer


def address(buffer: ctypes.Structure | ctypes.Array[ctypes.c_char]) -> int:
    """Where a buffer lies."""
    return ctypes.addressof(buffer)


def prctl(option: int, value: int = 0, *rest: int) -> int:
    """Set an attribute of this process."""
    return syscall("prctl", option, value, *(*rest, 0, 0, 0)[:3])


def unshare(flags: int) -> None:
    """Be in namespaces of one's own."""
    syscall("unshare", flags)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount `source` on `target`."""
    syscall(
        "mount",
        os.fsencode(source) + b"\0",
        os.fsencode(target) + b"\0",
        kind.encode() + b"\0",
        flags,
        options.encode() + b"\0",
    )


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns", ctypes.c_uint64),
    )


def restrict_mount(target: str, attributes: int) -> None:
    """Add attributes to the mount at `target` and to all below it."""
    wanted = _MountAttributes(attributes, 0, 0, 0)
    size = ctypes.sizeof(wanted)
    syscall("mount_setattr", AT_FDCWD, os.fsencode(target) + b"\0", AT_RECURSIVE, address(wanted), size)


def bind(source: str, target: str, *, devices: bool = False) -> None:
    """Show `source` at `target` too, read-only."""
    mount(source, target, flags=MS_BIND | MS_REC)
    attributes = MOUNT_ATTR_NOSUID if devices else MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    restrict_mount(target, attributes)


def unmount(target: str) -> None:
    """Let go of a mount, whoever still looks at it."""
    syscall("umount2", os.fsencode(target) + b"\0", MNT_DETACH)


def pivot_root(root: str) -> None:
    """Make `root` the root of all, and let go of what was there before."""
    os.chdir(root)
    syscall("pivot_root", b".\0", b".\0")
    unmount(".")
    os.chdir("/")


def drop_capabilities() -> None:
    """Have no capability any more; with no_new_privs, for ever."""
    # plain bytes: a type of ctypes' own, made in a process for one call, copies a hundred of its pages
    syscall("capset", struct.pack("=Ii", CAPABILITY_VERSION_3, 0), bytes(24))
