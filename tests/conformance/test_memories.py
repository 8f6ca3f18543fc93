"""Every store of memory keeps the promises of the port; and what each does besides."""

from __future__ import annotations

import asyncio
import sqlite3
import zlib
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis

from remit.adapters.memory.postgres import PostgresMemory
from remit.adapters.memory.redis import RedisMemory
from remit.adapters.memory.sqlite import SqliteMemory
from remit.core.errors import RemitError
from remit.core.memory import Limits
from remit.ports.memory import Memory
from remit.testing.memory_suite import LIST, SCOPE, MemorySuite, entry_of, keep_of, summary_of, texts
from remit.testing.redis_server import redis_server
from remit.testing.transient_memory import TransientMemory


class TestTransient(MemorySuite):
    @pytest.fixture
    def memory(self) -> Memory:
        return TransientMemory()


class TestPostgres(MemorySuite):
    @pytest.fixture
    async def memory(self, database: str) -> AsyncIterator[Memory]:
        memory = PostgresMemory(database)
        yield memory
        await memory.close()

    async def test_two_workers_share_it_and_its_limits(self, memory: Memory, database: str) -> None:
        other = PostgresMemory(database)
        tight = Limits(5, 999, 999, ("entries", "bytes", "scope"))
        work = [
            (memory, other)[number % 2].append(keep_of(entry_of(f"{number}"), limits=tight))
            for number in range(12)
        ]
        ended = await asyncio.gather(*work, return_exceptions=True)
        assert [one for one in ended if not isinstance(one, RemitError)] == [None] * 5
        assert len(await texts(other)) == 5
        await other.close()

    async def test_a_connection_that_is_lost_is_made_anew(self, memory: Memory, database: str) -> None:
        await memory.append(keep_of(entry_of("one")))
        with psycopg.connect(database, autocommit=True) as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'remit-memory' "
                "AND datname = current_database()"
            ).fetchall()
        assert ended == [(True,)]
        await memory.append(keep_of(entry_of("two")))
        assert await texts(memory) == ["one", "two"]

    async def test_a_database_that_is_away_is_said_without_its_password(self) -> None:
        memory = PostgresMemory("postgresql://u:s3cret@127.0.0.1:1/d")
        with pytest.raises(RemitError, match=r"memory\.unavailable") as caught:
            await texts(memory)
        assert "s3cret" not in f"{caught.value} {caught.value.__cause__} {memory!r}"
        await memory.close()

    def test_an_address_that_is_none_is_not_repeated(self) -> None:
        with pytest.raises(RemitError, match=r"usage\.invalid") as caught:
            PostgresMemory("postgresql://u:s3cret@[")
        assert "s3cret" not in str(caught.value)


class TestRedis(MemorySuite):
    @pytest.fixture
    async def memory(self, redis_url: str) -> AsyncIterator[Memory]:
        memory = RedisMemory(redis_url)
        yield memory
        await memory.close()

    async def test_two_workers_share_it_and_its_limits(self, memory: Memory, redis_url: str) -> None:
        other = RedisMemory(redis_url)
        tight = Limits(5, 999, 999, ("entries", "bytes", "scope"))
        work = [
            (memory, other)[number % 2].append(keep_of(entry_of(f"{number}"), limits=tight))
            for number in range(12)
        ]
        ended = await asyncio.gather(*work, return_exceptions=True)
        assert [one for one in ended if not isinstance(one, RemitError)] == [None] * 5
        assert len(await texts(other)) == 5
        await other.close()

    async def test_nothing_is_left_of_what_was_erased(self, memory: Memory, redis_url: str) -> None:
        await memory.append(
            keep_of(entry_of("Ada"), entry_of("Ada", "again"), entry_of("Bob", subject="Ada"))
        )
        await memory.append(keep_of(summary_of("Ada and Bob", 2)))
        await memory.erase(SCOPE, LIST, [1, 2, 3], 9)
        with redis.Redis.from_url(redis_url) as client:
            left = {key: client.type(key) for key in client.scan_iter("remit:memory*")}
        assert [kind for kind in left.values() if kind != b"string"] == []
        assert len(left) == 3  # the list's last number, the scope's size and its version

    async def test_a_text_that_the_server_evicted_is_said_and_not_left_out(
        self, memory: Memory, redis_url: str
    ) -> None:
        await memory.append(keep_of(entry_of("one"), entry_of("two")))
        with redis.Redis.from_url(redis_url) as client:
            for key in client.scan_iter("remit:memory*:texts"):
                client.hdel(key, entry_of("one").digest)
        with pytest.raises(RemitError, match="has lost texts"):
            await texts(memory)

    async def test_a_server_that_ends_and_comes_back_has_everything(self) -> None:
        with redis_server() as server:
            memory = RedisMemory(server.url)
            await memory.append(keep_of(entry_of("one")))
            server.stop()
            with pytest.raises(RemitError, match=r"memory\.unavailable"):
                await texts(memory)
            server.start()
            await memory.append(keep_of(entry_of("two")))
            assert await texts(memory) == ["one", "two"]
            await memory.close()

    async def test_who_is_cancelled_is_so_wherever_the_client_waits(self, redis_url: str) -> None:
        for waits in range(30):
            memory = RedisMemory(redis_url)
            asked = asyncio.create_task(memory.purge(10))
            for _ in range(waits):
                await asyncio.sleep(0)
            was_done = asked.done()
            asked.cancel()
            async with asyncio.timeout(5):
                await asyncio.wait({asked})
            assert asked.cancelled() or was_done
            await memory.close()

    async def test_an_address_is_never_told(self) -> None:
        for url in ("http://u:s3cret@h", "redis://u:s3cret@h:port"):
            with pytest.raises(RemitError, match=r"usage\.invalid") as caught:
                RedisMemory(url)
            assert "s3cret" not in str(caught.value)
        memory = RedisMemory("redis://u:s3cret@127.0.0.1:1/0")
        with pytest.raises(RemitError, match=r"memory\.unavailable") as caught:
            await texts(memory)
        assert "s3cret" not in f"{caught.value} {memory!r}"
        await memory.close()


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
