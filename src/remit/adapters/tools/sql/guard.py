"""What a model's SELECT becomes before a database sees it: its own syntax tree, over nothing but what is permitted.

The text that a model wrote is never run. It is parsed; what is not plainly reading is refused; each table becomes a
sub-query of its permitted columns; and what is run is written from that tree. So a column that is denied is not there,
by whatever way it is asked for, and two parsers that disagree cannot be played against each other. What was written is
read once more before it is run: a word that is written as it came may have become a statement. That holds beside the
grants of the role, which remain the boundary.
"""

from __future__ import annotations

import logging
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import sqlglot.parser
from sqlglot import errors, exp

from remit.adapters.tools.sql.growth import grown
from remit.adapters.tools.sql.tables import FREE_CHARS_MAX
from remit.core.errors import RemitError
from remit.core.labels import DATA_CLASSES, DataClass
from remit.ports.effects import EffectFailed

logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # its warnings repeat what a model wrote

NODES_MAX = 10_000
GROWN_MAX = 20_000
_FUNCTION_NAMES = (
    # what sqlglot counts as functions, and is none, has a name here as well
    "and or xor case if exists cast try_cast not in "
    "abs array_agg avg bool_and bool_or ceil ceiling char_length coalesce concat concat_ws corr count count_if covar_pop "
    "covar_samp cume_dist current_date current_time current_timestamp date date_part date_trunc day decode dense_rank "
    "exp extract first_value floor greatest grouping initcap lag last_value lead least left length like ln log logical_and "
    "logical_or lower lpad ltrim max md5 min mod month nth_value ntile nullif percent_rank percentile_cont "
    "percentile_disc position pow power quarter rank regexp_count replace reverse right round row_number rpad rtrim sign "
    "split_part sqrt starts_with stddev stddev_pop stddev_samp str_position string_agg group_concat substr substring sum "
    "time_to_str timestamp_trunc to_char to_date to_number trim trunc upper var_pop var_samp variance variance_pop week "
    "width_bucket within_group year ascii btrim chr cbrt degrees radians pi age make_date justify_days "
    "str_to_date str_to_time timestamp to_timestamp unix_to_time cast_to_str_type date_add date_sub date_diff "
    "timestamp_diff current_localtime localtime localtimestamp"
)
FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_T = exp.DataType.Type
# none of those that look up what they are given, such as regclass: their complaint repeats it
_TYPES = exp.DataType.NUMERIC_TYPES | exp.DataType.TEMPORAL_TYPES | exp.DataType.TEXT_TYPES
_TYPES |= {_T.ARRAY, _T.BOOLEAN, _T.INTERVAL, _T.TIME, _T.TIMETZ, _T.UUID, _T.JSON, _T.JSONB, _T.NULL}
_WORDS = re.compile(r"[A-Za-z0-9_]+( [A-Za-z0-9_]+)*")
_FOLDED = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_TABLE_PARTS = frozenset({"this", "db", "alias", "joins"})
_READING = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values)
_FORBIDDEN = (
    exp.DML,
    exp.DDL,
    exp.Command,
    exp.Into,
    exp.Lock,
    exp.Drop,
    exp.Alter,
    exp.Set,
    exp.Use,
    exp.Pragma,
    exp.Transaction,
    exp.Commit,
    exp.Rollback,
    exp.Copy,
    exp.Attach,
    exp.Detach,
    exp.Kill,
    exp.LoadData,
    exp.Describe,
    exp.Analyze,
    exp.Parameter,
    exp.Placeholder,
    exp.SessionParameter,
    exp.UserDefinedFunction,
    exp.Operator,
    exp.Unnest,
    exp.Lateral,
    exp.TableSample,
    exp.Pivot,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """What is run: `sql`, and the classes of all that it can read."""

    sql: str
    classes: tuple[DataClass, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """`tables`: the columns and their classes, by `table` or `schema.table`. `masks`: denied columns read null."""

    tables: Mapping[str, Mapping[str, DataClass]]
    dialect: str = "postgres"
    masks: bool = False

    def check(self, sql: str, denied: frozenset[DataClass]) -> Guarded:
        """What may be run for `sql`. Raises: EffectFailed `args.invalid`, `data.denied`."""
        try:
            tree = _parse(sql, self.dialect)
            rewriting = _Rewriting(self, denied, _Named.by(tree))
            text = rewriting.rewritten(tree).sql(
                dialect=self.dialect,
                copy=False,  # the tree is ours
                comments=False,
                unsupported_level=errors.ErrorLevel.RAISE,
            )
            rewriting.check_written(text)
        except (errors.SqlglotError, RecursionError, ValueError) as error:
            clear = isinstance(error, errors.ParseError | errors.UnsupportedError)
            told = str(error).splitlines()[0][:200] if clear else "it is nested too deeply"
            raise EffectFailed("args.invalid", f"the SQL cannot be read: {_plain(told)}") from None
        return Guarded(sql=text, classes=rewriting.classes)


def check_parser(file: str = sqlglot.parser.__file__) -> None:
    """Raises: RemitError `toolset.unavailable` where sqlglot is compiled: there, what is nested deep ends the process."""
    if not file.endswith(".py"):
        message = "sqlglot is compiled here, and a nested statement of a model would end the process"
        raise RemitError("toolset.unavailable", message, remedy="uninstall sqlglotc")


def _parse(sql: str, dialect: str) -> exp.Expr:
    lines = sql.lstrip().splitlines()
    while lines and lines[0].startswith("#"):  # how some tools write a comment, and no operator of any query
        lines.pop(0)
    text = "\n".join(lines)
    if len(text) > FREE_CHARS_MAX or "\0" in text or any("\ud800" <= one <= "\udfff" for one in text):
        raise EffectFailed(
            "args.invalid", f"the SQL must be plain text of at most {FREE_CHARS_MAX} characters"
        )
    trees = [tree for tree in sqlglot.parse(text, dialect=dialect) if tree is not None]
    if len(trees) != 1:
        raise EffectFailed("args.invalid", "exactly one statement is permitted")
    (tree,) = trees
    if not isinstance(tree, _READING):
        raise EffectFailed(
            "args.invalid", "only one statement that begins with SELECT, WITH or VALUES is permitted"
        )
    for count, node in enumerate(tree.walk()):
        if count > NODES_MAX:
            raise EffectFailed("args.invalid", "the statement is too large: ask for less")
        _check_node(node)
    if grown(tree).whole > GROWN_MAX:
        raise EffectFailed("args.invalid", "what the statement computes is used too often within it")
    return tree


def _plain(text: str) -> str:
    return "".join(one for one in text if one.isprintable())


def _check_node(node: exp.Expr) -> None:
    if isinstance(node, _FORBIDDEN):
        raise EffectFailed("args.invalid", f"{node.key.upper()} is not permitted: one SELECT over the tables")
    if isinstance(node, exp.Func):
        name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
        if name not in FUNCTIONS:
            raise EffectFailed("args.invalid", f"the function {name[:60]} is not permitted")
        if isinstance(node.parent, exp.Dot):
            raise EffectFailed("args.invalid", "a function is named without a schema")
    if isinstance(node, exp.DataType) and (type(node) is not exp.DataType or node.this not in _TYPES):
        raise EffectFailed("args.invalid", "only the types that every database has are permitted")
    if isinstance(node, exp.Var) and not _WORDS.fullmatch(node.name):  # it is written as it came
        raise EffectFailed("args.invalid", f"{_plain(node.name)[:60]} is no unit and no name of a kind")


class _Named(NamedTuple):
    """Of a statement: all that it names, what it names as a column, and whether it may read all columns of a table."""

    anything: frozenset[str]
    columns: frozenset[str]
    whole: bool

    @classmethod
    def by(cls, tree: exp.Expr) -> _Named:
        columns, anything, rows, whole = set(), set(), set(), False
        for one in tree.walk():
            match one:
                case exp.Identifier():
                    anything.add(one.name.casefold())
                case exp.Column():
                    columns.add(one.name.casefold())
                case exp.Table() | exp.Subquery() | exp.CTE():
                    rows.add(one.alias_or_name.casefold())
                case exp.Star():
                    whole = True
                case exp.Join():
                    whole = whole or bool(one.args.get("method"))
                case exp.TableAlias():  # which may give every column another name
                    whole = whole or (isinstance(one.parent, exp.Table) and bool(one.args.get("columns")))
        # the name of a table, used as a column, is its row
        whole = whole or not rows.isdisjoint(columns)
        return cls(anything=frozenset(anything), columns=frozenset(columns), whole=whole)


def _real_tables(node: exp.Expr, visible: frozenset[str] = frozenset()) -> Iterator[exp.Table]:
    """Every table at or below `node` but for those that WITH clauses stand for; `visible`: those that do here."""
    clause = node.args.get("with_") or node.args.get("with")
    if isinstance(clause, exp.With):
        names = [_name_of(one.args["alias"].this) for one in clause.expressions]
        if clause.args.get("recursive"):
            visible |= set(names)
        for name, one in zip(names, clause.expressions, strict=True):
            yield from _real_tables(one.this, visible)
            visible |= {name}
    if isinstance(node, exp.Table):
        given = {part for part, value in node.args.items() if value}
        if not isinstance(node.this, exp.Identifier) or not given <= _TABLE_PARTS:
            raise EffectFailed("args.invalid", "only tables can be read")
        if node.args.get("db") is not None or _name_of(node.this) not in visible:
            yield node
    for child in node.iter_expressions():
        if child is not clause:
            yield from _real_tables(child, visible)


class _Rewriting:
    """Puts a sub-query of the permitted columns in the place of each table."""

    def __init__(self, guard: Guard, denied: frozenset[DataClass], named: _Named) -> None:
        self._guard = guard
        self._denied = denied
        self._named = named
        self._read: set[DataClass] = set()
        self._tables = {name.rpartition(".")[2]: name for name in guard.tables}
        self._sources: dict[str, exp.Select] = {}

    @property
    def classes(self) -> tuple[DataClass, ...]:
        return tuple(name for name in DATA_CLASSES if name in self._read and name != "public")

    def rewritten(self, tree: exp.Expr) -> exp.Expr:
        """`tree`, with the sub-queries in their places."""
        for table in tuple(_real_tables(tree)):
            alias = table.args.get("alias") or exp.TableAlias(
                this=exp.to_identifier(_name_of(table.this), quoted=True)
            )
            source = self._source(self._full_name(table)).copy()
            table.replace(exp.Subquery(this=source, alias=alias, joins=table.args.get("joins")))
        return tree

    def check_written(self, text: str) -> None:
        """Return where `text`, read again, reads nothing but what was put there. Raises: EffectFailed."""
        for tree in sqlglot.parse(text, dialect=self._guard.dialect):
            if not isinstance(tree, _READING):
                raise EffectFailed("args.invalid", "exactly one statement is permitted")
            for node in tree.walk():
                _check_node(node)
            for table in _real_tables(tree):
                if table.parent_select != self._sources.get(self._full_name(table)):
                    raise EffectFailed("args.invalid", "only tables can be read")

    def _full_name(self, table: exp.Table) -> str:
        name, schema = _name_of(table.this), table.args.get("db")
        full = self._tables.get(name)
        if full is None or (schema is not None and f"{_name_of(schema)}.{name}" != full):
            known = ", ".join(self._guard.tables) or "none"
            raise EffectFailed("args.invalid", f"there is no table {name[:60]}; there are: {known}")
        return full

    def _source(self, full: str) -> exp.Select:
        """What is read of a table."""
        if full not in self._sources:
            schema, _, name = full.rpartition(".")
            table = exp.Table(this=_quoted(name), db=_quoted(schema) if schema else None)
            self._sources[full] = exp.Select(expressions=self._shown(full), from_=exp.From(this=table))
        return self._sources[full]

    def _shown(self, full: str) -> list[exp.Expr]:
        columns = self._guard.tables[full]
        shown: list[exp.Expr] = []
        for column, data_class in columns.items():
            is_named = self._named.whole or column in self._named.anything
            if data_class not in self._denied:
                shown.append(exp.Column(this=_quoted(column)))
                if is_named:
                    self._read.add(data_class)
            elif self._guard.masks:
                shown.append(exp.alias_(exp.Null(), column, quoted=True))
            elif column in self._named.columns and not self._is_permitted_elsewhere(column):
                raise self._refusal(full, column, columns)
        if not shown:
            raise EffectFailed("data.denied", f"every column of {full} is of a class that is not permitted")
        return shown

    def _is_permitted_elsewhere(self, column: str) -> bool:
        """Another table has a column of that name that may be read: the database finds out which is meant."""
        return any(
            columns.get(column, next(iter(self._denied), "public")) not in self._denied
            for columns in self._guard.tables.values()
        )

    def _refusal(self, full: str, column: str, columns: Mapping[str, DataClass]) -> EffectFailed:
        permitted = ", ".join(name for name, kind in columns.items() if kind not in self._denied) or "none"
        message = f"{full}.{column} is {columns[column]}: not permitted for this agent"
        return EffectFailed("data.denied", f"{message} (permitted columns of {full}: {permitted})")


def _quoted(name: str) -> exp.Identifier:
    return exp.Identifier(this=name, quoted=True)


def _name_of(identifier: exp.Expr) -> str:
    """The name that a database takes an identifier for: folded (of ASCII alone), unless it is quoted."""
    return identifier.name if identifier.args.get("quoted") else identifier.name.translate(_FOLDED)
