"""Where a process works, and what can be read there, also beside a running worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from remit.adapters.journal.sqlite import SqliteReader
from remit.adapters.telemetry.store import TraceReader

JOURNAL_FILE = "remit.db"
TRACES_FILE = "traces.db"
LOG_FILE = "remit.log"
LOCK_FILE = "worker.lock"


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
    def has_model_key(self) -> bool:
        """Whether a real model can be asked."""
        return bool(self.environment.get("ANTHROPIC_API_KEY"))


@asynccontextmanager
async def open_reader(deployment: Deployment) -> AsyncIterator[SqliteReader | None]:
    """The journal for reading, also beside a running worker; None where there is no journal yet."""
    if not deployment.journal.exists():
        yield None
        return
    reader = SqliteReader(deployment.journal)
    try:
        yield reader
    finally:
        await reader.close()


def trace_reader(deployment: Deployment) -> TraceReader:
    """The trace store for reading."""
    return TraceReader(deployment.traces)
