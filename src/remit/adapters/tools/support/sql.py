"""Read-only SQL over the imported customer data."""

from __future__ import annotations

import contextlib
import sqlite3

from remit.adapters.tools.deadline import Deadline
from remit.adapters.tools.sql import sqlite
from remit.adapters.tools.sql.authorizer import Authorizer, check_text
from remit.adapters.tools.sql.tables import CUSTOMERS, find_table
from remit.adapters.tools.support.imports import CustomerData, digest_of, open_read_only
from remit.core.canonical import Json
from remit.core.decisions import Constraints
from remit.ports.effects import EffectFailed


def run_query(data: CustomerData, sql: str, constraints: Constraints, deadline: Deadline) -> Json:
    """The rows of `sql`, as `sqlite.run` gives them.

    Raises: EffectFailed `data.denied`, `args.invalid`, `tool.timeout`, `tool.failed`.
    """
    check_text(sql)
    deadline.check()
    authorizer = Authorizer(data.tables, constraints.denied_classes)
    with contextlib.closing(_open(data)) as connection:
        return sqlite.run(connection, sqlite.Statement(sql), authorizer, constraints, deadline)


def read_customer(data: CustomerData, customer_id: str, constraints: Constraints) -> Json:
    """`{"found": true, "customer": {...}}` without the columns of denied classes, or `{"found": false}`.

    Raises: EffectFailed `data.denied`, `tool.failed`.
    """
    if "pii" in constraints.denied_classes:
        raise EffectFailed("data.denied", "customer records are pii: not permitted for this agent")
    table = find_table(data.tables, CUSTOMERS)
    if table is None:
        return {"found": False}
    names = [column.name for column in table.permitted(constraints.denied_classes)]
    columns = ", ".join(f'"{name}"' for name in names)
    try:
        with contextlib.closing(_open(data)) as connection:
            row = connection.execute(
                f'SELECT {columns or "1"} FROM "{table.name}" WHERE "{table.primary_key}" = ?', (customer_id,)
            ).fetchone()
    except sqlite3.Error as error:
        raise EffectFailed("tool.failed", "the customer data cannot be read", retryable=True) from error
    if row is None:
        return {"found": False}
    return {"found": True, "customer": dict(zip(names, row, strict=False))}


def _open(data: CustomerData) -> sqlite3.Connection:
    try:
        connection = open_read_only(data.path)
        try:
            current = digest_of(connection)
        except sqlite3.Error:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise EffectFailed("tool.failed", "the customer data cannot be read", retryable=True) from error
    if current != data.digest:  # another process has imported other columns or classes
        connection.close()
        raise EffectFailed("tool.failed", "the customer data has changed since the start: restart")
    return connection
