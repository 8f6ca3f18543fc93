"""How large a statement is once a database has put its parts into one another.

A planner writes out what a sub-query or a WITH clause computes wherever it is used, before any deadline can stop it: a
statement that doubles itself twenty times is short, and ends a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlglot import exp


class Size(NamedTuple):
    """Of a query: all of it, and the largest of the columns that it returns."""

    whole: int
    column: int


_TABLE = Size(1, 1)


def grown(query: exp.Expr, seen: Mapping[str, Size] | None = None, outer: int = 1) -> Size:
    """The size of a query in nodes, at the most. `seen`: of the WITH clauses around it; `outer`: of a column around it."""
    seen = dict(seen or {})
    clause = query.args.get("with_") or query.args.get("with")
    for one in clause.expressions if isinstance(clause, exp.With) else ():
        seen[one.alias.casefold()] = grown(one.this, seen, outer)
    if isinstance(query, exp.Subquery) and isinstance(query.this, exp.Query):
        return grown(query.this, seen, outer)
    if isinstance(query, exp.SetOperation):
        left, right = grown(query.left, seen, outer), grown(query.right, seen, outer)
        return Size(left.whole + right.whole, max(left.column, right.column))
    sources = [_source(one, seen, outer) for one in _read(query)]
    weight = max(outer, *(one.column for one in sources), 1)
    size = sum(one.whole for one in sources)
    column = 1
    for one in query.iter_expressions():
        if one is not clause:  # each part is looked at once, or this would double itself as well
            part = _part(one, seen, weight)
            size += part
            if one.arg_key == "expressions":
                column = max(column, part)
    return Size(size, column)


def _read(query: exp.Expr) -> list[exp.Expr]:
    """What a SELECT reads from: tables and sub-queries, but not those within them."""
    found: list[exp.Expr] = []
    pending = [query.args.get("from_") or query.args.get("from"), *(query.args.get("joins") or ())]
    while pending:
        one = pending.pop()
        if isinstance(one, exp.From | exp.Join):
            pending.append(one.this)
        elif isinstance(one, exp.Expr):
            found.append(one)
            pending += one.args.get("joins") or ()
            if isinstance(one, exp.Subquery) and not isinstance(one.this, exp.Query):
                pending.append(one.this)  # brackets around tables
    return found


def _source(one: exp.Expr, seen: Mapping[str, Size], outer: int) -> Size:
    if isinstance(one, exp.Table):
        return seen.get(one.name.casefold(), _TABLE)
    return grown(one, seen, outer) if isinstance(one, exp.Query) else _TABLE


def _part(node: exp.Expr, seen: Mapping[str, Size], weight: int) -> int:
    """The size of a part of a query, in which a column is as large as what it stands for."""
    if isinstance(node, exp.Column | exp.Star):
        return weight
    if isinstance(node, exp.Table):
        return 1 + sum(_part(one, seen, weight) for one in node.args.get("joins") or ())
    if isinstance(node, exp.Subquery) and isinstance(node.parent, exp.From | exp.Join):
        return 1  # counted as a source
    if isinstance(node, exp.Query):
        return grown(node, seen, weight).whole
    return 1 + sum(_part(one, seen, weight) for one in node.iter_expressions())
