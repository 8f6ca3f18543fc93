"""Shared by all tests: where external test data lies, and a summary of what was skipped for want of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.postgres_databases import Databases, databases
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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Databases]:
    """PostgreSQL: the server that REMIT_TEST_DATABASE_URL names, else one of these tests' own."""
    with databases() as made:
        yield made


@pytest.fixture(scope="session")
def redis() -> Iterator[str]:
    """Redis: the server that REMIT_TEST_REDIS_URL names, else one of these tests' own."""
    with redis_urls() as url:
        yield url


@pytest.fixture
def redis_url(redis: str) -> Iterator[str]:
    """The address of a Redis without a memory in it."""
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
