"""Whether a query of ours says of which class what it returns is, where it gives a column another name.

A column of a class that is known keeps it under its own name. Under any other, and in whatever is computed from it, the
file has to say so. What a name stands for is taken at its widest: wherever it is given to anything of a class.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import sqlglot
from sqlglot import errors, exp

from remit.adapters.tools.sql.rows import unique
from remit.adapters.tools.sql.specs import parts_of
from remit.core.labels import DATA_CLASSES, DataClass
from remit.core.tools import ToolSpec
from remit.governance.toolsets import SqlToolset
from remit.governance.toolsets.sql import QuerySection

Classes = defaultdict[str, set[DataClass]]


def unlabelled(query: QuerySection, section: SqlToolset, spec: ToolSpec) -> tuple[str, DataClass] | None:
    """What a query returns, and of which class it is, where `spec` does not say so. None where all is said.

    Raises: ValueError where it cannot be read.
    """
    text = "".join("NULL" if name else part for part, name in parts_of(query.sql))
    dialect = "sqlite" if section.url_env is None else "postgres"
    try:
        trees = [tree for tree in sqlglot.parse(text, dialect=dialect) if tree is not None]
    except (errors.SqlglotError, RecursionError) as error:
        raise ValueError("it cannot be read") from error
    if len(trees) != 1 or trees[0].find(exp.Command) is not None:
        raise ValueError("it cannot be read")
    by_name = query.tool.field_classes or {}
    for name, classes in _returned(trees[0], _known(trees[0], section.tables)):
        if name in by_name:
            continue
        for data_class in DATA_CLASSES:
            missing = data_class != "public" and data_class in classes and data_class not in spec.classes
            if missing and spec.field_classes.get(name) != data_class:
                return name, data_class
    return None


def _known(tree: exp.Expr, tables: Mapping[str, Mapping[str, DataClass]]) -> Classes:
    """The classes of every name: of a column, of a row, and of what is computed from them."""
    known: Classes = defaultdict(set)
    for columns in tables.values():
        for column, data_class in columns.items():
            known[column].add(data_class)
    for table in tree.find_all(exp.Table):
        for full, columns in tables.items():
            if full.rpartition(".")[2] == table.name.casefold():
                # used as a column it is a row, and its columns may have been given other names
                for name in (table.alias_or_name, *table.alias_column_names):
                    known[name.casefold()].update(columns.values())
    given = [(one.alias, one.this) for one in tree.find_all(exp.Alias)]
    for one in tree.find_all(exp.CTE, exp.Subquery):
        if one.alias:
            names = [one.alias, *(column.name for column in one.args["alias"].columns)]
            given += [(name, one.this) for name in names]
    changed = True
    while changed:
        changed = False
        for name, expression in given:
            found = _of(expression, known) - known[name.casefold()]
            known[name.casefold()] |= found
            changed = changed or bool(found)
    return known


def _of(expression: exp.Expr, known: Classes) -> set[DataClass]:
    """The classes of all that an expression names, and of all columns where it names those."""
    found = {kind for one in expression.find_all(exp.Column) for kind in known.get(one.name.casefold(), ())}
    if any(not isinstance(star.parent, exp.Count) for star in expression.find_all(exp.Star)):
        found |= {
            kind for table in expression.find_all(exp.Table) for kind in known[table.alias_or_name.casefold()]
        }
    return found


def _returned(tree: exp.Expr, known: Classes) -> Iterable[tuple[str, set[DataClass]]]:
    """The names under which something is returned, and its classes."""
    if isinstance(tree, exp.Query):
        branches = [tree.selects]
        pending: list[exp.Expr] = [tree]
        while pending:
            one = pending.pop()
            if isinstance(one, exp.SetOperation):
                pending += [one.left, one.right]
            elif isinstance(one, exp.Query):
                branches.append(one.selects)
    else:
        returning = tree.args.get("returning")
        branches = [] if returning is None else [returning.expressions]
    for branch in branches:
        stars = [one for one in branch if isinstance(one, exp.Star) or isinstance(one.this, exp.Star)]
        if stars:  # each column has its own name, and each thing that was named has that
            for one in tree.find_all(exp.Alias):
                yield one.alias.casefold(), known[one.alias.casefold()]
        names = unique([(one.alias_or_name or one.key).casefold() for one in branch])
        first = unique([(one.alias_or_name or one.key).casefold() for one in branches[0]])
        for place, one in enumerate(branch):
            if one not in stars:
                yield first[place] if place < len(first) else names[place], _of(one, known)
