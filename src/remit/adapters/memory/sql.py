"""Memory in tables, in the SQL that SQLite and PostgreSQL both speak: each method is one transaction.

A list is rows that refer to texts; a text is kept once for its scope, compressed, by its SHA-256, and goes with the
last row that refers to it.
"""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from remit.core.errors import RemitError
from remit.core.labels import DATA_CLASSES
from remit.core.memory import Entry, Kept, ListInfo, Scope
from remit.ports.memory import Keep

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]

TABLES = (
    """CREATE TABLE IF NOT EXISTS memory_list (
        tenant {text} NOT NULL, agent {text} NOT NULL, name {text} NOT NULL,
        last_seq {integer} NOT NULL, entries {integer} NOT NULL, size {integer} NOT NULL,
        erased_at {integer} NOT NULL,
        PRIMARY KEY (tenant, agent, name)
    ){strict}""",
    """CREATE TABLE IF NOT EXISTS memory_entry (
        tenant {text} NOT NULL, agent {text} NOT NULL, name {text} NOT NULL, seq {integer} NOT NULL,
        key {text} NOT NULL, role {text} NOT NULL, digest {text} NOT NULL, size {integer} NOT NULL,
        classes {text} NOT NULL, trust {text} NOT NULL, source {text} NOT NULL, subject {text} NOT NULL,
        at {integer} NOT NULL, expires_at {integer} NOT NULL, covers {integer} NOT NULL,
        PRIMARY KEY (tenant, agent, name, seq),
        UNIQUE (tenant, agent, name, key)
    ){strict}""",
    "CREATE INDEX IF NOT EXISTS memory_entry_expiry ON memory_entry (expires_at)",
    "CREATE INDEX IF NOT EXISTS memory_entry_text ON memory_entry (tenant, agent, digest)",
    """CREATE TABLE IF NOT EXISTS memory_text (
        tenant {text} NOT NULL, agent {text} NOT NULL, digest {text} NOT NULL, body {bytes} NOT NULL,
        PRIMARY KEY (tenant, agent, digest)
    ){strict}""",
)
_OF_LIST = "tenant = ? AND agent = ? AND name = ?"
_LIST = f"SELECT last_seq, entries, size, erased_at FROM memory_list WHERE {_OF_LIST}"
_SET_LIST = """
INSERT INTO memory_list (last_seq, entries, size, erased_at, tenant, agent, name) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, agent, name) DO UPDATE SET last_seq = excluded.last_seq, entries = excluded.entries,
    size = excluded.size, erased_at = excluded.erased_at
"""
_SCOPE_SIZE = "SELECT coalesce(sum(size), 0) FROM memory_list WHERE tenant = ? AND agent = ?"
_HAS_KEY = f"SELECT 1 FROM memory_entry WHERE {_OF_LIST} AND key = ?"
_FIRST_EXPIRY = f"SELECT min(expires_at) FROM memory_entry WHERE {_OF_LIST} AND seq <= ?"
_TEXT = "INSERT INTO memory_text VALUES (?, ?, ?, ?) ON CONFLICT (tenant, agent, digest) DO NOTHING"
_ENTRY = "INSERT INTO memory_entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_COVERS = f"""
SELECT seq, covers FROM memory_entry
WHERE {_OF_LIST} AND expires_at > ? AND seq <= ? AND covers > 0 ORDER BY covers DESC, seq DESC LIMIT 1
"""
_ENTRIES = f"""
SELECT seq, key, role, body, classes, trust, source, subject, at, expires_at, covers
FROM memory_entry JOIN memory_text USING (tenant, agent, digest) WHERE {_OF_LIST} AND expires_at > ?
"""
_SINCE = "AND (seq = ? OR (seq > ? AND seq <= ? AND covers = 0)) ORDER BY covers = 0, seq"
_LISTS = """
SELECT tenant, agent, name, count(*), sum(size), min(at), max(at), max(expires_at)
FROM memory_entry WHERE expires_at > ? GROUP BY tenant, agent, name
"""
_NUMBERS = f"SELECT seq, covers, digest, size FROM memory_entry WHERE {_OF_LIST} ORDER BY seq"
_EXPIRED = "SELECT DISTINCT tenant, agent, name FROM memory_entry WHERE expires_at <= ?"
_EXPIRED_NUMBERS = f"SELECT seq, covers, digest, size FROM memory_entry WHERE {_OF_LIST} AND expires_at <= ?"
_DELETE = f"DELETE FROM memory_entry WHERE {_OF_LIST} AND seq = ?"
_DELETE_TEXT = """
DELETE FROM memory_text WHERE tenant = ? AND agent = ? AND digest = ? AND NOT EXISTS (
    SELECT 1 FROM memory_entry AS other
    WHERE other.tenant = memory_text.tenant AND other.agent = memory_text.agent AND other.digest = memory_text.digest
)
"""
_DELETE_LISTS = "DELETE FROM memory_list WHERE entries = 0 AND erased_at <= ?"
FOREVER = 2**62


class Cursor(Protocol):
    """What both databases give."""

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor: ...
    def executemany(self, statement: str, rows: Sequence[Sequence[Any]], /) -> object: ...
    def fetchone(self) -> Row | None: ...
    def fetchall(self) -> list[Row]: ...


class SqlMemory:
    """A `Memory` on a database, which `_transaction` reaches."""

    @abstractmethod
    async def _transaction(self, work: Callable[[Cursor], T], scope: Scope | None = None) -> T:
        """Do `work` in one transaction; with a `scope`, while nobody else changes anything in it.

        Raises: RemitError `memory.unavailable`.
        """
        raise NotImplementedError

    async def append(self, keep: Keep) -> None:
        await self._transaction(lambda sql: _append(sql, keep), keep.scope)

    async def read(self, scope: Scope, name: str, at_us: int, upto: int | None = None) -> Sequence[Kept]:
        return await self._transaction(lambda sql: _read(sql, (*scope, name), at_us, upto))

    async def entries(self, scope: Scope, name: str, at_us: int) -> Sequence[Kept]:
        statement, values = f"{_ENTRIES} ORDER BY seq", (*scope, name, at_us)
        return await self._transaction(lambda sql: _kept(sql.execute(statement, values).fetchall()))

    async def lists(self, at_us: int) -> Sequence[ListInfo]:
        rows = await self._transaction(lambda sql: sql.execute(_LISTS, (at_us,)).fetchall())
        return [  # in Python's order, for that of a database is its locale's
            ListInfo(
                scope=Scope(tenant, agent),
                name=name,
                entries=count,
                size=int(size),
                first_at_us=first,
                last_at_us=last,
                expires_at_us=expires,
            )
            for tenant, agent, name, count, size, first, last, expires in sorted(rows)
        ]

    async def erase(self, scope: Scope, name: str, seqs: Collection[int], at_us: int) -> int:
        return await self._transaction(lambda sql: _erase(sql, (*scope, name), seqs, at_us), scope)

    async def purge(self, at_us: int) -> int:
        names = await self._transaction(lambda sql: sql.execute(_EXPIRED, (at_us,)).fetchall())
        count = 0
        for tenant, agent, name in names:
            work = partial(_purge, of_list=(tenant, agent, name), at_us=at_us)
            count += await self._transaction(work, Scope(tenant, agent))
        await self._transaction(lambda sql: sql.execute(_DELETE_LISTS, (at_us,)))
        return count


def _append(sql: Cursor, keep: Keep) -> None:
    of_list = (*keep.scope, keep.name)
    last, count, size, erased_at = sql.execute(_LIST, of_list).fetchone() or (0, 0, 0, 0)
    fresh = [one for one in keep.entries if sql.execute(_HAS_KEY, (*of_list, one.key)).fetchone() is None]
    if not fresh:
        return
    if erased_at >= keep.since_us:
        raise RemitError("memory.changed", "something of it was erased while the run was under way")
    added = sum(entry.size for entry in fresh)
    row = sql.execute(_SCOPE_SIZE, keep.scope).fetchone()
    assert row is not None
    keep.limits.check(count + len(fresh), size + added, int(row[0]) + added)
    for seq, entry in enumerate(fresh, last + 1):
        expires_at = entry.expires_at_us
        if entry.covers:
            first = sql.execute(_FIRST_EXPIRY, (*of_list, entry.covers)).fetchone()
            expires_at = min(expires_at, FOREVER if first is None or first[0] is None else first[0])
        sql.execute(_TEXT, (*keep.scope, entry.digest, zlib.compress(entry.text.encode())))
        sql.execute(_ENTRY, (*of_list, seq, *_row(entry, expires_at)))
    sql.execute(_SET_LIST, (last + len(fresh), count + len(fresh), size + added, erased_at, *of_list))


def _row(entry: Entry, expires_at_us: int) -> Row:
    return (
        entry.key,
        entry.role,
        entry.digest,
        entry.size,
        ",".join(entry.classes),
        entry.trust,
        entry.source,
        entry.subject,
        entry.at_us,
        expires_at_us,
        entry.covers,
    )


def _read(sql: Cursor, of_list: Row, at_us: int, upto: int | None) -> Sequence[Kept]:
    last = FOREVER if upto is None else upto
    summary, covers = sql.execute(_COVERS, (*of_list, at_us, last)).fetchone() or (0, 0)
    values = (*of_list, at_us, summary, covers, last)
    return _kept(sql.execute(f"{_ENTRIES} {_SINCE}", values).fetchall())


def _kept(rows: Sequence[Row]) -> list[Kept]:
    return [
        Kept(
            seq,
            Entry(
                key=key,
                role=role,
                text=zlib.decompress(body).decode(),
                classes=tuple(one for one in DATA_CLASSES if one in classes.split(",")),
                trust=trust,
                source=source,
                subject=subject,
                at_us=at,
                expires_at_us=expires_at,
                covers=covers,
            ),
        )
        for seq, key, role, body, classes, trust, source, subject, at, expires_at, covers in rows
    ]


def _erase(sql: Cursor, of_list: Row, seqs: Collection[int], at_us: int) -> int:
    rows = sql.execute(_NUMBERS, of_list).fetchall()
    first = min((seq for seq, *_ in rows if seq in seqs), default=FOREVER)
    gone = [row for row in rows if row[0] in seqs or row[1] >= first]
    _remove(sql, of_list, gone, at_us)
    return len(gone)


def _purge(sql: Cursor, of_list: Row, at_us: int) -> int:
    gone = sql.execute(_EXPIRED_NUMBERS, (*of_list, at_us)).fetchall()
    _remove(sql, of_list, gone, None)
    return len(gone)


def _remove(sql: Cursor, of_list: Row, gone: Sequence[Row], erased_at_us: int | None) -> None:
    """Remove rows of (seq, covers, digest, size), and the texts that nothing refers to any more."""
    if not gone:
        return
    sql.executemany(_DELETE, [(*of_list, seq) for seq, *_ in gone])
    sql.executemany(_DELETE_TEXT, [(*of_list[:2], digest) for digest in {row[2] for row in gone}])
    found = sql.execute(_LIST, of_list).fetchone()
    assert found is not None
    last, count, size, erased_at = found
    if erased_at_us is not None:
        erased_at = max(erased_at, erased_at_us)
    size -= sum(row[3] for row in gone)
    sql.execute(_SET_LIST, (last, count - len(gone), size, erased_at, *of_list))
