"""Looks at a home and the disk under it, for `remit doctor`. Changes nothing that stays."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from remit.adapters.journal import schema
from remit.adapters.journal.lock import WorkerLock
from remit.adapters.journal.writer import open_connection
from remit.ports.services import Clock
from remit.wiring.deployment import LOCK_FILE, Deployment, postgres_options

if TYPE_CHECKING:
    from remit.adapters.journal.postgres.schema import DatabaseState

_COMMITS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState:
    """The schema of a journal, whether it is this version's, and what SQLite's own check says."""

    version: str | None
    check: str

    @property
    def is_sound(self) -> bool:
        """Whether this version can use it."""
        return self.version == schema.HEAD and self.check == "ok"


def commits_a_second(folder: Path, clock: Clock) -> float:
    """Durable commits a second in `folder`. Raises: OSError, sqlite3.Error."""
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".remit-doctor-") as place,
        contextlib.closing(open_connection(Path(place) / "probe.db")) as connection,
    ):
        connection.execute("CREATE TABLE t (a INTEGER)")
        began_ns = clock.monotonic_ns()
        for number in range(_COMMITS):
            connection.execute("INSERT INTO t VALUES (?)", (number,))
        return _COMMITS * 1e9 / (clock.monotonic_ns() - began_ns)


def journal_state(deployment: Deployment) -> JournalState:
    """The state of the journal, which must be there. Raises: sqlite3.Error."""
    with contextlib.closing(sqlite3.connect(f"file:{deployment.journal}?mode=ro", uri=True)) as connection:
        version = schema.version(connection)
        (check,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        return JournalState(version=version, check=check)


def database_state(deployment: Deployment) -> tuple[DatabaseState, bool]:
    """The state of the journal's database, and whether this version can use it. Raises: RemitError."""
    url = postgres_options(deployment).url
    # an extra, which most deployments have no use for
    from remit.adapters.journal.postgres.schema import HEAD, state  # noqa: PLC0415

    found = state(url)
    return found, found.version in (None, HEAD)


@contextmanager
def as_worker(deployment: Deployment) -> Iterator[None]:
    """Be the home's worker for a moment. Raises: RemitError `journal.locked`, OSError."""
    with WorkerLock(deployment.home / LOCK_FILE):
        yield
