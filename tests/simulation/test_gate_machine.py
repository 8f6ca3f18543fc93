"""The gate under every act and fault, on the real journal and on the one in memory.

`REMIT_SIMULATION=long` explores for minutes with fresh seeds; else the examples are fixed and few.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.postgres_databases import Databases

from remit.adapters.journal.postgres.connection import Address, PostgresSql
from remit.adapters.journal.postgres.journal import PostgresJournal, PostgresOptions
from remit.ports.journal import Journal
from remit.testing.fakes import FakeClock
from remit.testing.gate_machine import GateMachine
from remit.testing.gate_world import SqliteBackend, SqlWitness, Store, Witness, empty_journal

LONG = os.environ.get("REMIT_SIMULATION") == "long"


def profile(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples * (100 if LONG else 1),
        stateful_step_count=steps,
        derandomize=not LONG,
        database=None,
        deadline=None,
        print_blob=True,
        phases=(Phase.generate, Phase.shrink) if LONG else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return empty_journal(tmp_path_factory.mktemp("template") / "empty.db")


def test_the_gate_keeps_its_invariants_on_the_journal_in_memory() -> None:
    run_state_machine_as_test(GateMachine, settings=profile(120, 30))


def test_the_gate_keeps_its_invariants_on_sqlite(template: Path) -> None:
    class OnSqlite(GateMachine):
        def make_store(self) -> Store:
            return SqliteBackend(template)

    run_state_machine_as_test(OnSqlite, settings=profile(25, 25))


class PostgresBackend:
    """The store in a database of its own."""

    def __init__(self, databases: Databases) -> None:
        self._stack = ExitStack()
        self._url = self._stack.enter_context(databases.empty_journal())
        looking: psycopg.Connection = self._stack.enter_context(Address.of(self._url).connect())
        self.witness: Witness = SqlWitness(PostgresSql(looking))

    def open(self, clock: FakeClock) -> Journal:
        return PostgresJournal.open(PostgresOptions(url=self._url, clock=clock))

    def remove(self) -> None:
        self._stack.close()


def test_the_gate_keeps_its_invariants_on_postgresql(postgres: Databases) -> None:
    class OnPostgres(GateMachine):
        def make_store(self) -> Store:
            return PostgresBackend(postgres)

    run_state_machine_as_test(OnPostgres, settings=profile(6, 25))
