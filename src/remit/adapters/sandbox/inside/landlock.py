"""Landlock: what of the file system this process may still open, from now on and for ever.

What is not granted is denied. Source: Documentation/userspace-api/landlock.rst of the kernel.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence

from remit.adapters.sandbox.inside import kernel

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_FIFO = 1 << 10
REFER = 1 << 13
TRUNCATE = 1 << 14

READ = READ_FILE | READ_DIR
RUN = READ | EXECUTE
WORK = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
"""What a tool may do in its work folder: no links, no devices, no sockets, nothing that runs."""

_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
_ALL_BY_ABI: Mapping[int, int] = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_ALL = (1 << 16) - 1
_NETWORK = 0b11
_SCOPES = 0b11

_VERSION = 1
_PATH_BENEATH = 1


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("folder", ctypes.c_int32))


def abi() -> int:
    """The version of Landlock that this kernel has; 0 where it has none."""
    try:
        return kernel.syscall("landlock_create_ruleset", 0, 0, _VERSION)
    except OSError:
        return 0


def ruleset(grants: Sequence[tuple[str, int]], version: int, *, network: bool = False) -> int:
    """The descriptor of rules that allow what is granted, path by path, and nothing else.

    TCP (unless `network`), abstract sockets and signals to processes outside are denied too, where the kernel's version can.
    Raises: OSError.
    """
    handled = _ALL_BY_ABI.get(version, _ALL)
    attributes = _Ruleset(
        handled, _NETWORK if version >= 4 and not network else 0, _SCOPES if version >= 6 else 0
    )
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = kernel.syscall("landlock_create_ruleset", kernel.address(attributes), size, 0)
    for path, access in grants:
        _grant(rules, path, access & handled)
    return rules


def restrict(rules: int) -> None:
    """Hold this process to rules, for ever. Needs no_new_privs. Raises: OSError."""
    kernel.syscall("landlock_restrict_self", rules, 0)


def _grant(rules: int, path: str, access: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        allowed = access if os.path.isdir(path) else access & _OF_FILES
        rule = _PathBeneath(allowed, place)
        kernel.syscall("landlock_add_rule", rules, _PATH_BENEATH, kernel.address(rule), 0)
    finally:
        os.close(place)
