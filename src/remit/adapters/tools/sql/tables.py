"""What the customer data holds: tables, columns and the data class of every column.

A column without a class does not exist here, so nothing of an unknown class can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from remit.core.labels import DATA_CLASSES, DataClass

ColumnType: TypeAlias = Literal["text", "integer", "decimal", "date"]

SQL_CHARS_MAX = 4_000
"""Of a statement that a model wrote for the embedded data."""
FREE_CHARS_MAX = 20_000
"""Of one that it wrote for a database."""

CUSTOMERS = "customers"
"""The table that `get_customer` reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column. Its class is of the values; `public` means that no class restricts them."""

    name: str
    type: ColumnType | None
    data_class: DataClass
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table. Where it is imported: the CSV file that it comes from, and the column that identifies a row."""

    name: str
    columns: tuple[Column, ...]
    file: str = ""
    primary_key: str = ""
    description: str = ""

    def permitted(self, denied: frozenset[DataClass]) -> tuple[Column, ...]:
        """The columns whose class is not in `denied`, in order."""
        return tuple(column for column in self.columns if column.data_class not in denied)


def find_table(tables: Iterable[Table], name: str) -> Table | None:
    """The table called `name`, if there is one."""
    return next((table for table in tables if table.name == name), None)


def field_classes(tables: Iterable[Table]) -> Mapping[str, DataClass]:
    """The class of each column that is not public, by name; of two classes of one name the graver."""
    classes: dict[str, DataClass] = {}
    for table in tables:
        for column in table.columns:
            known = classes.get(column.name, "public")
            graver = max(known, column.data_class, key=DATA_CLASSES.index)
            if graver != "public":
                classes[column.name] = graver
    return classes


def describe(tables: Iterable[Table]) -> str:
    """The tables as a model is told them, one a line: `customers(id text, name text [pii], ...)`."""
    lines = []
    for table in tables:
        columns = ", ".join(_describe_column(column) for column in table.columns)
        lines.append(f"{table.name}({columns})" + (f": {table.description}" if table.description else ""))
    return "\n".join(lines)


def _describe_column(column: Column) -> str:
    mark = "" if column.data_class == "public" else f" [{column.data_class}]"
    kind = f" {column.type}" if column.type else ""
    return f"{column.name}{kind}{mark}"
