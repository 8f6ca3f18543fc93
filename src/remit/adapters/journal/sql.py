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


# the ids of the calls that a tool has made within its own begin with that one's and `-`
ANSWERED = """(
    EXISTS (SELECT 1 FROM run AS child WHERE child.parent = call.id)
    OR EXISTS (SELECT 1 FROM call AS made WHERE made.id > call.id || '-' AND made.id < call.id || '.')
    OR EXISTS (
        SELECT 1 FROM approval AS asked WHERE asked.run_id = substr(call.id, 1, instr(call.id, '.') - 1)
          AND asked.action_id > call.id || '-' AND asked.action_id < call.id || '.'
    )
)"""
"""Of a call: what becomes of it follows from a run that it has started, or from calls that were made within it."""
