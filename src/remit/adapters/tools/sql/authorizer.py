"""What a model's SQL may do: one SELECT over declared tables, columns of permitted classes, listed functions.

SQLite's authorizer decides while it compiles a statement, so aliases, sub-queries and CTEs make no
difference. Two things it does not see are refused in the text before: `USING` and `NATURAL`, which
compare columns without asking the authorizer, and CTEs that multiply when they are expanded, which
no deadline can interrupt.

Source: sqlite.org/c3ref/set_authorizer.html, sqlite.org/security.html.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import Final

from remit.adapters.tools.sql.tables import FREE_CHARS_MAX, SQL_CHARS_MAX, Column, Table
from remit.core.labels import DATA_CLASSES, DataClass
from remit.ports.effects import EffectFailed

_FUNCTION_NAMES = (
    "abs avg ceil ceiling coalesce count cume_dist current_date current_time current_timestamp date datetime "
    "dense_rank first_value floor glob group_concat ifnull iif instr julianday lag last_value lead length "
    "like lower ltrim max min mod nth_value ntile nullif percent_rank rank replace round row_number rtrim "
    "sign strftime substr substring sum time total trim trunc typeof unixepoch upper"
)
FUNCTIONS: Final = frozenset(_FUNCTION_NAMES.split())
EXPANSIONS_MAX = 256
LENGTH_MAX = 32_768
# Bounds on what compiling and running may cost; LENGTH also bounds every text, blob and row.
LIMITS: Final = (
    (sqlite3.SQLITE_LIMIT_LENGTH, LENGTH_MAX),
    (sqlite3.SQLITE_LIMIT_SQL_LENGTH, FREE_CHARS_MAX * 4),
    (sqlite3.SQLITE_LIMIT_COLUMN, 100),
    (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 100),
    (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 20),
    (sqlite3.SQLITE_LIMIT_VDBE_OP, 25_000),
    (sqlite3.SQLITE_LIMIT_FUNCTION_ARG, 16),
    (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
    (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200),
    (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 0),
    (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
)
_START = frozenset({"select", "with", "values"})
_SIGNS = frozenset({"(", ")", ".", "as"})
# A keyword stands free of SQLite's identifier characters, in strings too: a false alarm costs a rephrasing.
_HIDDEN_READ = re.compile(r"(?<![A-Za-z0-9_$])(using|natural)(?![A-Za-z0-9_$])", re.IGNORECASE)
_TOKEN = re.compile(
    r"""(?P<skip>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
      | (?P<string>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
      | (?P<word>[A-Za-z0-9_$\u0080-\U0010ffff]+)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)


def check_text(sql: str) -> None:
    """Return where `sql` may be given to SQLite. Raises: EffectFailed `args.invalid`."""
    if len(sql) > SQL_CHARS_MAX or "\0" in sql or _has_surrogate(sql):
        raise EffectFailed(
            "args.invalid", f"the SQL must be plain text of at most {SQL_CHARS_MAX} characters"
        )
    if found := _HIDDEN_READ.search(sql):
        raise EffectFailed("args.invalid", f"{found[0].upper()} is not permitted: join with JOIN ... ON")
    tokens = list(_tokens(sql))
    if not tokens or tokens[0] not in _START:
        raise EffectFailed(
            "args.invalid", "only one statement that begins with SELECT, WITH or VALUES is permitted"
        )
    if _expansions(tokens) > EXPANSIONS_MAX:
        raise EffectFailed("args.invalid", "the WITH clauses refer to one another too often")


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)


def _tokens(sql: str) -> Iterator[str]:
    """The tokens of `sql` without comments, in lower case; names without quotes, among them strings, which may be names."""
    for match in _TOKEN.finditer(sql):
        text = match[0]
        if match.lastgroup in ("quoted", "string"):
            name = text[1:-1].lower()
            yield f" {name}" if name in _SIGNS else name  # what only looks like one
        elif match.lastgroup != "skip":
            yield text.lower()


def _expansions(tokens: list[str]) -> int:
    """An upper bound on how many copies SQLite makes of the CTEs: the product of how often each is named."""
    used = Counter(token for token, after in zip(tokens, [*tokens[1:], ""], strict=True) if after != ".")
    # the definition itself is no use of the name
    return prod(max(used[name] - count, 1) for name, count in Counter(_cte_names(tokens)).items())


def _cte_names(tokens: list[str]) -> Iterator[str]:
    for place, word in enumerate(tokens):
        if word != "as":
            continue
        after = place + 1
        while after < len(tokens) and tokens[after] in ("not", "materialized"):
            after += 1
        if after >= len(tokens) or tokens[after] != "(" or place == 0:
            continue
        before = place - 1
        if tokens[before] == ")":
            while before > 0 and tokens[before] != "(":
                before -= 1
            before -= 1
        if before >= 0:
            yield tokens[before]


class Authorizer:
    """Decides what one statement may touch, and remembers why it refused and which classes it read."""

    def __init__(self, tables: tuple[Table, ...], denied: frozenset[DataClass]) -> None:
        self._tables = {table.name: table for table in tables}
        self._columns: dict[tuple[str, str], Column] = {
            (table.name, column.name): column for table in tables for column in table.columns
        }
        self._denied = denied
        self.classes: set[DataClass] = set()
        self.refusal: EffectFailed | None = None

    def __call__(
        self, action: int, first: str | None, second: str | None, database: str | None, _source: str | None, /
    ) -> int:
        """SQLite's question whether the statement may do `action`; what is not listed may not."""
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION:
            if (second or "").lower() in FUNCTIONS:
                return sqlite3.SQLITE_OK
            return self._refuse("args.invalid", f"the function {second} is not permitted")
        if action == sqlite3.SQLITE_READ:
            return self._read((first or "").lower(), (second or "").lower())
        return self._refuse("args.invalid", "only reading is permitted: one SELECT, without PRAGMA or ATTACH")

    @property
    def classes_read(self) -> list[DataClass]:
        """The classes of the columns that were read, without `public`, in the order of the table."""
        return [kind for kind in DATA_CLASSES if kind in self.classes and kind != "public"]

    def _read(self, table_name: str, column_name: str) -> int:
        table = self._tables.get(table_name)
        if column_name == "" and (table is not None or table_name == ""):
            return sqlite3.SQLITE_OK  # the table as such, as in count(*)
        if table is None:
            known = ", ".join(self._tables) or "none"
            return self._refuse("args.invalid", f"there is no table {table_name}; there are: {known}")
        column = self._columns.get((table_name, column_name))
        if column is None:
            names = ", ".join(column.name for column in table.columns)
            return self._refuse("args.invalid", f"{table_name} has no column {column_name}; it has: {names}")
        if column.data_class in self._denied:
            permitted = ", ".join(column.name for column in table.permitted(self._denied)) or "none"
            return self._refuse(
                "data.denied",
                f"{table_name}.{column_name} is {column.data_class}: not permitted for this agent "
                f"(permitted columns of {table_name}: {permitted})",
            )
        self.classes.add(column.data_class)
        return sqlite3.SQLITE_OK

    def _refuse(self, code: str, message: str) -> int:
        if self.refusal is None:
            self.refusal = EffectFailed(code, message)
        return sqlite3.SQLITE_DENY
