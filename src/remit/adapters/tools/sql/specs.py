"""The declarations of a database's tools. Opens nothing, and needs no driver."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from remit.adapters.tools.sql.tables import FREE_CHARS_MAX, Column, Table, describe, field_classes
from remit.core.canonical import digest
from remit.core.errors import RemitError
from remit.core.tools import Declared, ToolSpec
from remit.governance.toolsets import SqlToolset
from remit.governance.toolsets.sql import QuerySection

_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | :: | :(?P<name>[a-z_][a-z0-9_]*) | .""",
    re.VERBOSE | re.DOTALL,
)


def declare_sql(name: str, section: SqlToolset) -> Declared:
    """The named queries, and `query_<name>` where free SQL is permitted. Raises: RemitError `config.invalid`."""
    if (section.url_env is None) == (section.file is None):
        raise RemitError("config.invalid", "a database has a url_env or a file, and not both")
    if section.free and not section.tables:
        raise RemitError("config.invalid", "free SQL needs tables to read")
    specs = [_query_spec(query_name, query, section) for query_name, query in section.queries.items()]
    if section.free:
        specs.append(_free_spec(name, section))
    return Declared(tuple(specs), digest(b""))


def tables_of(section: SqlToolset) -> tuple[Table, ...]:
    """The tables that there are, without their schemas."""
    return tuple(
        Table(
            name=name.rpartition(".")[2],
            columns=tuple(Column(name=each, type=None, data_class=kind) for each, kind in columns.items()),
        )
        for name, columns in section.tables.items()
    )


def parts_of(sql: str) -> Iterator[tuple[str, str]]:
    """The text of a query of ours, in pieces, each with the name of the parameter that it is, or with none."""
    for match in _TOKEN.finditer(sql):
        yield match[0], match["name"] or ""


def writes(query: QuerySection) -> bool:
    """Whether a query is declared to change something."""
    return query.tool.effect == "write"


def _query_spec(name: str, query: QuerySection, section: SqlToolset) -> ToolSpec:
    used = {parameter for _, parameter in parts_of(query.sql) if parameter}
    for parameter in sorted(used ^ query.args.keys()):
        problem = "no argument of that name" if parameter in used else "an argument that it does not use"
        raise RemitError("config.invalid", f"the query {name} has {problem}: {parameter}")
    spec = ToolSpec(
        name=name,
        description=query.description,
        args_schema=_object(query.args),
        effect="read",
        idempotency="at_most_once" if writes(query) else "idempotent",
        records="rows",
        field_classes=field_classes(tables_of(section)),
        rate_group="queries",
        timeout_s=10.0,
    )
    return query.tool.applied(spec)


def _free_spec(name: str, section: SqlToolset) -> ToolSpec:
    tables = tables_of(section)
    dialect = "PostgreSQL" if section.url_env else "SQLite"
    spec = ToolSpec(
        name=f"query_{name}",
        description=(
            f"Run one read-only {dialect} SELECT. Name the columns you need: those of a data class you are not "
            "permitted cannot be read. Rows are cut at a limit, so aggregate where you can.\n"
            f"Tables (a column's data class in brackets):\n{describe(tables)}"
        ),
        args_schema=_object({"sql": {"type": "string", "minLength": 1, "maxLength": FREE_CHARS_MAX}}),
        effect="read",
        idempotency="idempotent",
        records="rows",
        field_classes=field_classes(tables),
        classes_field="classes",
        rate_group="queries",
        timeout_s=10.0,
    )
    free = section.tool.applied(spec)
    if (free.effect, free.idempotency) != ("read", "idempotent"):
        raise RemitError(
            "config.invalid", f"{free.name} reads, whatever is said of it", remedy="remove effect"
        )
    return free


def _object(properties: Mapping[str, object]) -> dict[str, object]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
