"""What an agent remembers: lists of texts, each with its labels and the time until which it is kept.

A list only grows: what was read once can be read again by the number of its last entry. Nothing here is ever
shared between two scopes, not even equal texts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import orjson

from remit.core import canonical
from remit.core.errors import RemitError
from remit.core.labels import DATA_CLASSES, DataClass, ResultLabel, ResultTrust

NOTES = "notes"
"""The list of an agent's notes."""

_SESSION_PREFIX = "session/"
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}")

EntryRole: TypeAlias = Literal["user", "assistant", "summary", "note"]


class Scope(NamedTuple):
    """Whose memory it is: one agent's, for one tenant."""

    tenant: str
    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One text of a list. Times are microseconds since 1970.

    `key` is unique in its list. `source` is the run that wrote it, `subject` whom it is about (empty: nobody in
    particular). `covers`: a summary stands for all entries up to this number.
    """

    key: str
    role: EntryRole
    text: str
    classes: tuple[DataClass, ...]
    trust: ResultTrust
    source: str
    subject: str
    at_us: int
    expires_at_us: int
    covers: int = 0

    @property
    def size(self) -> int:
        """The bytes that count against the limits."""
        return len(self.text.encode())

    @property
    def digest(self) -> str:
        """The SHA-256 of the text."""
        return canonical.digest(self.text.encode())


class Kept(NamedTuple):
    """An entry and its number in its list, which counts from 1 and is never given twice."""

    seq: int
    entry: Entry


class Limits(NamedTuple):
    """How much a list may hold, and all lists of its scope together: entries, bytes, bytes. `rules` names the keys."""

    entries_max: int
    bytes_max: int
    scope_bytes_max: int
    rules: tuple[str, str, str]

    def check(self, entries: int, size: int, scope_size: int) -> None:
        """Raises: RemitError `memory.full` where so many entries and bytes are too many."""
        held = (entries, size, scope_size)
        allowed = (self.entries_max, self.bytes_max, self.scope_bytes_max)
        for unit, count, most, rule in zip(
            ("entries", "bytes", "bytes"), held, allowed, self.rules, strict=True
        ):
            if count > most:
                raise RemitError("memory.full", f"it would hold {count} {unit}, and {rule} is {most}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListInfo:
    """A list, how much it holds, and when its first and last entries are from."""

    scope: Scope
    name: str
    entries: int
    size: int
    first_at_us: int
    last_at_us: int
    expires_at_us: int


class Seen:
    """The labels of all that a run has been shown. It grows, and only by the gate."""

    __slots__ = ("classes", "is_exposed")

    def __init__(self, *, classes: Iterable[DataClass] = (), is_exposed: bool = False) -> None:
        """`classes`: of what may stand in the task; `is_exposed`: it may be the words of strangers."""
        self.classes: set[DataClass] = set(classes)
        self.is_exposed = is_exposed

    def add(self, label: ResultLabel) -> None:
        """Take note of a result."""
        self.classes.update(label.classes)
        self.is_exposed |= label.trust == "untrusted"

    @property
    def trust(self) -> ResultTrust:
        """How far a text is trusted that somebody writes who has seen it."""
        return "untrusted" if self.is_exposed else "trusted"

    @property
    def ordered(self) -> tuple[DataClass, ...]:
        """The classes in their order."""
        return tuple(name for name in DATA_CLASSES if name in self.classes)


def session_list(session: str) -> str:
    """The list of a session. Raises: RemitError `usage.invalid` where that is no name of one."""
    if not _SESSION.fullmatch(session):
        message = f"{session[:140]!r} is no name of a session"
        raise RemitError(
            "usage.invalid",
            message,
            remedy="use 1 to 128 letters, digits and . _ : @ + -, such as SUPPORT-77",
        )
    return _SESSION_PREFIX + session


def session_of(name: str) -> str:
    """The session whose list has this name, empty for any other list."""
    return name.removeprefix(_SESSION_PREFIX) if name.startswith(_SESSION_PREFIX) else ""


def naming(subject: str, kept: Sequence[Kept]) -> set[int]:
    """The numbers of the entries that are of or about `subject`, or name it as a word; of a session, the whole turns.

    What stands in the same turn may say of them what the name alone does not.
    """
    word = re.compile(rf"(?<!\w){re.escape(_folded(subject))}(?!\w)")
    found = [
        one
        for one in kept
        if subject == one.entry.subject or word.search(_folded(one.entry.text)) is not None
    ]
    turns = {one.entry.source for one in found if one.entry.role != "note"}
    return {one.seq for one in found} | {one.seq for one in kept if one.entry.source in turns}


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def digest_of(kept: Sequence[Kept]) -> str:
    """The SHA-256 over the numbers, roles and texts of what was read."""
    read = [(one.seq, one.entry.role, one.entry.digest) for one in kept]
    return canonical.digest(orjson.dumps(read))
