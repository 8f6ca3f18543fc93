"""Brings a journal's schema up to this version, forward only.

The migration library is imported only when a step is due: it takes half a second, and most starts
find the schema current.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from remit.core.errors import RemitError

HEAD = "0010"
"""The newest step in migrations/versions."""

_MIGRATIONS = Path(__file__).parent / "migrations"


def version(connection: sqlite3.Connection) -> str | None:
    """The step the database stands at; None for a new database."""
    found = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'alembic_version'").fetchone()
    if found is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def check_readable(current: str | None, head: str) -> None:
    """Refuse to read a journal of another schema than `head`. Raises: RemitError `journal.schema`."""
    if current in (None, head):
        return
    remedy = "start a run: it brings the journal up to date" if current < head else ""
    message = f"the journal is of schema {current}, this version reads {head}"
    raise RemitError("journal.schema", message, remedy=remedy)


def migrate(path: Path) -> None:
    """Run the steps that are due on the database at `path`: each in a transaction, those of a new one in the same.

    Raises: RemitError `journal.schema` where the database is newer than this version of Remit.
    """
    connection = sqlite3.connect(path)
    try:
        current = version(connection)
    except sqlite3.DatabaseError as error:
        raise RemitError("journal.unavailable", f"{path} is not a journal", cause=str(error)) from error
    finally:
        connection.close()
    if current == HEAD:
        return
    # half a second of import that only a due migration pays for
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415
    from sqlalchemy import create_engine, event  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise RemitError(
            "journal.schema", f"the journal {path} is of schema {current}, unknown to this version"
        )
    # Python's sqlite3 begins no transaction for CREATE TABLE, so each is begun by hand; and a path is no URL
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(path, isolation_level=None))
    event.listen(engine, "begin", lambda sql: sql.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.connect() as sql:
            config.attributes.update(connection=sql, is_new=current is None)
            command.upgrade(config, "head")
            sql.commit()
    except SQLAlchemyError as error:
        raise RemitError("journal.unavailable", f"{path} cannot be migrated", cause=str(error)) from error
    finally:
        engine.dispose()
