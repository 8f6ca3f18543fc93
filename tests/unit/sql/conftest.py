"""Two databases of PostgreSQL that differ only in what is denied, and roles that may read them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.postgres_databases import Databases

from remit.adapters.tools.sql.specs import declare_sql
from remit.adapters.tools.sql.toolset import open_sql
from remit.adapters.tools.threads import ThreadedTools
from remit.core.decisions import Constraints
from remit.governance.toolsets import SqlToolset
from remit.ports.effects import CallContext
from remit.runtime.clock import SystemClock

SETUP = """
CREATE TABLE customers (id text PRIMARY KEY, name text, plan text, iban text);
CREATE TABLE orders (id int PRIMARY KEY, customer_id text, total numeric, at timestamptz);
CREATE TABLE secrets (name text, word text);
CREATE SEQUENCE numbers;
CREATE VIEW everything AS SELECT * FROM customers;
INSERT INTO customers SELECT 'C-' || n, {name} || n, CASE WHEN n % 2 = 0 THEN 'pro' ELSE 'free' END, {iban} || n
    FROM generate_series(1, 40) n;
INSERT INTO orders SELECT n, 'C-' || (n % 40 + 1), n * 1.5, '2026-01-01T00:00:00Z' FROM generate_series(1, 200) n;
INSERT INTO secrets VALUES ({name}, {iban});
"""
TABLES: dict[str, dict[str, str]] = {
    "customers": {"id": "public", "name": "pii", "plan": "public", "iban": "financial"},
    "orders": {"id": "public", "customer_id": "public", "total": "public", "at": "public"},
}
Open: TypeAlias = Callable[..., ThreadedTools]


class Place:
    """A database, and roles of it that end with it."""

    def __init__(self, url: str, roles: list[str]) -> None:
        self.url = url
        self.roles = roles

    def run(self, sql: str) -> list[Any]:
        """What the owner gets for a statement."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def role(self, *grants: str) -> str:
        """The address for a new role with these grants."""
        database = psycopg.conninfo.conninfo_to_dict(self.url)["dbname"]
        name = f"{database}_r{len(self.roles)}"
        self.roles.append(name)
        self.run(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
        for grant in grants:
            self.run(grant.format(role=name))
        return make_conninfo(self.url, user=name, password="x")

    def reader(self) -> str:
        """The address for a role that may read the declared tables, and a view and a table that are not declared."""
        return self.role("GRANT SELECT ON customers, orders, everything, secrets TO {role}")

    def close(self) -> None:
        for name in self.roles:
            self.run(f"DROP OWNED BY {name}")
            self.run(f"DROP ROLE {name}")


@pytest.fixture(scope="module")
def places(postgres: Databases) -> Iterator[tuple[Place, Place]]:
    with ExitStack() as stack:
        made = []
        for name, iban in (("'Ada '", "'DE'"), ("'Bob Bob '", "'FR00'")):
            place = Place(stack.enter_context(postgres.empty()), [])
            stack.callback(place.close)
            place.run(SETUP.format(name=name, iban=iban))
            made.append(place)
        yield made[0], made[1]


@pytest.fixture(scope="module")
def place(places: tuple[Place, Place]) -> Place:
    return places[0]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a toolset on an address (or a file), with the keys of its section."""
    async with AsyncExitStack() as stack:

        def make(url: str | None, **keys: Any) -> ThreadedTools:
            given: dict[str, Any] = {"kind": "sql", "tables": TABLES} | keys
            given |= {"url_env": "SHOP"} if url else {}
            section = SqlToolset.model_validate(given)
            specs = declare_sql("shop", section).specs
            toolset = open_sql(section, specs, tmp_path, {"SHOP": url or ""}, SystemClock())
            stack.push_async_callback(toolset.close)
            return toolset

        yield make


def context(**constraints: Any) -> CallContext:
    values: dict[str, Any] = {"timeout_s": 10.0, "output_bytes_max": 65_536} | constraints
    return CallContext(
        run_id="r", tenant="t", agent="a", idempotency_key="r.1.t0", constraints=Constraints(**values)
    )
