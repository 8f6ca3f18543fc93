"""What is SQLite's own: durability, full disks, forks, locks, schemas, other processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
import time
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from remit.adapters.journal import schema
from remit.adapters.journal.lock import WorkerLock
from remit.adapters.journal.sqlite import SqliteJournal, SqliteReader
from remit.core import audit
from remit.core.errors import RemitError
from remit.ports.journal import Admitted, AuditQuery
from remit.testing.fakes import FakeClock
from remit.testing.journal_values import admission_of, started


class Place:
    def __init__(self, path: Path) -> None:
        self.clock = FakeClock()
        self.path = path

    def open(self) -> SqliteJournal:
        return SqliteJournal.open(self.path, self.clock)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "remit.db")


def note(size: int = 0) -> bytes:
    return audit.record("refusal", 0, {"reason": "x" * size})


async def test_what_is_acknowledged_is_in_the_files_without_closing(place: Place, tmp_path: Path) -> None:
    journal = await started(place)
    await journal.admit(admission_of("r.1.t", place.clock))
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tmp_path.glob("remit.db*"):
        if not file.name.endswith("-shm"):
            shutil.copy(file, copy / file.name)
    sql = sqlite3.connect(copy / "remit.db")
    assert sql.execute("SELECT id FROM call").fetchall() == [("r.1.t",)]
    assert sql.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    sql.close()
    await journal.close()


async def test_every_commit_is_synced(place: Place) -> None:
    journal = place.open()
    assert journal._writer._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert journal._writer._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await journal.close()


async def test_a_full_disk_writes_nothing_and_it_works_again_afterwards(place: Place) -> None:
    journal = await started(place)
    writer = journal._writer._connection
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages}")
    futures = [journal.record(note(20_000)), journal.admit(admission_of("r.1.t", place.clock))]
    full, admitted = await asyncio.gather(*futures, return_exceptions=True)
    assert isinstance(full, RemitError)
    assert full.code == "journal.unavailable"
    # what still finds room is written whole, what does not is not written at all
    calls = await journal.calls("r")
    assert len(calls) == (1 if isinstance(admitted, Admitted) else 0)
    assert len(await journal.audit(AuditQuery(kind="refusal"))) == 0
    writer.execute("PRAGMA max_page_count = 1000000")
    await journal.record(note(20_000))
    assert len(await journal.audit(AuditQuery(kind="refusal"))) == 1
    await journal.close()


async def test_a_forked_child_is_refused_and_does_not_hang(place: Place) -> None:
    journal = place.open()
    await journal.record(note())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            journal.record(note())
        except RemitError as error:
            code = 0 if error.code == "journal.unavailable" else 2
        os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    await journal.close()


async def test_a_reader_reads_while_the_journal_writes_and_cannot_write(place: Place) -> None:
    journal = place.open()
    reader = SqliteReader(place.path)
    writing = asyncio.gather(*(journal.record(note(100)) for _ in range(300)))
    seen = [len(await reader.audit(AuditQuery(limit=1000))) for _ in range(5)]
    await writing
    assert seen == sorted(seen)
    assert len(await reader.audit(AuditQuery(limit=1000))) == 300
    with pytest.raises(RemitError, match=r"journal\.unavailable"):
        await reader._read(lambda sql: sql.execute("DELETE FROM audit"))
    await reader.close()
    await journal.close()


async def test_a_closed_reader_says_unavailable(place: Place) -> None:
    journal = place.open()
    await journal.close()
    with pytest.raises(RemitError, match=r"journal\.unavailable"):
        await journal.run("r")


@pytest.mark.parametrize("name", ["with space", "per%41cent", "question?mark", "hash#mark", "ümlaut"])
async def test_any_folder_will_do(tmp_path: Path, name: str) -> None:
    place = Place(tmp_path / name / "remit.db")
    journal = place.open()
    await journal.record(note())
    assert len(await journal.audit(AuditQuery())) == 1
    await journal.close()
    assert place.path.exists()
    assert {one.name for one in tmp_path.iterdir()} == {name}


_OTHER = """
import sqlite3, sys, time
sql = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
worst = 0.0
for _ in range(5):
    began = time.monotonic()
    sql.execute("BEGIN IMMEDIATE")
    sql.execute("INSERT INTO audit (body) VALUES (x'7b7d')")
    sql.execute("COMMIT")
    worst = max(worst, time.monotonic() - began)
print(worst)
"""


async def test_another_process_is_not_starved_under_load(place: Place) -> None:
    journal = place.open()
    done = False

    async def load() -> None:
        while not done:
            await asyncio.gather(*(journal.record(note(50)) for _ in range(8)))

    loads = [asyncio.ensure_future(load()) for _ in range(4)]
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _OTHER, str(place.path), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await other.communicate()
    done = True
    await asyncio.gather(*loads)
    await journal.close()
    assert other.returncode == 0
    assert float(printed) < 2.0


def test_a_second_worker_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    second = WorkerLock(tmp_path / "worker.lock")
    with WorkerLock(tmp_path / "worker.lock"), pytest.raises(RemitError) as refused:
        second.__enter__()
    assert refused.value.code == "journal.locked"
    assert str(os.getpid()) in refused.value.cause
    with WorkerLock(tmp_path / "worker.lock"):
        pass  # it is free again


async def test_a_newer_schema_is_refused(place: Place) -> None:
    await place.open().close()
    sql = sqlite3.connect(place.path)
    sql.execute("UPDATE alembic_version SET version_num = '9999'")
    sql.commit()
    sql.close()
    with pytest.raises(RemitError, match=r"journal\.schema"):
        place.open()


async def test_a_file_that_is_no_journal_is_refused(place: Place) -> None:
    place.path.write_bytes(b"certainly not a database" * 100)
    with pytest.raises(RemitError, match=r"journal\.unavailable"):
        place.open()
    assert place.path.read_bytes().startswith(b"certainly")


def test_the_newest_migration_is_the_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD


@pytest.mark.parametrize("table", ["inflight", "refusal"])
def test_a_migration_that_breaks_leaves_nothing_behind(table: str, tmp_path: Path) -> None:
    path = tmp_path / "remit.db"
    sql = sqlite3.connect(path)
    sql.execute(f"CREATE TABLE {table} (in_the_way INTEGER)")  # of the first step, of a later one
    sql.commit()
    with pytest.raises(RemitError, match=r"journal\.unavailable"):
        schema.migrate(path)
    tables = {name for (name,) in sql.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert tables <= {table, "alembic_version"}
    sql.execute(f"DROP TABLE {table}")
    sql.commit()
    sql.close()
    schema.migrate(path)


def test_group_commit_is_faster_than_one_by_one_in_commits(tmp_path: Path) -> None:
    """Structure, not time: a turn's operations share one commit."""

    async def commits_of(count: int) -> int:
        journal = Place(tmp_path / "remit.db").open()
        before = time.monotonic()
        statements: list[str] = []
        journal._writer._connection.set_trace_callback(statements.append)
        await asyncio.gather(*(journal.record(note()) for _ in range(count)))
        await journal.close()
        assert time.monotonic() >= before
        return statements.count("COMMIT")

    assert asyncio.run(commits_of(200)) <= 2
