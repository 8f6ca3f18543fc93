"""The tools of one database: PostgreSQL, or a file of SQLite."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from remit.adapters.tools.deadline import Deadline
from remit.adapters.tools.sql import sqlite
from remit.adapters.tools.sql.authorizer import Authorizer
from remit.adapters.tools.sql.guard import Guard, Guarded, check_parser
from remit.adapters.tools.sql.labels import unlabelled
from remit.adapters.tools.sql.postgres import Postgres, bounded
from remit.adapters.tools.sql.specs import parts_of, tables_of, writes
from remit.adapters.tools.threads import RESERVE, ThreadedTools, Work
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.labels import DataClass
from remit.core.tools import ToolSpec
from remit.governance.toolsets import SqlToolset
from remit.governance.toolsets.sql import QuerySection
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.services import Clock

CHECKED_MAX = 128
"""So many statements are known to be permitted, and what they became."""
Check: TypeAlias = Callable[[str, frozenset[DataClass]], Guarded]


def open_sql(
    section: SqlToolset,
    specs: tuple[ToolSpec, ...],
    folder: Path,
    environment: Mapping[str, str],
    clock: Clock,
) -> ThreadedTools:
    """The tools of `section`, once its database has been looked at. Blocks.

    Raises: RemitError `toolset.unavailable`.
    """
    if section.free:
        check_parser()
    notices = _looked_at(section, specs)
    guard = Guard(
        tables=section.tables,
        dialect="sqlite" if section.url_env is None else "postgres",
        masks=section.denied_columns == "mask",
    )
    # agents ask the same again, and what may be run for a text does not change
    check = lru_cache(maxsize=CHECKED_MAX)(guard.check)
    if section.url_env is None:
        toolset = _on_sqlite(section, specs, folder / str(section.file), check, clock)
        toolset.notices = notices
        return toolset
    url = environment.get(section.url_env, "")
    if not url:
        raise RemitError(
            "toolset.unavailable", f"{section.url_env} is not set", remedy="set it to the database's URL"
        )
    database = Postgres(url, timeout_s=max(spec.timeout_s or 10.0 for spec in specs) * RESERVE)
    any_writes = any(writes(query) for query in section.queries.values())
    database.check(section.tables, may_write=any_writes and not section.free)
    toolset = _PostgresTools(section, specs, database, check, clock)
    toolset.notices = notices
    return toolset


def _looked_at(section: SqlToolset, specs: tuple[ToolSpec, ...]) -> tuple[str, ...]:
    """What is to be told of the queries. Raises: RemitError `toolset.unavailable` where one hides a class of data."""
    notices = []
    for spec in specs:
        query = section.queries.get(spec.name)
        if query is None:
            continue
        try:
            found = unlabelled(query, section, spec)
        except ValueError:
            notices.append(
                f"the query {spec.name} cannot be read here: what it returns is of the classes that it says"
            )
            continue
        if found is not None:
            name, data_class = found
            message = f"{spec.name} returns {name}, which is made of {data_class} data, and does not say so"
            remedy = f"add tool: {{classes: [{data_class}]}}, or field_classes: {{{name}: ...}}, to the query"
            raise RemitError("toolset.unavailable", message, remedy=remedy)
    return tuple(notices)


class _PostgresTools(ThreadedTools):
    def __init__(
        self, section: SqlToolset, specs: tuple[ToolSpec, ...], database: Postgres, check: Check, clock: Clock
    ) -> None:
        self._database = database
        self._check = check
        work: dict[str, Work] = {name: self._named(query) for name, query in section.queries.items()}
        super().__init__("sql", {spec.name: work.get(spec.name, self._free) for spec in specs}, specs, clock)

    async def close(self) -> None:
        """Interrupt what is running, and let go of the connections."""
        await super().close()
        self._database.drop_idle()

    def _free(self, args: Json, context: CallContext, deadline: Deadline) -> Json:
        guarded = self._check(args["sql"], context.constraints.denied_classes)
        sql = bounded(guarded.sql, context.constraints)
        found = self._database.read(sql, None, context.constraints, deadline)
        return {**found, "classes": list(guarded.classes)}

    def _named(self, query: QuerySection) -> Work:
        sql = "".join(
            f"%({name})s" if name else text.replace("%", "%%") for text, name in parts_of(query.sql)
        )
        does = self._database.write if writes(query) else self._database.read

        def run(args: Json, context: CallContext, deadline: Deadline) -> Json:
            return does(sql, args, context.constraints, deadline)

        return run


def _on_sqlite(
    section: SqlToolset, specs: tuple[ToolSpec, ...], file: Path, check: Check, clock: Clock
) -> ThreadedTools:
    if not file.is_file():
        raise RemitError("toolset.unavailable", f"there is no file {file}")
    if any(writes(query) for query in section.queries.values()):
        raise RemitError(
            "toolset.unavailable", "a file of SQLite is read alone", remedy="use PostgreSQL to write"
        )
    tables = tables_of(section)

    def connected(
        statement: sqlite.Statement, authorizer: Authorizer, context: CallContext, deadline: Deadline
    ) -> Json:
        uri = f"{file.resolve().as_uri()}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
                return sqlite.run(connection, statement, authorizer, context.constraints, deadline)
        except sqlite3.Error as error:
            raise EffectFailed("tool.failed", "the database cannot be read", retryable=True) from error

    def free(args: Json, context: CallContext, deadline: Deadline) -> Json:
        denied = context.constraints.denied_classes
        guarded = check(args["sql"], denied)
        return connected(sqlite.Statement(guarded.sql), Authorizer(tables, denied), context, deadline)

    def named(query: QuerySection) -> Work:
        def run(args: Json, context: CallContext, deadline: Deadline) -> Json:
            # what yours reads is yours to decide: of what it returns, what is denied is masked
            return connected(
                sqlite.Statement(query.sql, args), Authorizer(tables, frozenset()), context, deadline
            )

        return run

    work = {name: named(query) for name, query in section.queries.items()}
    return ThreadedTools("sql", {spec.name: work.get(spec.name, free) for spec in specs}, specs, clock)
