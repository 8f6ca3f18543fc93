"""The knowledge base: Markdown files, found by words with BM25 in an SQLite FTS5 index.

The index follows the files: changed by digest, deleted with them. A page that does not plainly declare
itself public counts as internal, and internal pages are left out at the source where they are denied.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from remit.adapters.tools.deadline import Deadline
from remit.core.canonical import Json
from remit.core.decisions import Constraints
from remit.core.errors import RemitError
from remit.ports.effects import EffectFailed
from remit.ports.services import Clock

RESULTS_MAX = 5
WORDS_MAX = 32
FILE_BYTES_MAX = 1_000_000
FILES_MAX = 20_000
PASSAGE_CHARS_MAX = 900
RESCAN_NS = 5 * 10**9
_VISIBILITY = re.compile(r"^visibility[ \t]*:[ \t]*[\"']?(\w+)[\"']?[ \t]*(?:#.*)?$", re.MULTILINE)
_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_HEADING = re.compile(r"^#[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
_FRONT = re.compile(r"\A\ufeff?---[ \t]*\n(.*?)^---[ \t]*$\n?", re.MULTILINE | re.DOTALL)
_MARKED = re.compile("\x02(.*?)\x03", re.DOTALL)
_WORD = re.compile(r"[^\W_]+")
# Words that stand on nearly every page; they only cost time and blur the ranking.
_STOP_WORDS = (
    "a an and are as at be but by can do does for from how i in is it me my of on or our so that the their "
    "there this to was we were what when where which who why will with you your"
)
_STOP: Final = frozenset(_STOP_WORDS.split())
_SCHEMA = """
CREATE TABLE IF NOT EXISTS pages (
  rowid INTEGER PRIMARY KEY, path TEXT UNIQUE NOT NULL, stat TEXT NOT NULL, digest TEXT NOT NULL,
  visibility TEXT NOT NULL);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
  title, body, tokenize = "porter unicode61 remove_diacritics 2");
"""
_SEARCH = """
SELECT pages.path, words.title, highlight(words, 1, char(2), char(3)), pages.visibility
FROM words JOIN pages ON pages.rowid = words.rowid
WHERE words MATCH ? AND (pages.visibility = 'public' OR ?)
ORDER BY bm25(words, 4.0, 1.0), pages.path LIMIT ?
"""
_COUNT = """
SELECT count(*) FROM words JOIN pages ON pages.rowid = words.rowid
WHERE words MATCH ? AND (pages.visibility = 'public' OR ?)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One Markdown file, read."""

    title: str
    visibility: Literal["public", "internal"]
    body: str


def parse_page(text: str, name: str) -> Page:
    """`text` with its front matter applied; without a title, the first heading or `name` is the title."""
    text = text.replace("\r\n", "\n")
    front = _FRONT.match(text)
    body = text[front.end() :] if front else text
    fields = front[1] if front else ""
    declared = _VISIBILITY.findall(fields)
    title = _TITLE.search(fields) or _HEADING.search(body)
    return Page(
        title=(title[1].strip("\"'") if title else name)[:200],
        visibility="public" if declared == ["public"] else "internal",
        body=body.replace("\x02", " ").replace("\x03", " ").strip(),  # they mark what a search found
    )


def match_expression(query: str) -> str:
    """The FTS5 expression that finds pages with any word of `query`; "" where it has no word.

    Only letters and digits reach FTS5, each word in quotes, so no query can be an operator.
    """
    words = list(dict.fromkeys(word.lower() for word in _WORD.findall(query)))
    telling = [word for word in words if word not in _STOP] or words
    return " OR ".join(f'"{word}"' for word in telling[:WORDS_MAX])


class KnowledgeBase:
    """The index of one folder. Methods block: call them in a thread."""

    def __init__(self, folder: Path, store: Path, clock: Clock) -> None:
        """Raises: RemitError `toolset.unavailable` where the index cannot be brought up to date."""
        self._folder = folder
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        store.parent.mkdir(parents=True, exist_ok=True)
        self._scanned_ns = clock.monotonic_ns()
        try:
            self._update()
        except (sqlite3.Error, OSError) as error:
            raise RemitError(
                "toolset.unavailable", f"the index of {folder} cannot be written", cause=str(error)
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
                rows = connection.execute(_SEARCH, (expression, internal, limit)).fetchall()
        except (sqlite3.Error, OSError) as error:
            deadline.check()
            raise EffectFailed("tool.failed", "the knowledge base cannot be read", retryable=True) from error
        return {"results": [_result(*row) for row in rows], "total": total}

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
            found = dict(self._files())
            for path, (rowid, _, _) in known.items():
                if path not in found:
                    connection.execute("DELETE FROM words WHERE rowid = ?", (rowid,))
                    connection.execute("DELETE FROM pages WHERE rowid = ?", (rowid,))
            for path, (file, stat) in found.items():
                self._take(connection, path, file, stat, known.get(path))
            connection.execute("COMMIT")

    def _files(self) -> Iterator[tuple[str, tuple[Path, str]]]:
        """Relative path, file and change mark of every page. Links that lead out of the folder are left out."""
        root = self._folder.resolve()
        for count, file in enumerate(sorted(root.rglob("*.md")) if root.is_dir() else ()):
            if count >= FILES_MAX:
                break
            if not file.is_file() or not file.resolve().is_relative_to(root):
                continue
            stat = file.stat()
            if stat.st_size <= FILE_BYTES_MAX:
                mark = f"{stat.st_mtime_ns}.{stat.st_ctime_ns}.{stat.st_size}.{stat.st_ino}"
                yield file.relative_to(root).as_posix(), (file, mark)

    def _take(
        self,
        connection: sqlite3.Connection,
        path: str,
        file: Path,
        stat: str,
        known: tuple[int, str, str] | None,
    ) -> None:
        if known is not None and known[1] == stat:
            return
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if known is not None and known[2] == digest:
            connection.execute("UPDATE pages SET stat = ? WHERE rowid = ?", (stat, known[0]))
            return
        page = parse_page(content.decode(errors="replace"), file.stem)
        if known is not None:
            connection.execute("DELETE FROM words WHERE rowid = ?", (known[0],))
        cursor = connection.execute(
            "INSERT INTO pages (rowid, path, stat, digest, visibility) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET stat = excluded.stat, digest = excluded.digest, "
            "visibility = excluded.visibility RETURNING rowid",
            (known[0] if known else None, path, stat, digest, page.visibility),
        )
        (rowid,) = cursor.fetchone()
        cursor.close()
        connection.execute(
            "INSERT INTO words (rowid, title, body) VALUES (?, ?, ?)", (rowid, page.title, page.body)
        )


def _result(path: str, title: str, marked: str, visibility: str) -> Json:
    return {
        "id": path.removesuffix(".md"),
        "title": title,
        "snippet": passage(marked),
        "visibility": visibility,
        "path": path,
    }


def passage(marked: str) -> str:
    """The paragraphs that answer best, in the page's order, of at most about 900 characters.

    `marked` is a page where each word that was found stands between U+0002 and U+0003. Paragraphs with
    more different words come first, then those with more of them, then the earlier.
    """
    paragraphs = [part.strip() for part in marked.split("\n\n") if part.strip() and not part.startswith("#")]
    ranked = sorted(enumerate(paragraphs), key=lambda entry: (_score(entry[1]), -entry[0]), reverse=True)
    chosen: dict[int, str] = {}
    room = PASSAGE_CHARS_MAX
    for place, paragraph in ranked:
        text = paragraph.replace("\x02", "").replace("\x03", "")
        if chosen and len(text) > room:
            continue
        chosen[place] = text if len(text) <= room else text[: room - 1] + "…"
        room -= len(chosen[place])
    return "\n".join(chosen[place] for place in sorted(chosen))


def _score(paragraph: str) -> tuple[int, int]:
    words = [word.lower() for word in _MARKED.findall(paragraph)]
    return len(set(words)), len(words)
