"""A call in a process of its own: what it returns, what it is refused, and that it is over when we say so."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from remit.adapters.sandbox.inside.limits import Limits
from remit.adapters.sandbox.pool import Request, SandboxPool
from remit.adapters.sandbox.settings import SandboxSettings
from remit.core.errors import RemitError
from remit.ports.effects import EffectFailed
from remit.runtime.clock import SystemClock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

TOOLS = '''
import os
import sys
import time

from remit.tools import Context, ToolFailure, tool

STATE = []

@tool
def echo(text: str, ctx: Context) -> str:
    """Echo."""
    STATE.append(text)
    return f"{text} {len(STATE)} {ctx.idempotency_key}"

@tool
async def later(text: str) -> str:
    """Echo, later."""
    import asyncio
    await asyncio.sleep(0)
    return text

@tool
def read(path: str) -> str:
    """Read a file."""
    with open(path) as file:
        return file.read()

@tool
def connect() -> None:
    """Open a socket."""
    import socket
    socket.create_connection(("127.0.0.1", 80))

@tool
def eat() -> int:
    """Eat memory."""
    return len([bytearray(10_000_000) for _ in range(1000)])

@tool
def spin() -> None:
    """Never end."""
    while True:
        pass

@tool
def fill() -> int:
    """Fill the work folder."""
    with open("big", "wb") as file:
        for _ in range(1000):
            file.write(bytes(1_000_000))
    return 1

@tool
def left() -> list[str]:
    """What another call left in the work folder."""
    found = os.listdir()
    open("left", "w").close()
    return found

@tool
def much(size: int) -> str:
    """A long result."""
    return "a" * size

@tool
def forged(size: int) -> None:
    """Tell of a length that it does not have."""
    os.write(3, size.to_bytes(4, "big") + b"{" * 10)
    time.sleep(60)

@tool
def crash() -> None:
    """Crash."""
    os.abort()

@tool
def leave() -> None:
    """Exit."""
    os._exit(7)

@tool
def say(what: str) -> None:
    """Fail with words."""
    raise ToolFailure(what, retryable=True)

@tool
def leak(what: str) -> None:
    """Fail with a value in the message."""
    raise ValueError(what)

@tool
def who() -> dict[str, str]:
    """Who it is."""
    return {"user": str(os.getuid()), "environment": ",".join(sorted(os.environ))}

@tool
def prints(what: str, then: str) -> None:
    """Print, and fail."""
    print(what)
    print("no end of a line", end="")
    if then == "spin":
        print()
        spin()
    if then == "crash":
        os.abort()
    if then == "close":
        sys.stdout.close()
    if then == "fail":
        raise ValueError(what)

@tool
def asks(kind: str, ctx: Context) -> str:
    """Ask the broker."""
    return str(ctx.ask(kind, {"a": 1}))
'''


def settings(**changed: Any) -> SandboxSettings:
    return SandboxSettings(
        **{
            "name": "test",
            "sources": {"tools.py": TOOLS},
            "limits": Limits(memory_mb=256, cpu_s=5, work_mb=4),
            **changed,
        }
    )


async def answers(kind: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"answer": [kind, request]} if kind == "granted" else {"refused": f"{kind} was not granted"}


@pytest.fixture(scope="session")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment whose interpreter anybody may read: ours may lie in somebody's home."""
    python = next(
        (one for one in (Path(sys.base_prefix) / "bin/python3", Path("/usr/bin/python3")) if is_open(one)),
        None,
    )
    if python is None:
        pytest.skip("no interpreter that anybody may read")
    place = tmp_path_factory.mktemp("venv")
    (place / "bin").mkdir()
    (place / "bin/python").symlink_to(python)
    return place


def is_open(path: Path) -> bool:
    return path.exists() and all(one.stat().st_mode & 0o001 for one in (path, *path.parents))


@pytest.fixture(params=["sandboxed", "namespaced"])
async def pool(request: pytest.FixtureRequest, venv: Path) -> AsyncIterator[SandboxPool]:
    pool = SandboxPool(settings(exactly=request.param, warm=1, venv=venv), SystemClock())
    try:
        await pool.start()
    except RemitError as error:
        await pool.close()
        pytest.skip(f"{request.param}: {error.cause}")
    yield pool
    await pool.close()


async def call(pool: SandboxPool, tool: str, timeout_s: float = 30.0, **args: Any) -> Any:
    message = {"tool": tool, "args": args, "context": {"idempotency_key": "k", "uses": []}}
    return await pool.ask(Request(message=message, timeout_s=timeout_s, bytes_max=100_000, answer=answers))


async def failure(pool: SandboxPool, tool: str, timeout_s: float = 30.0, **args: Any) -> tuple[str, str]:
    with pytest.raises(EffectFailed) as raised:
        await call(pool, tool, timeout_s, **args)
    return raised.value.code, raised.value.message


async def test_each_call_has_a_fresh_process(pool: SandboxPool) -> None:
    assert await call(pool, "echo", text="ä") == "ä 1 k"
    assert await call(pool, "echo", text="b") == "b 1 k"
    assert await call(pool, "later", text="c") == "c"
    assert await asyncio.gather(*(call(pool, "echo", text=str(n)) for n in range(20))) == [
        f"{n} 1 k" for n in range(20)
    ]


async def test_what_it_may_not_do_is_a_typed_refusal(pool: SandboxPool) -> None:
    code, message = await failure(pool, "read", path="/etc/shadow")
    assert code == "sandbox.denied"
    assert "/etc/shadow" in message
    code, message = await failure(pool, "connect")
    assert code == "sandbox.denied"
    assert "socket" in message
    code, message = await failure(pool, "eat")
    assert code == "sandbox.limit"
    assert "memory" in message


async def test_it_has_no_environment_and_is_nobody(pool: SandboxPool) -> None:
    found = await call(pool, "who")
    assert found["user"] != "0"
    assert set(found["environment"].split(",")) <= {"HOME", "LANG", "TMPDIR"}


async def test_what_is_too_long_is_not_read(pool: SandboxPool) -> None:
    assert len(await call(pool, "much", size=50_000)) == 50_000
    assert (await failure(pool, "much", size=200_000))[0] == "sandbox.limit"
    assert (await failure(pool, "forged", size=2**32 - 1))[0] == "sandbox.limit"
    assert (await failure(pool, "forged", size=10))[0] == "tool.result_invalid"


async def test_by_the_deadline_it_is_over(pool: SandboxPool) -> None:
    code, message = await failure(pool, "spin", timeout_s=0.3)
    assert code == "tool.timeout"
    assert "killed" in message


async def test_a_crash_is_a_failure_with_its_cause(pool: SandboxPool) -> None:
    assert (await failure(pool, "leave")) == ("tool.failed", "it ended with exit code 7 and no result")
    code, message = await failure(pool, "crash")
    assert code == "tool.failed"
    assert "crashed with SIG" in message


async def test_an_error_tells_its_kind_and_place_and_no_value(pool: SandboxPool) -> None:
    code, message = await failure(pool, "leak", what="alice@example.com")
    assert code == "tool.failed"
    assert message.startswith("it raised ValueError at tools.py:")
    assert "alice" not in message
    assert await failure(pool, "say", what="no such order") == ("tool.failed", "no such order")


async def printed(pool: SandboxPool, tool: str, timeout_s: float = 30.0, **args: Any) -> str:
    with pytest.raises(EffectFailed) as raised:
        await call(pool, tool, timeout_s, **args)
    return raised.value.output


async def test_the_end_of_what_a_failed_call_printed_is_kept(pool: SandboxPool) -> None:
    failed = await printed(pool, "prints", what="ä\x1b[31m\u202e\rred", then="fail")
    assert failed.startswith("ä�[31m��red\nno end of a lineTraceback (most recent call last):")
    assert "tools.py" in failed
    assert await printed(pool, "leave") == ""  # and nothing of the one before
    assert (await printed(pool, "prints", what="a", then="spin", timeout_s=1.0)).startswith("a\n")
    assert (await printed(pool, "prints", what="b", then="crash")).startswith("b\n")
    long = await printed(pool, "prints", what="é" * 10_000 + "last", then="fail")
    assert len(long.encode()) <= 4096 + 3
    assert "last" in long
    assert await printed(pool, "say", what="no such order") == ""
    assert await call(pool, "prints", what="c", then="close") is None
    assert await call(pool, "prints", what="c", then="") is None


async def test_the_broker_answers_what_is_asked(pool: SandboxPool) -> None:
    assert await call(pool, "asks", kind="granted") == "['granted', {'a': 1}]"
    assert await failure(pool, "asks", kind="http") == ("tool.failed", "http was not granted")


async def test_a_work_folder_is_empty_and_bounded() -> None:
    pool = SandboxPool(settings(isolation="namespaced", warm=0, processes_max=1), SystemClock())
    try:
        await pool.start()
    except RemitError as error:
        pytest.skip(error.cause)
    try:
        assert await call(pool, "left") == []
        assert await call(pool, "left") == []
        assert (await failure(pool, "fill"))[0] == "sandbox.limit"
        assert await call(pool, "left") == []
    finally:
        await pool.close()


async def test_a_sandbox_that_was_killed_comes_back(pool: SandboxPool) -> None:
    assert await call(pool, "echo", text="a") == "a 1 k"
    zygote = pool._zygote
    assert zygote is not None
    waiting = asyncio.create_task(failure(pool, "spin"))
    await asyncio.sleep(0.05)
    os.kill(zygote._process.pid, signal.SIGKILL)
    assert (await waiting)[0] == "tool.failed"
    assert await call(pool, "echo", text="b") == "b 1 k"


async def test_a_level_that_cannot_be_had_is_refused() -> None:
    pool = SandboxPool(settings(venv=Path("/nowhere")), SystemClock())
    with pytest.raises(RemitError, match=r"sandbox\.unavailable"):
        await pool.start()
    with pytest.raises(EffectFailed) as raised:
        await call(pool, "echo", text="a")
    assert raised.value.code == "sandbox.unavailable"
    await pool.close()
