"""All journals keep the port's promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.adapters.journal.postgres.journal import PostgresJournal, PostgresOptions
from remit.adapters.journal.sqlite import SqliteJournal
from remit.ports.journal import Journal
from remit.testing.fakes import FakeClock
from remit.testing.gate_world import empty_journal
from remit.testing.journal_suite import JournalSuite
from remit.testing.journal_values import JournalPlace
from remit.testing.memory_journal import MemoryJournal
from remit.testing.memory_store import MemoryStore


class InMemory:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self._store = MemoryStore()

    def open(self, worker: str = "") -> Journal:
        return MemoryJournal(self.clock, self._store, worker)


class OnDisk:
    def __init__(self, path: Path) -> None:
        self.clock = FakeClock()
        self.path = path

    def open(self, worker: str = "") -> Journal:
        return SqliteJournal.open(self.path, self.clock, worker)


class OnPostgres:
    def __init__(self, url: str) -> None:
        self.clock = FakeClock()
        self.url = url

    def open(self, worker: str = "") -> Journal:
        return PostgresJournal.open(PostgresOptions(url=self.url, worker=worker, clock=self.clock))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return empty_journal(tmp_path_factory.mktemp("template") / "empty.db").read_bytes()


class TestMemoryJournal(JournalSuite):
    @pytest.fixture
    def place(self) -> JournalPlace:
        return InMemory()


class TestSqliteJournal(JournalSuite):
    @pytest.fixture
    def place(self, tmp_path: Path, template: bytes) -> JournalPlace:
        (tmp_path / "remit.db").write_bytes(template)
        return OnDisk(tmp_path / "remit.db")


class TestPostgresJournal(JournalSuite):
    @pytest.fixture
    def place(self, database: str) -> JournalPlace:
        return OnPostgres(database)
