"""seccomp: the system calls that this process may still make, from now on and for ever.

An allow-list: what is not on it is refused, with an error number that names the call (`refused_call`), so that
whoever asks learns what it was. The filter is a program of the kernel's classic BPF, assembled here for x86-64 and
aarch64. Source: Documentation/userspace-api/seccomp_filter.rst of the kernel.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from remit.adapters.sandbox.inside import kernel

ERRNO_BASE = 1000
"""A refused call fails with this plus its number: no error number of the kernel's own is as high."""

EPERM = 1
ENOSYS = 38

_AUDIT_ARCH: Mapping[str, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_ERRNO = 0x00050000

_LOAD = 0x20
_JUMP = 0x05
_JUMP_EQUAL = 0x15
_JUMP_AT_LEAST = 0x35
_JUMP_ANY_BIT = 0x45
_RETURN = 0x06
_RETURN_A = 0x16
_ADD = 0x04
_OR = 0x44
_AND = 0x54

_NUMBER_AT = 0
_ARCH_AT = 4
_ARGUMENTS_AT = 16

_SHARED_BY_THREADS = 0x007D0F00
_CLONE_THREAD = 0x00010000

_FILES = """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range dup dup2 dup3
    open openat stat lstat fstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents getdents64
    getcwd chdir fchdir mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 ftruncate fallocate
    fsync fdatasync fadvise64 readahead sendfile copy_file_range umask statfs fstatfs flock pipe pipe2 truncate
"""
_MEMORY = "mmap munmap mremap mprotect madvise brk msync mincore"
_TIME = """
    clock_gettime clock_getres clock_nanosleep gettimeofday time nanosleep times getitimer setitimer alarm
    timerfd_create timerfd_settime timerfd_gettime
"""
_WAITING = """
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
    eventfd eventfd2 futex futex_waitv pause
"""
_SELF = """
    getpid getppid gettid getuid geteuid getgid getegid getresuid getresgid getgroups getpgid getpgrp getsid
    getpriority getrusage getrlimit sysinfo uname getcpu sched_yield sched_getaffinity sched_getparam
    sched_getscheduler sched_get_priority_max sched_get_priority_min capget set_robust_list get_robust_list
    set_tid_address rseq membarrier getrandom exit exit_group restart_syscall
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack
"""
_CHANNEL = "recvfrom recvmsg sendto sendmsg shutdown getsockopt setsockopt getsockname getpeername"
"""On what was inherited, and on pairs: no socket can be made."""

_ATTRIBUTES = "chmod fchmod fchmodat fchmodat2 utimensat utime utimes futimesat"
_PROCESSES = """
    execve fork vfork wait4 waitid kill tgkill tkill setpgid setsid symlink symlinkat link linkat
    memfd_create inotify_init1 inotify_add_watch inotify_rm_watch signalfd4 sched_setaffinity setpriority
"""


class Check(NamedTuple):
    """A call is allowed where an argument is one of `values`, or has no bit of `none_of` and all of `all_of`.

    And those that `zero` names are 0, all 64 bits of them.
    """

    argument: int
    values: tuple[int, ...] = ()
    none_of: int = 0
    all_of: int = 0
    zero: tuple[int, ...] = ()


# beside what they are for, these calls can signal, spy on or change others
_CHECKS: Mapping[str, Check] = {
    "clone": Check(0, none_of=0xFFFFFFFF ^ _SHARED_BY_THREADS, all_of=_CLONE_THREAD),
    "socketpair": Check(0, values=(1,)),
    # F_SETOWN and F_SETSIG would send any signal to any process
    "fcntl": Check(1, values=(0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1033, 1034)),
    "ioctl": Check(1, values=(0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),
    "prctl": Check(0, values=(3, 15, 16, 0x53564D41)),
    # its own limits, to read them: remit may be the same user, where there are no namespaces
    "prlimit64": Check(0, values=(0,), zero=(2,)),
}
_IN_SUBPROCESSES: Mapping[str, Check] = {
    # a new namespace is not a child
    "clone": Check(0, none_of=0x7E020000),
    "ioctl": Check(
        1, values=(0x5401, 0x5402, 0x5403, 0x5404, 0x540F, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
    ),
    "prctl": Check(0, values=(3, 8, 15, 16, 23, 38, 39, 0x53564D41)),
}
_MISSING = ("clone3", "openat2", "mseal", "map_shadow_stack")
"""Said not to be there: who asks then does it another way, which can be looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a process may ask of the kernel. `named`: a refusal names the call, else it is EPERM."""

    allowed: frozenset[str]
    checks: Mapping[str, Check] = field(default_factory=dict)
    named: bool = True


def function_profile(*, owns_files: bool, guards_truncate: bool = True) -> Profile:
    """For a function: no exec, no fork, no socket, no signal. `owns_files`: what it can see is its own.

    `guards_truncate`: Landlock does, as it does from Linux 6.2 on; before, a file that may only be read can be cut.
    """
    allowed = _words(
        _FILES, _MEMORY, _TIME, _WAITING, _SELF, _CHANNEL, *([_ATTRIBUTES] if owns_files else [])
    )
    checks = dict(_CHECKS)
    if not guards_truncate:
        allowed -= {"open", "truncate"}
        checks["openat"] = Check(2, none_of=0x200)
    return Profile(allowed=allowed, checks=checks)


def subprocess_profile(*, network: bool) -> Profile:
    """For a program of its own: it may start others, in its own process namespace; a socket where `network`."""
    sockets = "socket connect bind listen accept accept4 recvmmsg sendmmsg" if network else ""
    allowed = _words(_FILES, _MEMORY, _TIME, _WAITING, _SELF, _CHANNEL, _ATTRIBUTES, _PROCESSES, sockets)
    checks = {**_CHECKS, **_IN_SUBPROCESSES}
    if network:
        # those of the internet, and Unix's, whose paths are as few as the files that can be seen
        checks["socket"] = Check(0, values=(1, 2, 10))
    return Profile(allowed=allowed | ({"arch_prctl"}), checks=checks, named=False)


def _words(*texts: str) -> frozenset[str]:
    return frozenset(word for text in texts for word in text.split())


class Instruction(NamedTuple):
    """One step of a BPF program."""

    code: int
    value: int
    if_true: int = 0
    if_false: int = 0


def program(profile: Profile, machine: str) -> tuple[Instruction, ...]:
    """The filter of a profile on a machine. A call that the machine does not have is left out.

    The number is looked for in a tree and not in a list: the kernel tries the filter for each call that there is when
    it is installed, which is done in every process.
    """
    numbers = kernel.numbers(machine)
    ends: dict[int, tuple[Instruction, ...]] = {}
    for name in profile.allowed & numbers.keys():
        ends[numbers[name]] = (Instruction(_RETURN, _ALLOW),)
    for name in set(_MISSING) & numbers.keys():
        ends[numbers[name]] = (Instruction(_RETURN, _ERRNO | ENOSYS),)
    for name in profile.checks.keys() & numbers.keys():
        number = numbers[name]
        refused = Instruction(_RETURN, _ERRNO | (ERRNO_BASE + number if profile.named else EPERM))
        ends[number] = (*_passes(profile.checks[name]), refused)
    return (
        Instruction(_LOAD, _ARCH_AT),
        Instruction(_JUMP_EQUAL, _AUDIT_ARCH[machine], 1, 0),
        Instruction(_RETURN, _KILL),
        Instruction(_LOAD, _NUMBER_AT),
        Instruction(_JUMP_AT_LEAST, _X32, 0, 1),
        Instruction(_RETURN, _KILL),
        *_tree(_ranges(ends, _named_refusal() if profile.named else (Instruction(_RETURN, _ERRNO | EPERM),))),
    )


class _Range(NamedTuple):
    """The calls from this number to the next range's, and what is done with them."""

    first: int
    steps: tuple[Instruction, ...]


def _named_refusal() -> tuple[Instruction, ...]:
    """Refuse with an error number made of the call's number, which is what A holds."""
    return (
        Instruction(_ADD, ERRNO_BASE),
        Instruction(_AND, 0xFFF),
        Instruction(_OR, _ERRNO),
        Instruction(_RETURN_A, 0),
    )


def _ranges(ends: Mapping[int, tuple[Instruction, ...]], otherwise: tuple[Instruction, ...]) -> list[_Range]:
    ranges = [_Range(0, ends.get(0, otherwise))]
    for number in sorted({*ends, *(one + 1 for one in ends)}):
        steps = ends.get(number, otherwise)
        if steps != ranges[-1].steps:
            ranges.append(_Range(number, steps))
    return ranges


def _tree(ranges: Sequence[_Range]) -> tuple[Instruction, ...]:
    """The steps that find the range of the number in A."""
    if len(ranges) == 1:
        return ranges[0].steps
    middle = len(ranges) // 2
    below, above = _tree(ranges[:middle]), _tree(ranges[middle:])
    # a conditional jump reaches 255 steps, the other one any
    return (
        Instruction(_JUMP_AT_LEAST, ranges[middle].first, 0, 1),
        Instruction(_JUMP, len(below)),
        *below,
        *above,
    )


def _passes(check: Check) -> Sequence[Instruction]:
    """Returns "allow" where the argument passes, and goes on behind itself where it does not."""
    steps = [Instruction(_LOAD, _ARGUMENTS_AT + 8 * check.argument)]
    for value in check.values:
        steps += [Instruction(_JUMP_EQUAL, value, 0, 1), Instruction(_RETURN, _ALLOW)]
    if not check.values:
        if check.all_of:
            steps.append(Instruction(_JUMP_ANY_BIT, check.all_of, 0, 2))
        steps += [Instruction(_JUMP_ANY_BIT, check.none_of, 1, 0), Instruction(_RETURN, _ALLOW)]
    for argument in check.zero:
        for half in (0, 4):
            word = _ARGUMENTS_AT + 8 * argument + half
            steps = [Instruction(_LOAD, word), Instruction(_JUMP_EQUAL, 0, 0, len(steps)), *steps]
    return steps


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class Filter:
    """A program as the kernel reads it, made ready so that installing it is one call."""

    def __init__(self, steps: Sequence[Instruction]) -> None:
        code = b"".join(struct.pack("=HBBI", one.code, one.if_true, one.if_false, one.value) for one in steps)
        self._code = ctypes.create_string_buffer(code, len(code))
        self._program = _Program(len(steps), kernel.address(self._code))

    def install(self) -> None:
        """Hold this process to it. Needs no_new_privs. Raises: OSError."""
        kernel.prctl(kernel.PR_SET_SECCOMP, 2, kernel.address(self._program))


def refused_call(error_number: int | None, machine: str) -> str | None:
    """The system call that an error number says was refused, or None where it says something else."""
    if error_number is None or error_number < ERRNO_BASE:
        return None
    wanted = error_number - ERRNO_BASE
    return next((name for name, number in kernel.numbers(machine).items() if number == wanted), "unknown")
