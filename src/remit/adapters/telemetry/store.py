"""The trace store: a file of spans beside the journal, for people who look for what happened.

Promises:
- `emit` never waits for the disk; spans that find the queue full, or the disk gone, are dropped and counted.
- A run has its row from its start, so a run that hangs is visible; the run list never scans spans.
- Other processes may read, and write, at the same time.
- The store is disposable: it proves nothing (the journal does) and nothing is decided from it. So a file of
  another version is not migrated: it is set aside under another name, with a notice, and a new one begun.
- It does not grow for ever: beyond `runs_max` runs the oldest go, one for each new one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from remit.adapters.telemetry import schema
from remit.adapters.telemetry.batches import Batches, BatchOptions
from remit.adapters.telemetry.spans import SpanMaker, SpanRecord
from remit.core.errors import RemitError
from remit.ports.services import TelemetryEvent

_KEYS_MAX = 10_000  # runs whose row key is remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """`runs_max` runs are kept."""

    runs_max: int = 100_000
    batches: BatchOptions = field(default_factory=BatchOptions)


class TraceReader:
    """Reads a trace store, from any process, while others write."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def spans(self, run_or_trace_id: str) -> list[SpanRecord]:
        """The run's span, then its other spans by their start; empty where the run is not known.

        Raises: RemitError `journal.schema` for a file of another version.
        """
        with closing(self._connect()) as connection:
            row = connection.execute(schema.FIND_RUN, {"id": run_or_trace_id}).fetchone()
            if row is None:
                return []
            run = schema.run_of(row)
            rows = connection.execute(schema.FIND_SPANS, (row[0],))
            return [run, *(schema.span_of(run, span) for span in rows)]

    def runs(self, limit: int = 100) -> Sequence[SpanRecord]:
        """The spans of the newest `limit` runs, newest first.

        Raises: RemitError `journal.schema` for a file of another version.
        """
        with closing(self._connect()) as connection:
            return [schema.run_of(row) for row in connection.execute(schema.LIST_RUNS, {"limit": limit})]

    def _connect(self) -> sqlite3.Connection:
        if not self._path.exists():
            return _empty()
        connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
        try:
            version = _version(connection)
        except sqlite3.DatabaseError as error:
            connection.close()
            raise RemitError(
                "journal.schema", "the trace store cannot be read", cause=f"{self._path}: {error}"
            ) from error
        if version == 0:  # in the moment of its creation
            connection.close()
            return _empty()
        if version != schema.VERSION:
            connection.close()
            raise RemitError(
                "journal.schema",
                f"the trace store is of version {version}, this program reads version {schema.VERSION}",
                cause=str(self._path),
                remedy="remove the trace store; it is made anew",
            )
        return connection


class TraceStore:
    """Writes spans to the file at `path`; a `Telemetry` sink.

    `lost(count)` is told of dropped spans, `notice(text)` of a file set aside and of a failing disk.
    Raises: RemitError `journal.unavailable` where the file cannot be made.
    """

    def __init__(
        self,
        path: Path,
        spans: SpanMaker,
        *,
        lost: Callable[[int], None],
        notice: Callable[[str], None],
        options: StoreOptions,
    ) -> None:
        self._span_of = spans.span_of
        self._options = options
        self._keys: dict[str, int] = {}
        self._reader = TraceReader(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _open(path, spans.now_us(), notice)
        except (OSError, sqlite3.Error) as error:
            raise RemitError(
                "journal.unavailable",
                "the trace store cannot be opened",
                cause=f"{path}: {error}",
                remedy="make the place of the trace store writable",
            ) from error
        self._batches: Batches[SpanRecord] = Batches(
            "traces", self._write, lost=lost, notice=notice, options=options.batches
        )
        self._put = self._batches.put

    def emit(self, event: TelemetryEvent) -> None:
        """Queue the span of `event`; thresholds have none."""
        span = self._span_of(event)
        if span is not None:
            self._put(span)

    def spans(self, run_or_trace_id: str) -> list[SpanRecord]:
        """What `TraceReader.spans` gives, with all that was emitted before."""
        self.flush()
        return self._reader.spans(run_or_trace_id)

    def runs(self, limit: int = 100) -> Sequence[SpanRecord]:
        """What `TraceReader.runs` gives, with all that was emitted before."""
        self.flush()
        return self._reader.runs(limit)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until all that was emitted before is on disk or lost; False where that took too long."""
        return self._batches.flush(timeout_s)

    def close(self) -> None:
        """Write what waits and let go of the file. May be called twice."""
        self._batches.close()
        self._connection.close()

    def _write(self, batch: list[SpanRecord]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            rows = []
            for span in batch:
                if span.kind == "run":
                    self._put_run(span)
                else:
                    rows.append(schema.span_row(self._key(span), span))
            rows.sort(key=_place)  # in the order of the table, neighbours are written to the same page
            connection.executemany(schema.PUT_SPAN, rows)
            connection.execute("COMMIT")
        except BaseException:
            self._keys.clear()  # some of them may have been rolled back
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _put_run(self, span: SpanRecord) -> None:
        key = self._inserted(schema.PUT_RUN, schema.run_row(span))
        if span.duration_us is None:
            self._remember(span.run_id, key)
        else:
            self._keys.pop(span.run_id, None)

    def _key(self, span: SpanRecord) -> int:
        key = self._keys.get(span.run_id)
        if key is None:
            key = self._inserted(schema.PUT_STUB, schema.stub_row(span))
            self._remember(span.run_id, key)
        return key

    def _inserted(self, statement: str, row: schema.Row) -> int:
        key: int = self._connection.execute(statement, row).fetchone()[0]
        return key

    def _remember(self, run_id: str, key: int) -> None:
        if len(self._keys) >= _KEYS_MAX:
            self._keys.clear()
        self._keys[run_id] = key
        oldest = key - self._options.runs_max
        if oldest > 0:
            for statement in schema.PRUNE:
                self._connection.execute(statement, (oldest,))


def _place(row: schema.Row) -> tuple[int, int]:
    return row[0], row[1]


def _open(path: Path, now_us: int, notice: Callable[[str], None]) -> sqlite3.Connection:
    connection = _connect(path)
    try:
        version: int | None = _version(connection)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            connection.close()
            raise
        version = None  # not a database at all
    if version not in (0, schema.VERSION):
        connection.close()
        aside = path.with_name(f"{path.name}.set-aside-{now_us}")
        for suffix in ("", "-wal", "-shm"):
            part = Path(f"{path}{suffix}")
            if part.exists():
                part.replace(f"{aside}{suffix}")
        found = "is damaged" if version is None else f"is of version {version}, not {schema.VERSION}"
        notice(f"the trace store {path} {found}: it is set aside as {aside.name}, and a new one begins")
        connection = _connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        schema.create(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _empty() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.create(connection)
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    # The writer thread is the only one to use it, but this thread opens it, so that a fault shows at once.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
