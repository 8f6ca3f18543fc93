"""Connections to PostgreSQL: opened with limits on every wait, and never shown with their secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.types.array import ListBinaryDumper

from remit.adapters.journal.postgres.dialect import translated
from remit.core.errors import RemitError

SCHEMA = "remit"

# What the URL may say otherwise. A peer that is gone is noticed in seconds, not in the two hours of the kernel.
_DEFAULTS: Mapping[str, str | int] = MappingProxyType(
    {
        "connect_timeout": 5,
        "application_name": "remit",
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
)
# A writer that is stopped in the middle of a transaction loses its locks, and not the others their patience.
_SETTINGS = f"""
SET search_path = {SCHEMA};
SET statement_timeout = '10s';
SET lock_timeout = '8s';
SET idle_in_transaction_session_timeout = '5s';
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
""".encode()


class _Whole(Loader):
    """Sums of bigints are numeric, and never broken numbers here."""

    def load(self, data: Buffer) -> int:
        return int(bytes(data))


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is, and how to get in. Never shown: it holds the password."""

    parameters: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, url: str) -> Address:
        """The address in `url`, `postgresql://...` or `key=value ...`. Raises: RemitError `usage.invalid`."""
        try:
            return cls({**_DEFAULTS, **conninfo.conninfo_to_dict(url)})
        except psycopg.ProgrammingError:
            # what it complains of may be a part of the password
            message = "the address of the database is no PostgreSQL URL"
            raise RemitError(
                "usage.invalid", message, remedy="write postgresql://USER@HOST/DATABASE"
            ) from None

    def connect(self, **changes: Any) -> psycopg.Connection[Any]:
        """A connection in autocommit. Raises: psycopg.Error."""
        connection = psycopg.connect(**{**self.parameters, **changes}, autocommit=True)
        connection.adapters.register_loader("numeric", _Whole)
        connection.adapters.register_dumper(list, ListBinaryDumper)
        try:
            connection.execute(_SETTINGS)
        except psycopg.Error:
            connection.close()
            raise
        return connection

    def told(self, error: BaseException) -> str:
        """What an error says, in one line and without the password."""
        text = " ".join(str(error).split())
        password = self.parameters.get("password")
        return text.replace(str(password), "***") if password else text


class PostgresSql:
    """Runs the journal's statements on a connection."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._translated: dict[str, bytes] = {}

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> psycopg.RawCursor[Any]:
        cursor = psycopg.RawCursor(self._connection)
        cursor.execute(self._text(statement), _storable(values))
        return cursor

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> None:
        values = [_storable(row) for row in rows]
        if values:
            psycopg.RawCursor(self._connection).executemany(self._text(statement), values)

    def _text(self, statement: str) -> bytes:
        text = self._translated.get(statement)
        if text is None:
            text = self._translated[statement] = translated(statement)
        return text


def _storable(values: Sequence[Any]) -> list[Any]:
    """Values of which PostgreSQL takes each: it has no text with a zero character, which stands as U+FFFD."""
    return [value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in values]
