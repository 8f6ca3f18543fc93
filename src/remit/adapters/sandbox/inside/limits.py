"""Limits on what a process may use up, which it cannot raise again."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import TypeAlias

MB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one call may use: memory of a process, CPU time, what it writes, files and tasks at once.

    `processes` are the tasks of one user, over all processes.
    """

    memory_mb: int
    cpu_s: int
    work_mb: int
    files: int = 128
    processes: int = 64


Prepared: TypeAlias = tuple[tuple[int, tuple[int, int]], ...]
"""Each kind of limit, with its soft and hard value."""


def prepare(limits: Limits) -> Prepared:
    """What `apply` sets, and no core left behind: at most this, and what is less here already stays."""
    wanted = {
        "AS": limits.memory_mb * MB,
        "FSIZE": limits.work_mb * MB,
        "NOFILE": limits.files,
        "CORE": 0,
        "MEMLOCK": 0,
        "CPU": limits.cpu_s,
        # these are Linux's own
        "NPROC": limits.processes,
        "MSGQUEUE": 0,
        "SIGPENDING": 64,
    }
    prepared = []
    for name, most in wanted.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is not None:
            # one second of CPU time between the signal that can be told from others and the end
            prepared.append((kind, _least(kind, most, most + 1 if name == "CPU" else most)))
    return tuple(prepared)


def _least(kind: int, soft: int, hard: int) -> tuple[int, int]:
    _, current = resource.getrlimit(kind)
    return (soft, hard) if current == resource.RLIM_INFINITY else (min(soft, current), min(hard, current))


def apply(prepared: Prepared) -> None:
    """Hold this process and its children to limits. Raises: OSError, ValueError."""
    for kind, most in prepared:
        resource.setrlimit(kind, most)
