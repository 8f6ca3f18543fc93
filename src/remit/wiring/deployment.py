"""Where a process works, and what can be read there, also beside a running worker."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from remit.adapters.journal import schema
from remit.adapters.journal.sqlite import SqliteReader
from remit.adapters.telemetry.store import TraceReader
from remit.core.errors import RemitError

JOURNAL_FILE = "remit.db"
TRACES_FILE = "traces.db"
LOG_FILE = "remit.log"
LOCK_FILE = "worker.lock"
QUOTA_FILE = "quota.json"


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


@asynccontextmanager
async def open_reader(deployment: Deployment) -> AsyncIterator[SqliteReader | None]:
    """The journal for reading, also beside a running worker; None where there is no journal yet.

    A journal that its first worker is still making is not there yet either.
    Raises: RemitError `journal.unavailable`, `journal.schema`.
    """
    if not _has_journal(deployment.journal):
        yield None
        return
    reader = SqliteReader(deployment.journal)
    try:
        yield reader
    finally:
        await reader.close()


def _has_journal(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            version = schema.version(connection)
    except sqlite3.Error as error:
        raise RemitError("journal.unavailable", f"{path} cannot be read", cause=str(error)) from error
    if version not in (None, schema.HEAD):
        message = f"the journal {path} is of schema {version}, this version reads {schema.HEAD}"
        older = version is not None and version < schema.HEAD
        remedy = "start a run: it brings the journal up to date" if older else ""
        raise RemitError("journal.schema", message, remedy=remedy)
    return version is not None


def trace_reader(deployment: Deployment) -> TraceReader:
    """The trace store for reading."""
    return TraceReader(deployment.traces)
