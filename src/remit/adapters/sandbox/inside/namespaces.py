"""Namespaces of the sandbox's own: its processes see a small read-only file system, themselves, and nothing else.

As root the namespaces are made with root's own rights; as anybody else inside a user namespace, where the user is
`NOBODY`. Only before the first thread, and only in a process that was started for it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from remit.adapters.sandbox.inside import kernel

NOBODY = 65534
ROOT_FOLDER = "/tmp"  # noqa: S108 - only a place to mount on, in a namespace of our own
WORK = "/calls"
DEVICES = ("null", "zero", "random", "urandom")

_SPACES = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS

_READ_ONLY = kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV


_SEE = "; see user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns"


def enter(readable: Sequence[str], work: Sequence[str], *, network: bool = False) -> None:
    """Leave the host's namespaces, and see `readable` at its own place, read-only, and folders named `work`.

    Returns as process 1 of its own, without a network unless `network`.

    The process that called waits for it outside, and ends with it. Raises: OSError.
    """
    os.umask(0o022)  # whoever the processes become must pass the folders made here
    user, group = os.getuid(), os.getgid()
    spaces = _SPACES if network else _SPACES | kernel.CLONE_NEWNET
    try:
        if user == 0:
            kernel.unshare(spaces)
        else:
            kernel.unshare(spaces | kernel.CLONE_NEWUSER)
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{NOBODY} {user} 1")
            _write("/proc/self/gid_map", f"{NOBODY} {group} 1")
        _build(readable, work)
    except OSError as error:
        raise OSError(
            error.errno, f"this machine gives no namespaces ({error}){_SEE if user else ''}"
        ) from error
    inner = os.fork()
    if inner:
        _wait_outside(inner)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_outside(inner: int) -> None:
    """Hold nothing, and end as the process inside does."""
    os.closerange(0, 1 << 16)
    _, status = os.waitpid(inner, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _write(path: str, text: str) -> None:
    place = os.open(path, os.O_WRONLY)
    try:
        os.write(place, text.encode())
    finally:
        os.close(place)


def _build(readable: Sequence[str], work: Sequence[str]) -> None:
    """The file system of the sandbox, and nothing of the host's beside it."""
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    devices = [f"/dev/{name}" for name in DEVICES]
    # opened now, because the new root may hide where they lie
    shown = [_Shown(path) for path in (*readable, *devices)]
    kernel.mount("remit", ROOT_FOLDER, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755,size=1m")
    for one in shown:
        one.show(is_device=one.path in devices)
    for name in work:
        os.makedirs(f"{ROOT_FOLDER}{WORK}/{name}", 0o711)
    kernel.pivot_root(ROOT_FOLDER)
    kernel.mount("none", "/", flags=_READ_ONLY)


class _Shown:
    """A file, folder or link of the host that is to be seen at its own place."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._link = os.readlink(path) if os.path.islink(path) else None
        self._is_folder = os.path.isdir(path)
        self._opened = os.open(path, os.O_PATH | os.O_CLOEXEC)

    def show(self, *, is_device: bool) -> None:
        """Show it below the new root, where it is not seen already."""
        place = f"{ROOT_FOLDER}{self.path}"
        if not os.path.lexists(place):
            os.makedirs(os.path.dirname(place), exist_ok=True)
            if self._link is not None:
                os.symlink(self._link, place)
            else:
                _make(place, is_folder=self._is_folder)
                kernel.bind(f"/proc/self/fd/{self._opened}", place, devices=is_device)
        os.close(self._opened)


def _make(path: str, *, is_folder: bool) -> None:
    if is_folder:
        os.mkdir(path)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))


class WorkFolder:
    """A folder of its own for one call at a time, that holds no more than `work_mb`, and is empty when it is taken.

    Its name cannot be guessed: who may not list the folders above finds no other's.
    """

    def __init__(self, name: str, work_mb: int, user: int) -> None:
        self.path = f"{WORK}/{name}"
        self._options = f"mode=700,uid={user},gid={user},size={work_mb}m,nr_inodes=4096"

    def make(self) -> None:
        """Raises: OSError."""
        flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
        kernel.mount("remit", self.path, "tmpfs", flags, self._options)

    def is_empty(self) -> bool:
        """Whether nothing was left in it."""
        return not os.listdir(self.path)

    def remake(self) -> None:
        """Let go of all that was left in it. Raises: OSError."""
        kernel.unmount(self.path)
        self.make()
