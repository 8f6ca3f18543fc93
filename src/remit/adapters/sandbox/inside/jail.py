"""Locks a process in: what it may see, use up and ask of the kernel, from now on and for ever.

The order counts. First what needs rights, then no rights any more, then what may still be opened, and the filter of
system calls last. All that can be made ready before is: it is done once, and locking in is done for every call.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from remit.adapters.sandbox.inside import kernel, landlock, limits, seccomp
from remit.adapters.sandbox.inside.namespaces import DEVICES, NOBODY, WorkFolder

DYNAMIC_USERS = range(61184, 65520)
"""Users that stand for nobody who is written down anywhere. Source: systemd.io/UIDS-GIDS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What processes are held to. `namespaced`: they lie in namespaces already.

    `landlock_abi` is 0, and there is no `filter`, where this machine has none.
    """

    readable: Sequence[str]
    limits: limits.Limits
    namespaced: bool
    landlock_abi: int
    filter: seccomp.Filter | None
    access: int = landlock.READ
    network: bool = False


def sandbox_users(count: int) -> list[int | None]:
    """Who processes become: of root, each somebody else who owns nothing; of anybody else, who they are."""
    if os.getuid() != 0:
        return [None] * count
    first = os.getpid() * count
    return [DYNAMIC_USERS[(first + number) % len(DYNAMIC_USERS)] for number in range(count)]


class Cell:
    """A place for one process at a time: its work folder, where there is one, and the rules of what it may open."""

    def __init__(self, rules: Rules, name: str, user: int | None) -> None:
        """`user`: who the process becomes, where it is root. Raises: OSError."""
        self.rules = rules
        self._limits = limits.prepare(rules.limits)
        self._user = user
        self._work: WorkFolder | None = None
        if rules.namespaced:
            owner = NOBODY if user is None else user
            self._work = WorkFolder(name, rules.limits.work_mb, owner)
            self._work.make()
        self._opened = self._open()

    def _open(self) -> int:
        if not self.rules.landlock_abi:
            return -1
        grants = [(path, self.rules.access) for path in self.rules.readable]
        if self._work is not None:
            grants.append((self._work.path, landlock.WORK))
            grants += [(f"/dev/{name}", landlock.READ | landlock.WRITE_FILE) for name in DEVICES]
        return landlock.ruleset(grants, self.rules.landlock_abi, network=self.rules.network)

    def clear(self) -> None:
        """Make it as new, now that its process has ended. Raises: OSError."""
        if self._work is not None and not self._work.is_empty():
            self._work.remake()
            if self._opened >= 0:
                os.close(self._opened)
            self._opened = self._open()

    def lock(self, parent: int) -> None:
        """Hold this process to it, and to the life of `parent`. Raises: OSError, ValueError; then it must end."""
        rules = self.rules
        os.umask(0o077)
        limits.apply(self._limits)
        if self._user is not None:
            os.setgroups([])
            os.setresgid(self._user, self._user, self._user)
            os.setresuid(self._user, self._user, self._user)
        if self._work is not None:
            os.chdir(self._work.path)
            os.environ["HOME"] = os.environ["TMPDIR"] = self._work.path
        if sys.platform == "linux":
            _die_with(parent)
        if rules.filter is not None:
            kernel.drop_capabilities()
            kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            landlock.restrict(self._opened)
            os.closerange(KEPT, 1 << 20)
            rules.filter.install()


KEPT = 4
"""Descriptors of a process: nothing to read, two to write to, the channel."""


def _die_with(parent: int) -> None:
    """End when the process that made this one ends, even if it just did."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
