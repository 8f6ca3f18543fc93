"""What became of a call that gave no result, as an error with its plain cause.

The words of a process are its tool's own, so they are cut, and believed in nothing but what the tool did wrong.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from remit.adapters.sandbox.inside.limits import Limits
from remit.adapters.sandbox.zygote import Ended
from remit.ports.effects import EffectFailed

_WORDS_MAX = 1000

_CALLS: Mapping[str, str] = {
    "socket": "it has no network: requests go through ctx.http",
    "connect": "it has no network: requests go through ctx.http",
    "execve": "it may start no program",
    "fork": "it may start no process",
    "vfork": "it may start no process",
    "clone": "it may start no process",
    "kill": "it may send no signal",
    "tgkill": "it may send no signal",
}


OUTPUT_BYTES_MAX = 4096


def printed(end: bytes) -> str:
    """The end of what a process printed, as text that does nothing to a screen but break lines."""
    text = end.decode(errors="replace").replace("\t", "    ")
    return "".join(one if one == "\n" or one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def of_message(told: Any) -> EffectFailed:
    """Of an error that the process told of itself. Raises: ValueError where it is none."""
    if not isinstance(told, dict):
        raise ValueError("no message")
    if isinstance(failed := told.get("failed"), str):
        return EffectFailed("sandbox.unavailable", failed[:_WORDS_MAX])
    kind, what = told.get("error"), told.get("what")
    if not isinstance(kind, str) or not isinstance(what, str):
        raise ValueError("no error")
    what = what[:_WORDS_MAX]
    match kind:
        case "call":
            why = _CALLS.get(what, "it may not ask that of the kernel")
            return EffectFailed("sandbox.denied", f"the sandbox refused the system call {what}: {why}")
        case "file":
            message = f"the sandbox refused {what}: a tool sees its own packages and its work folder"
            return EffectFailed("sandbox.denied", message)
        case "memory":
            return EffectFailed("sandbox.limit", "it needed more memory than it may have")
        case "files":
            return EffectFailed("sandbox.limit", "it wrote more into its work folder than it may")
        case "output":
            return EffectFailed("sandbox.limit", "its result is longer than it may be")
        case "said":
            return EffectFailed("tool.failed", what, retryable=told.get("retryable") is True)
        case "declaration":
            return EffectFailed("tool.failed", what)
        case _:
            return EffectFailed("tool.failed", f"it raised {what}")


def of_end(ended: Ended | None, limits: Limits) -> EffectFailed:
    """Of a process that ended without a word."""
    if ended is None:
        return EffectFailed("tool.failed", "its process has gone with the sandbox", retryable=True)
    if ended.code == -signal.SIGXCPU or ended.cpu_ms >= limits.cpu_s * 1000:
        return EffectFailed("sandbox.limit", f"it used more than {limits.cpu_s} s of CPU time")
    if ended.code == -signal.SIGSYS:
        return EffectFailed("sandbox.denied", "the sandbox refused a system call of a foreign kind")
    if ended.code == -signal.SIGKILL:
        return EffectFailed("sandbox.limit", "it was killed by the kernel, which ran out of memory")
    if ended.code < 0:
        return EffectFailed("tool.failed", f"it crashed with {signal.Signals(-ended.code).name}")
    return EffectFailed("tool.failed", f"it ended with exit code {ended.code} and no result")
