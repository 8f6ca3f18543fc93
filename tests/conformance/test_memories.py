"""Every store of memory keeps the promises of the port; and what each does besides."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from remit.adapters.memory.sqlite import SqliteMemory
from remit.core.errors import RemitError
from remit.ports.memory import Memory
from remit.testing.memory_suite import LIST, SCOPE, MemorySuite, entry_of, keep_of, texts
from remit.testing.transient_memory import TransientMemory


class TestTransient(MemorySuite):
    @pytest.fixture
    def memory(self) -> Memory:
        return TransientMemory()


class TestSqlite(MemorySuite):
    @pytest.fixture
    async def memory(self, tmp_path: Path) -> AsyncIterator[Memory]:
        memory = SqliteMemory(tmp_path / "memory.db")
        yield memory
        await memory.close()

    async def test_it_outlives_its_process_and_is_shared(self, memory: Memory, tmp_path: Path) -> None:
        await memory.append(keep_of(entry_of("one")))
        other = SqliteMemory(tmp_path / "memory.db")
        await other.append(keep_of(entry_of("two")))
        await other.close()
        assert await texts(memory) == ["one", "two"]

    async def test_the_file_is_its_owners_alone(self, memory: Memory, tmp_path: Path) -> None:
        await memory.append(keep_of(entry_of("one")))
        assert {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {
            "memory.db": 0,
            "memory.db-wal": 0,
            "memory.db-shm": 0,
        }

    async def test_what_was_erased_is_in_no_byte_of_the_files(self, memory: Memory, tmp_path: Path) -> None:
        body = zlib.compress(b"a secret of Ada's")
        await memory.append(keep_of(entry_of("a secret of Ada's", subject="Ada-77"), entry_of("else")))
        assert any(body in path.read_bytes() for path in tmp_path.iterdir())
        await memory.erase(SCOPE, LIST, [1], 9)
        for path in tmp_path.iterdir():
            assert body not in path.read_bytes(), path.name
            assert b"Ada-77" not in path.read_bytes(), path.name

    async def test_a_file_that_cannot_be_used_is_said_and_tried_again(self, tmp_path: Path) -> None:
        path = tmp_path / "memory.db"
        path.write_bytes(b"this is no database at all, and longer than a header of one would be" * 4)
        memory = SqliteMemory(path)
        with pytest.raises(RemitError, match=r"memory\.unavailable"):
            await texts(memory)
        path.unlink()
        assert await texts(memory) == []
        await memory.close()

    async def test_a_file_of_a_newer_version_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "memory.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 99")
        memory = SqliteMemory(path)
        with pytest.raises(RemitError, match="newer version"):
            await texts(memory)
        await memory.close()

    async def test_a_session_costs_what_its_new_text_costs_and_not_the_square(
        self, memory: Memory, tmp_path: Path
    ) -> None:
        stored = []
        for turn in range(200):
            await memory.append(
                keep_of(entry_of(f"question {turn:04}"), entry_of(f"answer {turn:04}", role="assistant"))
            )
            await memory.read(SCOPE, LIST, 10)
            if turn in (49, 99, 199):
                with closing(sqlite3.connect(tmp_path / "memory.db")) as connection:
                    stored.append(
                        connection.execute(
                            "SELECT count(*), (SELECT count(*) FROM memory_entry), sum(length(body)) FROM memory_text"
                        ).fetchone()
                    )
        assert [(texts, rows) for texts, rows, _ in stored] == [(100, 100), (200, 200), (400, 400)]
        assert stored[2][2] <= 4 * stored[0][2] * 1.02
        again = [entry_of("answer 0007", key=f"again {number}") for number in range(5)]
        await memory.append(keep_of(*again))
        with closing(sqlite3.connect(tmp_path / "memory.db")) as connection:
            assert connection.execute("SELECT count(*) FROM memory_text").fetchone() == (400,)
