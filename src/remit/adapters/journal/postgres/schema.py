"""Brings a journal on PostgreSQL up to this version, forward only, however many workers start at once.

An advisory lock lets one of them do it while the others wait. A step waits seconds for a table that somebody
uses, and then gives up rather than hold everybody up. Each is a transaction, and those of a new journal are one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from remit.adapters.journal.postgres.connection import SCHEMA, Address
from remit.core.errors import RemitError

HEAD = "0007"
"""The newest step in versions."""

_HERE = Path(__file__).parent
_LOCK = 0x72656D6974  # "remit"


def version(connection: psycopg.Connection[Any]) -> str | None:
    """The step the database stands at; None where there is no journal yet."""
    row = connection.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.alembic_version",)).fetchone()
    if row is None or row[0] is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseState:
    """The server's version, the schema that the journal is of (None: no journal yet), and whether commits last."""

    server: str
    version: str | None
    is_durable: bool


def state(url: str) -> DatabaseState:
    """What the database is. Raises: RemitError `journal.unavailable`, `usage.invalid`."""
    address = Address.of(url)
    try:
        with address.connect() as connection:
            row = connection.execute(
                "SELECT current_setting('server_version'), current_setting('fsync')"
            ).fetchone()
            assert row is not None
            return DatabaseState(server=row[0], version=version(connection), is_durable=row[1] == "on")
    except psycopg.Error as error:
        message, cause = "the database cannot be opened", address.told(error)
        raise RemitError("journal.unavailable", message, cause=cause) from error


def migrate(address: Address) -> None:
    """Run the steps that are due. Raises: psycopg.Error; RemitError `journal.schema`, `journal.unavailable`."""
    with address.connect() as connection:
        if version(connection) == HEAD:
            return
        # the others wait here for whoever is first, as long as a migration may take
        connection.execute("SET lock_timeout = '60s'; SET statement_timeout = '60s'")
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        current = version(connection)
        if current != HEAD:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}".encode())
            _upgrade(address, current)
        # the lock is freed with the connection


def _upgrade(address: Address, current: str | None) -> None:
    # half a second of import that only a due migration pays for
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415
    from sqlalchemy import create_engine  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415
    from sqlalchemy.pool import NullPool  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_HERE.parent / "migrations").replace("%", "%%"))
    config.set_main_option("version_locations", str(_HERE / "versions").replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise RemitError("journal.schema", f"the journal is of schema {current}, unknown to this version")
    connection = address.connect()
    connection.autocommit = False  # a step that breaks leaves nothing behind
    engine = create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=NullPool)
    try:
        with engine.connect() as sql:
            config.attributes.update(connection=sql, is_new=current is None)
            command.upgrade(config, "head")
            sql.commit()
    except SQLAlchemyError as error:
        message, cause = "the journal cannot be migrated", address.told(error)
        raise RemitError("journal.unavailable", message, cause=cause) from error
    finally:
        engine.dispose()
