"""The filter of system calls, run by an interpreter of BPF: each machine allows what is on the list, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.adapters.sandbox.inside import kernel, seccomp
from remit.adapters.sandbox.inside.seccomp import ERRNO_BASE, Instruction, Profile, program

ALLOW = 0x7FFF0000
KILL = 0x80000000
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
PROFILES = {
    "function": seccomp.function_profile(owns_files=True),
    "function without files": seccomp.function_profile(owns_files=False, guards_truncate=False),
    "subprocess": seccomp.subprocess_profile(network=False),
    "subprocess with network": seccomp.subprocess_profile(network=True),
}
ALL = [(machine, name) for machine in kernel.MACHINES for name in PROFILES]
NEVER_TEXT = """
    socket ptrace bpf io_uring_setup io_uring_enter userfaultfd keyctl add_key request_key perf_event_open mount
    umount2 pivot_root chroot setns unshare process_vm_readv process_vm_writev pidfd_open pidfd_getfd
    pidfd_send_signal kexec_load init_module finit_module delete_module reboot swapon setuid setresuid setgid
    capset personality clock_settime settimeofday acct quotactl open_by_handle_at name_to_handle_at
    mknodat fsopen move_mount open_tree mount_setattr landlock_restrict_self seccomp memfd_secret
    kcmp lookup_dcookie migrate_pages move_pages mbind vmsplice process_madvise rt_sigqueueinfo shmget msgget semget
    mq_open execveat iopl
"""
NEVER = NEVER_TEXT.split()


def run(steps: Sequence[Instruction], number: int, arch: int, arguments: Sequence[int] = (0,) * 6) -> int:
    """What the kernel would do: the classic BPF of a filter, which ends."""
    words = {0: number, 4: arch}
    for index, value in enumerate(arguments):
        words[16 + 8 * index] = value & 0xFFFFFFFF
        words[20 + 8 * index] = value >> 32
    a, at = 0, 0
    while True:
        step = steps[at]
        at += 1
        match step.code:
            case 0x20:
                a = words[step.value]
            case 0x05:
                at += step.value
            case 0x15:
                at += step.if_true if a == step.value else step.if_false
            case 0x35:
                at += step.if_true if a >= step.value else step.if_false
            case 0x45:
                at += step.if_true if a & step.value else step.if_false
            case 0x04:
                a = (a + step.value) & 0xFFFFFFFF
            case 0x54:
                a &= step.value
            case 0x44:
                a |= step.value
            case 0x06:
                return step.value
            case 0x16:
                return a


def answer(profile: Profile, machine: str, call: str, *arguments: int) -> int:
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    return run(program(profile, machine), kernel.numbers(machine)[call], ARCH[machine], padded)


@pytest.mark.parametrize(("machine", "name"), ALL)
def test_every_call_is_answered_as_the_profile_says(machine: str, name: str) -> None:
    profile = PROFILES[name]
    steps = program(profile, machine)
    for call, number in kernel.numbers(machine).items():
        if call in profile.checks:
            continue
        got = run(steps, number, ARCH[machine])
        if call in profile.allowed:
            assert got == ALLOW, call
        elif call in ("clone3", "openat2", "mseal", "map_shadow_stack"):
            assert got == 0x00050000 | 38, call
        else:
            assert got == 0x00050000 | (ERRNO_BASE + number if profile.named else 1), call


@pytest.mark.parametrize(("machine", "name"), ALL)
def test_of_all_numbers_those_on_the_list_are_allowed_and_no_others(machine: str, name: str) -> None:
    profile, numbers = PROFILES[name], kernel.numbers(machine)
    listed = {numbers[call] for call in profile.allowed & numbers.keys()}
    looked_at = {numbers[call] for call in profile.checks.keys() & numbers.keys()}
    steps = program(profile, machine)
    allowed = {number for number in range(5000) if run(steps, number, ARCH[machine]) == ALLOW}
    assert allowed - looked_at == listed - looked_at


def test_the_numbers_are_those_of_the_kernels_own_headers() -> None:
    lines = (Path(__file__).parent / "linux_6_1_calls.txt").read_text().splitlines()
    for machine, column in (("x86_64", 1), ("aarch64", 2)):
        rows = (line.split() for line in lines if not line.startswith("#"))
        headers = {row[0]: int(row[column]) for row in rows if row[column] != "-"}
        numbers = kernel.numbers(machine)
        assert len(headers) > 290
        assert {call: numbers.get(call) for call in headers} == headers
        # what came later has the number that all machines share
        newer = {call: number for call, number in numbers.items() if call not in headers and number > 450}
        assert all(
            kernel.numbers(other).get(call) == newer[call] for other in kernel.MACHINES for call in newer
        )
        # and on no list stands a call whose number has not been compared
        for profile in PROFILES.values():
            listed = (profile.allowed | set(profile.checks)) & numbers.keys()
            assert listed <= headers.keys() | newer.keys()


@pytest.mark.parametrize(("machine", "name"), ALL)
@pytest.mark.parametrize("call", NEVER)
def test_what_reaches_others_is_on_no_list(machine: str, name: str, call: str) -> None:
    if call == "socket" and name == "subprocess with network":
        return  # which is what network means
    assert call not in PROFILES[name].allowed
    if call in kernel.numbers(machine):
        assert answer(PROFILES[name], machine, call) != ALLOW


@pytest.mark.parametrize("machine", kernel.MACHINES)
@given(number=st.integers(0, 2**32 - 1), arch=st.integers(0, 2**32 - 1))
def test_a_foreign_table_of_calls_is_the_end(machine: str, number: int, arch: int) -> None:
    steps = program(PROFILES["function"], machine)
    if arch != ARCH[machine]:
        assert run(steps, number, arch) == KILL
    if number >= 0x40000000:
        assert run(steps, number, ARCH[machine]) == KILL


@pytest.mark.parametrize("machine", kernel.MACHINES)
def test_a_thread_is_allowed_and_a_process_is_not(machine: str) -> None:
    function, program_of_its_own = PROFILES["function"], PROFILES["subprocess"]
    thread, fork, user_namespace = 0x3D0F00, 0x01200011, 0x10000011
    assert answer(function, machine, "clone", thread) == ALLOW
    for flags in (fork, user_namespace, thread | 0x20000, thread | 0x10000000, 0, 17):
        assert answer(function, machine, "clone", flags) != ALLOW, hex(flags)
    assert answer(program_of_its_own, machine, "clone", fork) == ALLOW
    for space in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(program_of_its_own, machine, "clone", fork | space) != ALLOW, hex(space)


@pytest.mark.parametrize("machine", kernel.MACHINES)
def test_arguments_are_looked_at(machine: str) -> None:
    function = PROFILES["function"]
    assert answer(function, machine, "socketpair", 1) == ALLOW
    assert answer(function, machine, "socketpair", 2) != ALLOW
    assert answer(function, machine, "fcntl", 3, 1) == ALLOW
    for command in (8, 9, 10, 15, 1024, 1026):  # owners, signals, leases, notices
        assert answer(function, machine, "fcntl", 3, command) != ALLOW
    assert answer(function, machine, "ioctl", 0, 0x5412) != ALLOW  # TIOCSTI
    assert answer(function, machine, "ioctl", 0, 0x8901) != ALLOW  # FIOSETOWN
    assert answer(function, machine, "prctl", 15) == ALLOW
    assert answer(function, machine, "prctl", 4, 1) != ALLOW  # dumpable again
    assert answer(function, machine, "prctl", 1, 0) != ALLOW  # outlive the parent
    assert answer(function, machine, "prlimit64", 0, 7, 0) == ALLOW
    assert answer(function, machine, "prlimit64", 0, 7, 1 << 40) != ALLOW
    assert answer(function, machine, "prlimit64", 0, 7, 4096) != ALLOW
    assert answer(function, machine, "prlimit64", 1, 7, 0) != ALLOW  # another's


def test_files_that_are_not_its_own_are_not_cut() -> None:
    function = PROFILES["function without files"]
    assert answer(function, "x86_64", "openat", 0, 0, 0) == ALLOW
    assert answer(function, "x86_64", "openat", 0, 0, 0x200) != ALLOW
    assert answer(function, "x86_64", "truncate") != ALLOW
    assert answer(function, "x86_64", "chmod") != ALLOW


@pytest.mark.parametrize("machine", kernel.MACHINES)
def test_a_refusal_names_the_call(machine: str) -> None:
    got = answer(PROFILES["function"], machine, "keyctl")
    assert got & 0xFFFF0000 == 0x00050000
    assert seccomp.refused_call(got & 0xFFFF, machine) == "keyctl"
    assert seccomp.refused_call(13, machine) is None
    assert seccomp.refused_call(None, machine) is None


@pytest.mark.parametrize(("machine", "name"), ALL)
def test_the_kernel_takes_its_length_and_its_jumps(machine: str, name: str) -> None:
    steps = program(PROFILES[name], machine)
    assert len(steps) <= 4096
    assert all(step.if_true < 256 and step.if_false < 256 for step in steps)
    assert steps[-1].code in (0x06, 0x16)


def test_every_name_on_a_list_is_a_system_call() -> None:
    known = {name for machine in kernel.MACHINES for name in kernel.numbers(machine)}
    for profile in PROFILES.values():
        assert profile.allowed | set(profile.checks) <= known
