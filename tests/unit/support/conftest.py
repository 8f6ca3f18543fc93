"""Real parts: the example's pages and data, stores in a fresh folder, the system's clock."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from remit.adapters.tools.support.settings import SupportSettings
from remit.adapters.tools.support.toolset import SupportToolset, open_support
from remit.core.decisions import Constraints
from remit.ports.effects import CallContext

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "support"


class SystemClock:
    """The port's clock on the real one."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def entropy(self, size: int) -> bytes:
        return os.urandom(size)


@pytest.fixture
def clock() -> SystemClock:
    return SystemClock()


@pytest.fixture(scope="session")
def imported_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the index and the data of the example, made once and copied for each test."""
    home = tmp_path_factory.mktemp("imported") / "home"
    opened = open_support(SupportSettings(kb=EXAMPLE / "kb", data=EXAMPLE / "data", home=home), SystemClock())
    asyncio.run(opened.close())
    return home


@pytest.fixture
def settings(tmp_path: Path, imported_home: Path) -> SupportSettings:
    home = tmp_path / "home"
    shutil.copytree(imported_home, home)
    return SupportSettings(kb=EXAMPLE / "kb", data=EXAMPLE / "data", home=home)


@pytest.fixture
async def toolset(settings: SupportSettings, clock: SystemClock) -> AsyncIterator[SupportToolset]:
    opened = open_support(settings, clock)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def make_context() -> Callable[..., CallContext]:
    """A call's context; keywords are those of `Constraints`, and `key`."""

    def make(*, key: str = "run.1.t0", **constraints: Any) -> CallContext:
        values: dict[str, Any] = {"timeout_s": 5.0, "output_bytes_max": 65_536, **constraints}
        return CallContext(
            run_id="run",
            tenant="default",
            agent="test",
            idempotency_key=key,
            constraints=Constraints(**values),
        )

    return make


@pytest.fixture(scope="session")
def payloads() -> Path:
    """The folder of public test suites; the test is skipped where it is absent."""
    folder = Path(os.environ.get("REMIT_TEST_DATA", ROOT.parent / "shared" / "data")) / "payloads"
    if not folder.is_dir():
        pytest.skip(f"the public payload suites are not in {folder} (set REMIT_TEST_DATA)")
    return folder
