"""What the journal's statements need of a database's connection: run a statement, read its rows.

The statements are written once, in the SQL that SQLite and PostgreSQL share, with `?` and `?1` for values;
`postgres.dialect` has the few that PostgreSQL says in other words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol


class Rows(Protocol):
    """The rows that a statement returned, and how many it touched."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Sql(Protocol):
    """An open connection, inside a transaction where something is written."""

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Rows:
        """Run one statement."""
        ...

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> object:
        """Run one statement for each row of values."""
        ...
