"""Databases of PostgreSQL for tests: each test gets one of its own, a copy of one that is empty."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count

import psycopg
from psycopg.conninfo import make_conninfo

from remit.adapters.journal.postgres import schema
from remit.adapters.journal.postgres.connection import Address
from remit.testing.postgres_server import postgres_server

URL = "REMIT_TEST_DATABASE_URL"


class Databases:
    """Makes and drops databases on one server. `prefix` keeps those of several processes apart."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._prefix = f"remit_test_{os.getpid()}"
        self._numbers = count()
        self._template = self._create("template0")
        schema.migrate(Address.of(self.url(self._template)))

    def url(self, database: str) -> str:
        """The address of a database of the server."""
        return make_conninfo(self._url, dbname=database)

    @contextmanager
    def empty_journal(self) -> Iterator[str]:
        """The address of a database with an empty journal."""
        name = self._create(self._template)
        try:
            yield self.url(name)
        finally:
            self._drop(name)

    @contextmanager
    def empty(self) -> Iterator[str]:
        """The address of a database without a journal."""
        name = self._create("template0")
        try:
            yield self.url(name)
        finally:
            self._drop(name)

    def close(self) -> None:
        self._drop(self._template)

    def _create(self, template: str) -> str:
        name = f"{self._prefix}_{next(self._numbers)}"
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return name

    def _drop(self, name: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def server_url() -> Iterator[str]:
    """The address of the server that REMIT_TEST_DATABASE_URL names, else of one that runs while the block does."""
    url = os.environ.get(URL)
    if url:
        yield url
    else:
        # no test cuts the power, so none needs to wait for the disk
        with postgres_server("fsync=off") as server:
            yield server.url()


@contextmanager
def databases(shared_url: str | None) -> Iterator[Databases]:
    """Those of the server at `shared_url`, else of one as `server_url` says."""
    with ExitStack() as stack:
        made = Databases(shared_url or stack.enter_context(server_url()))
        stack.callback(made.close)
        yield made
