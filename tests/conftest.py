"""Shared by all tests: where external test data lies, and a summary of what was skipped for want of it."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from tests.postgres_databases import Databases, databases, server_url
from tests.redis_databases import empty, redis_urls

# The same examples at every run, so that a landing depends on no luck; REMIT_HYPOTHESIS=random looks further.
settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("random", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("REMIT_HYPOTHESIS", "repeatable"))

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of external test data: REMIT_TEST_DATA, or `shared/data` beside the repository."""
    named = os.environ.get("REMIT_TEST_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no external test data at {folder}: set REMIT_TEST_DATA to its folder")
    return folder


class SharedServers:
    """The servers of all the processes of one run of tests: they end with it, even where one of those is killed."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._urls: dict[str, str] = {}

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """A process is about to start: tell it where the servers are."""
        if not self._urls:
            self._urls["postgres_url"] = self._open.enter_context(server_url())
            self._urls["redis_url"] = self._open.enter_context(redis_urls())
        node.workerinput.update(self._urls)

    def pytest_unconfigure(self) -> None:
        """End the servers, if this process has started them."""
        self._open.close()


def pytest_configure(config: pytest.Config) -> None:
    """Share servers where tests run in several processes."""
    config.pluginmanager.register(SharedServers())


@pytest.fixture(scope="session")
def shared_urls(request: pytest.FixtureRequest) -> dict[str, str]:
    """The servers that this process shares with others; nothing where it is the only one."""
    return getattr(request.config, "workerinput", {})


@pytest.fixture(scope="session")
def postgres(shared_urls: dict[str, str]) -> Iterator[Databases]:
    """PostgreSQL: the server that REMIT_TEST_DATABASE_URL names, else one of these tests' own."""
    with databases(shared_urls.get("postgres_url")) as made:
        yield made


@pytest.fixture(scope="session")
def redis(shared_urls: dict[str, str]) -> Iterator[str]:
    """Redis: the server that REMIT_TEST_REDIS_URL names, else one of these tests' own."""
    with ExitStack() as stack:
        yield shared_urls.get("redis_url") or stack.enter_context(redis_urls())


@pytest.fixture
def redis_url(
    redis: str, shared_urls: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a Redis without a memory in it, which no other process's test uses meanwhile."""
    own = tmp_path_factory.getbasetemp()
    with ((own.parent if shared_urls else own) / "redis.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield redis
        empty(redis)


@pytest.fixture
def database(postgres: Databases) -> Iterator[str]:
    """The address of a database of the test's own, with an empty journal."""
    with postgres.empty_journal() as url:
        yield url


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end what was not tested, and why: a green run should hide nothing."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.getreports("skipped"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    if reasons:
        terminalreporter.section("not tested")
        for reason, count in sorted(reasons.items()):
            terminalreporter.line(f"{count} test(s): {reason}")
