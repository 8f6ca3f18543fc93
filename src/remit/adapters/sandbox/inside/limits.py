"""Limits on what a process may use up, which it cannot raise again."""

from __future__ import annotations

import resource
from dataclasses import dataclass

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


def apply(limits: Limits) -> None:
    """Hold this process and its children to `limits`, and let it leave no core. Raises: OSError, ValueError."""
    wanted = {
        resource.RLIMIT_AS: limits.memory_mb * MB,
        resource.RLIMIT_FSIZE: limits.work_mb * MB,
        resource.RLIMIT_NOFILE: limits.files,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for kind, most in wanted.items():
        _set(kind, most, most)
    # one second between the signal that can be told from others and the end
    _set(resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1)
    # these are Linux's own
    for name, most in (("NPROC", limits.processes), ("MSGQUEUE", 0), ("SIGPENDING", 64)):
        kind = getattr(resource, f"RLIMIT_{name}", -1)
        if kind >= 0:
            _set(kind, most, most)


def _set(kind: int, soft: int, hard: int) -> None:
    """At most this; what is less already stays."""
    _, current = resource.getrlimit(kind)
    if current != resource.RLIM_INFINITY:
        soft, hard = min(soft, current), min(hard, current)
    resource.setrlimit(kind, (soft, hard))
