"""The customer data's declaration (tables.yaml) and its import into one SQLite file.

The file is replaced as a whole or not at all, and only where tables.yaml or a CSV file has changed. A
declaration or CSV file that does not fit fails the start; nothing is guessed.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remit.adapters.tools.sql.tables import Column, ColumnType, Table
from remit.core.errors import RemitError
from remit.core.labels import DataClass

DECLARATION = "tables.yaml"
META = "remit_import"
CELL_CHARS_MAX = 4000
_NAME = "[a-z][a-z0-9_]{0,40}"
_FORMAT = "1"  # part of the digest: a new layout of the file means a new import
_AFFINITY: dict[ColumnType | None, str] = {
    "text": "TEXT",
    "date": "TEXT",
    "integer": "INTEGER",
    "decimal": "NUMERIC",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerData:
    """The imported file, what it holds, and the digest of what it was made from."""

    path: Path
    tables: tuple[Table, ...]
    digest: str


class _ColumnModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    type: ColumnType
    data_class: DataClass = Field(alias="class")
    description: str = ""


class _TableModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.csv$")
    primary_key: str
    description: str = ""
    columns: dict[str, _ColumnModel] = Field(min_length=1, max_length=60)


class _Declaration(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    tables: dict[str, _TableModel] = Field(max_length=40)


def read_tables(folder: Path) -> tuple[Table, ...]:
    """The tables that `folder/tables.yaml` declares. Raises: RemitError `toolset.unavailable`."""
    path = folder / DECLARATION
    try:
        declaration = _Declaration.model_validate(yaml.safe_load(path.read_bytes()))
    except (OSError, yaml.YAMLError, ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise RemitError(
            "toolset.unavailable", f"{path} is no declaration of tables", cause=str(error)
        ) from error
    tables = tuple(_table(name, model) for name, model in declaration.tables.items())
    for table in tables:
        _check_names(path, table)
    return tables


def import_nothing(stores: Path) -> CustomerData:
    """Data without any table. Raises: RemitError `toolset.unavailable`."""
    return _import_into(stores, (), {}, b"")


def import_data(folder: Path, stores: Path) -> CustomerData:
    """The data of `folder` in `stores/customers.db`, imported where it has changed.

    Raises: RemitError `toolset.unavailable`.
    """
    tables = read_tables(folder)
    try:
        sources = {table.name: (folder / table.file).read_bytes() for table in tables}
        declaration = (folder / DECLARATION).read_bytes()
    except OSError as error:
        raise RemitError(
            "toolset.unavailable", f"the data of {folder} is incomplete", cause=str(error)
        ) from error
    return _import_into(stores, tables, sources, declaration)


def _import_into(
    stores: Path, tables: tuple[Table, ...], sources: dict[str, bytes], declaration: bytes
) -> CustomerData:
    target = stores / "customers.db"
    digest = _digest(declaration, sources)
    try:
        if imported_digest(target) != digest:
            _write(target, tables, sources, digest)
    except (OSError, sqlite3.Error) as error:
        raise RemitError("toolset.unavailable", "the data cannot be imported", cause=str(error)) from error
    return CustomerData(path=target, tables=tables, digest=digest)


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. The file is never changed in place, hence `immutable`."""
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro&immutable=1",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )


def imported_digest(path: Path) -> str | None:
    """The digest that the file was imported from, None where there is no such file."""
    try:
        with contextlib.closing(open_read_only(path)) as connection:
            return digest_of(connection)
    except sqlite3.Error:
        return None  # no file, or not one of ours: it is imported anew


def digest_of(connection: sqlite3.Connection) -> str:
    """The digest of the data behind `connection`."""
    (digest,) = connection.execute(f"SELECT digest FROM {META}").fetchone()
    return str(digest)


def _table(name: str, model: _TableModel) -> Table:
    columns = tuple(
        Column(name=key, type=column.type, data_class=column.data_class, description=column.description)
        for key, column in model.columns.items()
    )
    return Table(
        name=name,
        file=model.file,
        primary_key=model.primary_key,
        columns=columns,
        description=model.description,
    )


def _check_names(path: Path, table: Table) -> None:
    for name in (table.name, *(column.name for column in table.columns)):
        if not re.fullmatch(_NAME, name):
            raise RemitError(
                "toolset.unavailable", f"{path}: {name!r} is no name", cause=f"it must fit {_NAME}"
            )
    if table.name in (META, "sqlite_master") or table.name.startswith("sqlite_"):
        raise RemitError("toolset.unavailable", f"{path}: the name {table.name} is taken")
    if table.primary_key not in {column.name for column in table.columns}:
        raise RemitError(
            "toolset.unavailable", f"{path}: {table.name} has no column {table.primary_key}, its primary key"
        )


def _digest(declaration: bytes, sources: dict[str, bytes]) -> str:
    total = hashlib.sha256(_FORMAT.encode())
    for name, content in (("", declaration), *sorted(sources.items())):
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def _write(target: Path, tables: tuple[Table, ...], sources: dict[str, bytes], digest: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            for table in tables:
                _import_table(connection, table, sources[table.name])
            connection.execute(f"CREATE TABLE {META} (digest TEXT NOT NULL)")
            connection.execute(f"INSERT INTO {META} VALUES (?)", (digest,))
            connection.execute("COMMIT")
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def _import_table(connection: sqlite3.Connection, table: Table, content: bytes) -> None:
    columns = ", ".join(
        f'"{column.name}" {_AFFINITY[column.type]}'
        + (" PRIMARY KEY NOT NULL" * (column.name == table.primary_key))
        for column in table.columns
    )
    connection.execute(f'CREATE TABLE "{table.name}" ({columns})')
    marks = ", ".join("?" * len(table.columns))
    connection.executemany(f'INSERT INTO "{table.name}" VALUES ({marks})', _rows(table, content))
    if table.primary_key != "customer_id" and any(column.name == "customer_id" for column in table.columns):
        connection.execute(f'CREATE INDEX "{table.name}_by_customer" ON "{table.name}" (customer_id)')


def _rows(table: Table, content: bytes) -> Iterator[list[str | int | float | None]]:
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        wanted = {column.name for column in table.columns}
        if set(reader.fieldnames or ()) != wanted:
            raise _bad(table, 1, f"the header must name exactly: {', '.join(sorted(wanted))}")
        for row in reader:
            if None in row or None in row.values():
                raise _bad(table, reader.line_num, "the row has too many or too few fields")
            yield [_value(table, column, row[column.name], reader.line_num) for column in table.columns]
    except (csv.Error, UnicodeDecodeError) as error:
        raise _bad(table, 0, str(error)) from error


def _value(table: Table, column: Column, text: str, line: int) -> str | int | float | None:
    if text == "":
        return None
    if len(text) > CELL_CHARS_MAX:
        raise _bad(table, line, f"{column.name} is longer than {CELL_CHARS_MAX} characters")
    try:
        if column.type == "integer":
            return int(text)
        if column.type == "decimal":
            number = Decimal(text)
            if not number.is_finite():
                raise _bad(table, line, f"{column.name} is not finite")
            return float(number)  # a foreign record to be queried, not money that remit accounts for
    except (ValueError, InvalidOperation) as error:
        raise _bad(table, line, f"{column.name} is no {column.type}: {text[:40]!r}") from error
    return text


def _bad(table: Table, line: int, cause: str) -> RemitError:
    return RemitError("toolset.unavailable", f"{table.file}, line {line} cannot be imported", cause=cause)
