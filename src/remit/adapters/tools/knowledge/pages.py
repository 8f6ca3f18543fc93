"""An index of pages, found by words with BM25 in SQLite's FTS5.

The index follows the files: changed by digest, deleted with them. A page that does not plainly declare
itself public counts as its folder says, which is internal unless said otherwise; internal pages are left out at the
source where they are denied.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import sqrt
from pathlib import Path
from typing import TypeAlias

from remit.adapters.tools.deadline import Deadline
from remit.adapters.tools.knowledge.passages import match_expression, passage
from remit.adapters.tools.knowledge.readers import Page, Unreadable, Visibility, bytes_max, is_page, read_page
from remit.core.canonical import Json
from remit.core.decisions import Constraints
from remit.core.errors import RemitError
from remit.ports.effects import EffectFailed
from remit.ports.services import Clock

RESULTS_MAX = 5
CANDIDATES = 50
FILES_MAX = 20_000
BATCH = 200
RESCAN_NS = 5 * 10**9
_SCHEMA = """
CREATE TABLE IF NOT EXISTS pages (
  rowid INTEGER PRIMARY KEY, path TEXT UNIQUE NOT NULL, stat TEXT NOT NULL, digest TEXT NOT NULL,
  visibility TEXT NOT NULL);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
  title, body, tokenize = "porter unicode61 remove_diacritics 2");
CREATE TABLE IF NOT EXISTS vectors (page INTEGER PRIMARY KEY, vector BLOB NOT NULL);
"""
_SEARCH = """
SELECT pages.rowid, pages.path, words.title, highlight(words, 1, char(2), char(3)), pages.visibility
FROM words JOIN pages ON pages.rowid = words.rowid
WHERE words MATCH ? AND (pages.visibility = 'public' OR ?)
ORDER BY bm25(words, 4.0, 1.0), pages.path LIMIT ?
"""
_COUNT = """
SELECT count(*) FROM words JOIN pages ON pages.rowid = words.rowid
WHERE words MATCH ? AND (pages.visibility = 'public' OR ?)
"""


Embed: TypeAlias = Callable[[Sequence[str]], Sequence[Sequence[float]]]
"""The vectors of texts, all of one length. For code that embeds this: what it costs is not this project's to hold."""

Progress: TypeAlias = Callable[[int, int], None]
"""Told now and then how many of how many files have been looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A folder of pages, and the visibility of those that do not say. `name` begins their paths, where there are several."""

    folder: Path
    visibility: Visibility = "internal"
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexOptions:
    """`embed`: pages that mean alike are ranked by it as well; `progress`: told while the index is made."""

    embed: Embed | None = None
    progress: Progress | None = None


class KnowledgeBase:
    """The index of some folders. Methods block: call them in a thread."""

    def __init__(
        self, sources: Sequence[Source], store: Path, clock: Clock, options: IndexOptions = IndexOptions()
    ) -> None:
        """Raises: RemitError `toolset.unavailable` where the index cannot be brought up to date."""
        self._sources = sources
        self._options = options
        self.unreadable: dict[str, str] = {}
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        store.parent.mkdir(parents=True, exist_ok=True)
        self._scanned_ns = clock.monotonic_ns()
        try:
            self._update()
        except (sqlite3.Error, OSError) as error:
            raise RemitError(
                "toolset.unavailable", f"the index {store} cannot be written", cause=str(error)
            ) from error

    def search(self, query: str, constraints: Constraints, deadline: Deadline) -> Json:
        """The best pages for `query`: `{"results": [{id, title, snippet, visibility, path}], "total"}`.

        Raises: EffectFailed `tool.failed`, `tool.timeout`.
        """
        expression = match_expression(query)
        limit = RESULTS_MAX if constraints.records_max is None else min(RESULTS_MAX, constraints.records_max)
        internal = "internal" not in constraints.denied_classes
        try:
            self._follow()
            if not expression or "public" in constraints.denied_classes:
                return {"results": [], "total": 0}
            with contextlib.closing(self._connect()) as connection:
                connection.set_progress_handler(lambda: deadline.passed, 5000)
                (total,) = connection.execute(_COUNT, (expression, internal)).fetchone()
                rows = connection.execute(
                    _SEARCH, (expression, internal, CANDIDATES if self._options.embed else limit)
                ).fetchall()
                if self._options.embed is not None:
                    rows = self._by_meaning(connection, query, rows, self._options.embed)[:limit]
        except (sqlite3.Error, OSError) as error:
            deadline.check()
            raise EffectFailed("tool.failed", "the knowledge base cannot be read", retryable=True) from error
        return {"results": [_result(*row[1:]) for row in rows], "total": total}

    def _follow(self) -> None:
        """Take changed files into the index, at most every five seconds, one thread at a time."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._scanned_ns < RESCAN_NS or not self._lock.acquire(blocking=False):
            return
        try:
            self._update()
            self._scanned_ns = now_ns
        finally:
            self._lock.release()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._store, timeout=5.0, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = NORMAL")  # the index can be made again from the files
        return connection

    def _update(self) -> None:
        with contextlib.closing(self._connect()) as connection:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            connection.executescript(_SCHEMA)
            connection.execute("BEGIN IMMEDIATE")
            known = {
                path: (rowid, stat, digest)
                for rowid, path, stat, digest in connection.execute(
                    "SELECT rowid, path, stat, digest FROM pages"
                )
            }
            found = {one.path: one for one in islice(self._files(), FILES_MAX)}
            for path in known.keys() - found.keys():
                self.unreadable.pop(path, None)
                for table, column in (("words", "rowid"), ("vectors", "page"), ("pages", "rowid")):
                    connection.execute(f"DELETE FROM {table} WHERE {column} = ?", known[path][:1])
            for number, one in enumerate(found.values(), 1):
                self._take(connection, one, known.get(one.path))
                if number % BATCH == 0:
                    connection.execute("COMMIT")  # what has been read need not be read again
                    connection.execute("BEGIN IMMEDIATE")
                    if self._options.progress is not None:
                        self._options.progress(number, len(found))
            connection.execute("COMMIT")

    def _files(self) -> Iterator[_File]:
        """Every file that may be a page. Links that lead out of a folder are left out."""
        for source in self._sources:
            root = source.folder.resolve()
            for file in sorted(root.rglob("*")) if root.is_dir() else ():
                if not is_page(file.name) or not file.is_file() or not file.resolve().is_relative_to(root):
                    continue
                stat = file.stat()
                path = file.relative_to(root).as_posix()
                yield _File(
                    path=f"{source.name}/{path}" if source.name else path,
                    file=file,
                    mark=f"{stat.st_mtime_ns}.{stat.st_ctime_ns}.{stat.st_size}.{stat.st_ino}.{source.visibility}",
                    visibility=source.visibility,
                )

    def _take(self, connection: sqlite3.Connection, one: _File, known: tuple[int, str, str] | None) -> None:
        if known is not None and known[1] == one.mark:
            return
        with one.file.open("rb") as file:
            content = file.read(bytes_max(one.file.name) + 1)
        digest = f"{hashlib.sha256(content).hexdigest()} {one.visibility}"
        if known is not None and known[2] == digest:
            connection.execute("UPDATE pages SET stat = ? WHERE rowid = ?", (one.mark, known[0]))
            return
        page = self._read(one, content)
        if known is not None:
            connection.execute("DELETE FROM words WHERE rowid = ?", (known[0],))
        cursor = connection.execute(
            "INSERT INTO pages (rowid, path, stat, digest, visibility) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET stat = excluded.stat, digest = excluded.digest, "
            "visibility = excluded.visibility RETURNING rowid",
            (known[0] if known else None, one.path, one.mark, digest, page.visibility),
        )
        (rowid,) = cursor.fetchone()
        cursor.close()
        connection.execute(
            "INSERT INTO words (rowid, title, body) VALUES (?, ?, ?)", (rowid, page.title, page.body)
        )
        if self._options.embed is not None:
            (vector,) = self._options.embed([f"{page.title}\n{page.body}"])
            connection.execute(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?)",
                (rowid, struct.pack(f"{len(vector)}f", *vector)),
            )

    def _read(self, one: _File, content: bytes) -> Page:
        """The page; one without a word, which nothing finds, where the file is none."""
        self.unreadable.pop(one.path, None)
        try:
            return read_page(one.file.name, content, one.visibility)
        except Unreadable as error:
            self.unreadable[one.path] = str(error)
            return Page(title="", visibility="internal", body="")

    def _by_meaning(
        self, connection: sqlite3.Connection, query: str, rows: list[_Row], embed: Embed
    ) -> list[_Row]:
        """The candidates, where those come first that are high in either order: by words, and by meaning.

        Source: reciprocal rank fusion (Cormack, Clarke, Buettcher 2009), k = 60.
        """
        (wanted,) = embed([query])
        marks = ",".join("?" * len(rows))
        near = {
            page: _cosine(wanted, struct.unpack(f"{len(vector) // 4}f", vector))
            for page, vector in connection.execute(
                f"SELECT page, vector FROM vectors WHERE page IN ({marks})", [row[0] for row in rows]
            )
        }
        by_meaning = sorted(rows, key=lambda row: -near.get(row[0], -1.0))
        place = {row[0]: 1 / (60 + number) for number, row in enumerate(by_meaning)}
        score = {row[0]: 1 / (60 + number) + place[row[0]] for number, row in enumerate(rows)}
        return sorted(rows, key=lambda row: -score[row[0]])


_Row: TypeAlias = tuple[int, str, str, str, str]
"""The page's number, its path, title, marked body and visibility."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    path: str
    file: Path
    mark: str
    visibility: Visibility


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / (sqrt(sum(a * a for a in one)) * sqrt(sum(b * b for b in other)) or 1.0)


def _result(path: str, title: str, marked: str, visibility: str) -> Json:
    return {
        "id": path.removesuffix(".md"),
        "title": title,
        "snippet": passage(marked),
        "visibility": visibility,
        "path": path,
    }
