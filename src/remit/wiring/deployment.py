"""Where a process works, and what can be read there, also beside a running worker."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from remit.adapters.journal import schema
from remit.adapters.journal.sqlite import SqliteReader
from remit.adapters.telemetry.store import TraceReader
from remit.core.errors import RemitError
from remit.ports.journal import JournalReads

if TYPE_CHECKING:
    from remit.adapters.journal.postgres.journal import PostgresOptions, PostgresReader

JOURNAL_FILE = "remit.db"
TRACES_FILE = "traces.db"
LOG_FILE = "remit.log"
LOCK_FILE = "worker.lock"
QUOTA_FILE = "quota.json"
DATABASE_URL = "REMIT_DATABASE_URL"
DATABASE_READ_URL = "REMIT_DATABASE_READ_URL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where this process works. `environment` holds the keys and is never shown."""

    home: Path
    environment: Mapping[str, str] = field(repr=False)

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.home / JOURNAL_FILE

    @property
    def postgres(self) -> str | None:
        """The address of the journal's database, with its password; None where the journal is the file."""
        return self.environment.get(DATABASE_URL) or None

    @property
    def traces(self) -> Path:
        """The trace store's file."""
        return self.home / TRACES_FILE

    @property
    def quota(self) -> Path:
        """The file of what the providers still allow."""
        return self.home / QUOTA_FILE

    @property
    def has_model_key(self) -> bool:
        """Whether a real model can be asked."""
        return any(self.environment.get(name) for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"))


def make_home(home: Path) -> None:
    """Make the home folder, for its user alone. Raises: RemitError `journal.unavailable`."""
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise RemitError("journal.unavailable", f"{home} cannot be made", cause=str(error)) from error


@asynccontextmanager
async def open_reader(deployment: Deployment) -> AsyncIterator[JournalReads | None]:
    """The journal for reading, also beside a running worker; None where there is no journal yet.

    A journal that its first worker is still making is not there yet either.
    Raises: RemitError `journal.unavailable`, `journal.schema`.
    """
    reader = _postgres_reader(deployment) if deployment.postgres else _file_reader(deployment.journal)
    if reader is None:
        yield None
        return
    try:
        yield reader
    finally:
        await reader.close()


def postgres_options(deployment: Deployment, worker: str = "") -> PostgresOptions:
    """How to get at the journal's database. Raises: RemitError `usage.invalid` without the driver."""
    try:
        # an extra, which most deployments have no use for
        from remit.adapters.journal.postgres.journal import PostgresOptions  # noqa: PLC0415
    except ImportError as error:
        message = f"{DATABASE_URL} is set, and there is no driver of PostgreSQL"
        remedy = "install remit[postgres]"
        raise RemitError("usage.invalid", message, cause=str(error), remedy=remedy) from error
    replica_url = deployment.environment.get(DATABASE_READ_URL) or None
    return PostgresOptions(url=deployment.postgres or "", replica_url=replica_url, worker=worker)


def _postgres_reader(deployment: Deployment) -> PostgresReader | None:
    options = postgres_options(deployment)
    from remit.adapters.journal.postgres.journal import PostgresReader  # noqa: PLC0415 - as above

    return PostgresReader.open(options)


def _file_reader(path: Path) -> SqliteReader | None:
    return SqliteReader(path) if _has_journal(path) else None


def _has_journal(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            version = schema.version(connection)
    except sqlite3.Error as error:
        raise RemitError("journal.unavailable", f"{path} cannot be read", cause=str(error)) from error
    schema.check_readable(version, schema.HEAD)
    return version is not None


def trace_reader(deployment: Deployment) -> TraceReader:
    """The trace store for reading."""
    return TraceReader(deployment.traces)
