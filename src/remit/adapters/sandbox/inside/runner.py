"""Runs tools in a process that is locked in: loads their modules, then does one call and says what became of it.

Everything here is in the hands of the tool's own code once that is loaded. So what it says is only said, and checked on
our side.
"""

from __future__ import annotations

import importlib
import os
import socket
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from remit.adapters.sandbox.inside import kernel, seccomp, wire
from remit.adapters.sandbox.inside.sources import Sources
from remit.tools import Context, ToolError, ToolFailure
from remit.tools.calls import call_tool
from remit.tools.declarations import declare, declared_of

_AROUND = len(wire.encode({"answer": 0})) - 1
"""What an answer has beside the result itself."""


class _Exceeds(Exception):
    """The result is longer than it may be."""


def run(channel: socket.socket, sources: Sources) -> int:
    """Load, answer one request, and give the exit code."""
    try:
        tools = load(sources)
        wire.send(channel, {"ready": True})
        request = wire.receive(channel)
        if "declare" in request:
            answer = wire.encode({"answer": [declare(*one).to_json() for one in tools.values()]})
        else:
            function, _ = tools[request["tool"]]
            context = BrokeredContext(channel, request["context"])
            value = call_tool(function, request["args"], context)
            answer = wire.encode({"answer": value})
            if len(answer) > request["bytes_max"] + _AROUND:
                raise _Exceeds
        channel.sendall(answer)
    except wire.Closed:
        return 0
    except BaseException as error:
        with suppress(OSError, ValueError):  # full, or closed by the tool
            print(end="", flush=True)
        if not isinstance(error, ToolFailure):  # whose words are told as they are
            traceback.print_exc()
        wire.send(channel, told(error))
        return 0
    return 0


def load(sources: Sources) -> dict[str, tuple[Callable[..., Any], Mapping[str, Any]]]:
    """The functions that are tools in all modules, by name, with what was given to `@tool`.

    Raises: ToolError where two share a name, and whatever a module raises.
    """
    found: dict[str, tuple[Callable[..., Any], Mapping[str, Any]]] = {}
    for module_name in sources.public:
        for value in vars(importlib.import_module(module_name)).values():
            declared = declared_of(value)
            if declared is None or value.__module__ != module_name:
                continue
            name = declared.get("name", value.__name__)
            if name in found:
                raise ToolError(f"two tools are named {name!r}")
            found[name] = value, declared
    return found


def told(error: BaseException) -> dict[str, Any]:
    """An error as the other side is told of it: a kind, and words that hold nothing the tool's author did not choose."""
    kind, what = _kind(error)
    return {"error": kind, "what": what, "retryable": bool(getattr(error, "retryable", False))}


def _kind(error: BaseException) -> tuple[str, str]:
    if isinstance(error, ToolFailure):
        return "said", str(error)
    if isinstance(error, ToolError | SyntaxError):
        return "declaration", str(error)
    if isinstance(error, MemoryError):
        return "memory", ""
    if isinstance(error, _Exceeds):
        return "output", ""
    if isinstance(error, OSError):
        called = seccomp.refused_call(error.errno, kernel.machine())
        if called is not None:
            return "call", called
        if _is_hidden(error):
            return "file", str(error.filename)
        if error.errno in (27, 28):  # too large, no space
            return "files", ""
    return "raised", f"{type(error).__name__}{_where(error.__traceback__)}"


def _is_hidden(error: OSError) -> bool:
    """Whether it looked for a file that the sandbox does not show."""
    name = error.filename
    if isinstance(error, FileNotFoundError):
        return isinstance(name, str) and name.startswith("/") and not name.startswith(os.getcwd())
    return isinstance(error, PermissionError) and isinstance(name, str)


def _where(trace: TracebackType | None) -> str:
    """The last line of the tool's own that was being done."""
    places = [frame for frame in traceback.extract_tb(trace) if not frame.filename.startswith(("/", "<"))]
    return f" at {places[-1].filename}:{places[-1].lineno}" if places else ""


class BrokeredContext(Context):
    """What was granted to a call: each use of it is asked of the other side, which decides."""

    def __init__(self, channel: socket.socket, told: Mapping[str, Any]) -> None:
        self._channel = channel
        super().__init__(idempotency_key=told["idempotency_key"], uses=tuple(told["uses"]))

    def ask(self, kind: str, request: Mapping[str, Any]) -> Any:
        """What the other side answers. Raises: ToolFailure where it refuses."""
        wire.send(self._channel, {"ask": kind, "request": request})
        told = wire.receive(self._channel)
        if "refused" in told:
            raise ToolFailure(told["refused"], retryable=told.get("retryable", False))
        return told["answer"]
