"""A database as a toolset, on PostgreSQL itself and on SQLite: grants, queries, deadlines, caps, writes."""

from __future__ import annotations

import asyncio
import gzip
import json
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.unit.sql.conftest import TABLES, Open, Place, context

from remit.adapters.tools.sql.specs import declare_sql
from remit.core.errors import RemitError
from remit.governance.toolsets import SqlToolset
from remit.ports.effects import EffectFailed

DENIED = frozenset({"pii", "financial"})
BY_PLAN = {
    "description": "Customers of a plan.",
    "sql": "SELECT id, plan, '100%' AS share FROM customers WHERE plan = :plan ORDER BY id",
    "args": {"plan": {"type": "string"}},
}


async def ask(toolset: Any, sql: str, **constraints: Any) -> Any:
    return await toolset.call("query_shop", {"sql": sql}, context(**constraints))


async def refusal(toolset: Any, sql: str, **constraints: Any) -> str:
    with pytest.raises(EffectFailed) as raised:
        await ask(toolset, sql, **constraints)
    return f"{raised.value.code}: {raised.value.message}"


async def test_rows_names_and_values_of_all_kinds(place: Place, opened: Open) -> None:
    toolset = opened(place.reader(), free=True)
    found = await ask(toolset, "SELECT id, id, total, at FROM orders WHERE id = 3 AND at < now() LIMIT 5")
    assert found == {
        "columns": ["id", "id_2", "total", "at"],
        "rows": [{"id": 3, "id_2": 3, "total": "4.5", "at": found["rows"][0]["at"]}],
        "row_count": 1,
        "truncated": False,
        "classes": [],
    }
    assert (await ask(toolset, "SELECT plan, name FROM customers LIMIT 1"))["classes"] == ["pii"]
    assert (await ask(toolset, "SELECT id FROM customers WHERE id = 'none'"))["rows"] == []


@pytest.mark.parametrize(
    ("grant", "why"),
    [
        ("GRANT INSERT ON orders TO {role}", "it may change the table orders"),
        ("GRANT UPDATE (total) ON orders TO {role}", "it may change the table orders"),
        ("GRANT CREATE ON SCHEMA public TO {role}", "it may create tables in the schema public"),
        ("GRANT pg_execute_server_program TO {role}", "it is a member of pg_execute_server_program"),
        ("ALTER ROLE {role} CREATEROLE", "it may create roles"),
        ("ALTER ROLE {role} SUPERUSER", "it is a superuser"),
        ("ALTER ROLE {role} BYPASSRLS", "read what row security hides"),
        ("GRANT TRIGGER ON orders TO {role}", "it may change the table orders"),
        ("GRANT USAGE ON SEQUENCE numbers TO {role}", "it may count on the sequence numbers"),
        ("GRANT pg_signal_backend TO {role}", "it is a member of pg_signal_backend"),
    ],
)
def test_a_role_that_may_write_is_not_taken(place: Place, opened: Open, grant: str, why: str) -> None:
    url = place.role("GRANT SELECT ON customers, orders TO {role}", grant)
    with pytest.raises(RemitError, match="may write") as raised:
        opened(url, free=True)
    assert why in raised.value.message


def test_what_a_role_may_become_counts_as_its_own(place: Place, opened: Open) -> None:
    writer = place.role("GRANT INSERT ON orders TO {role}")
    name = psycopg.conninfo.conninfo_to_dict(writer)["user"]
    reader = place.role(
        "ALTER ROLE {role} NOINHERIT",
        "GRANT SELECT ON customers, orders TO {role}",
        f"GRANT {name} TO {{role}}",
    )
    with psycopg.connect(reader, autocommit=True) as connection:  # what it may do, in one step
        connection.execute(f"SET ROLE {name}")
        connection.execute("INSERT INTO orders VALUES (-1)")
    place.run("DELETE FROM orders WHERE id = -1")
    with pytest.raises(RemitError, match="it may change the table orders"):
        opened(reader, free=True)


def test_what_is_wrong_with_the_database_is_said_at_the_start(place: Place, opened: Open) -> None:
    with pytest.raises(RemitError, match=r"the role may not read customers\.id"):
        opened(place.role("GRANT SELECT ON orders TO {role}"), free=True)
    with pytest.raises(RemitError, match="cannot be used") as raised:
        opened(place.reader(), free=True, tables={"nowhere": {"id": "public"}})
    assert 'relation "nowhere" does not exist' in raised.value.cause
    with pytest.raises(RemitError, match="cannot be used") as raised:
        opened("postgresql://u:secret@127.0.0.1:1/x", free=True)
    assert "secret" not in str(raised.value) + raised.value.cause


async def test_no_answer_depends_on_what_is_denied(
    places: tuple[Place, Place], opened: Open, shared_data: Path
) -> None:
    """Two databases that differ in every denied value answer everything alike."""
    one, two = (opened(place.reader(), free=True) for place in places)
    statements = [*ATTACKS]
    with gzip.open(shared_data / "payloads" / "patt_payloads.json.gz", "rt") as file:
        for number, entry in enumerate(json.load(file)["patt_sqli"]):
            if number % 4 == 0:
                statements += [entry["s"], f"SELECT plan FROM customers WHERE id = '{entry['s']}'"]
    answered = 0
    for sql in statements:
        both = []
        for toolset in (one, two):
            try:
                both.append(await ask(toolset, sql, denied_classes=DENIED))
            except EffectFailed as error:
                both.append(error.message)
        assert both[0] == both[1], sql
        answered += isinstance(both[0], dict)
    assert answered > 10
    assert places[0].run("SELECT count(*) FROM customers") == [(40,)]


ATTACKS = [
    "SELECT * FROM customers",
    "SELECT c FROM customers c",
    "SELECT customers FROM customers",
    "SELECT customers::text FROM customers",
    "SELECT (customers).name FROM customers",
    "SELECT concat(c) FROM customers c",
    "SELECT length(c::text) FROM customers c",
    "SELECT md5(c::text) FROM customers c ORDER BY id",
    "SELECT max(c) FROM customers c",
    "SELECT array_agg(c) FROM customers c",
    "SELECT id FROM customers ORDER BY name",
    "SELECT id FROM customers c ORDER BY c",
    "SELECT count(*) FROM customers NATURAL JOIN (SELECT 'Ada 1' AS name) x",
    "SELECT count(*) FROM customers JOIN (SELECT 'Ada 1' AS name) x USING (name)",
    "SELECT x.name FROM customers AS x (id, name)",
    "SELECT x.b FROM customers AS x (a, b, c)",
    "SELECT a.d FROM (SELECT * FROM customers) AS a (a, b, c, d)",
    "WITH customers AS (SELECT * FROM customers) SELECT * FROM customers",
    "WITH RECURSIVE customers AS (SELECT 1 AS id UNION ALL SELECT id + 1 FROM customers WHERE id < 3) SELECT * FROM customers",
    "SELECT * FROM everything",
    "SELECT * FROM public.everything",
    "SELECT * FROM secrets",
    "SELECT name FROM orders, secrets",
    "SELECT (SELECT name FROM customers LIMIT 1)",
    "SELECT (SELECT word FROM secrets LIMIT 1)",
    "SELECT * FROM customers TABLESAMPLE SYSTEM (100)",
    "SELECT * FROM ROWS FROM (pg_ls_dir('.')) AS x",
    "TABLE customers",
    "SELECT count(*) FROM pg_stats WHERE tablename = 'customers'",
    "SELECT most_common_vals FROM pg_stats",
    "SELECT 1/(CASE WHEN name LIKE 'A%' THEN 0 ELSE 1 END) FROM customers",
    "SELECT CAST(name AS int) FROM customers",
    "SELECT CAST(c AS int) FROM customers c",
    "SELECT plan FROM customers GROUP BY plan HAVING count(name) > 0",
    "SELECT count(*) FILTER (WHERE name > 'B') FROM customers",
    "SELECT count(*) FROM customers c WHERE c > ROW('C-1', 'B')",
    "SELECT * FROM customers FETCH FIRST 1 ROWS ONLY",
    "SELECT customers.* FROM orders JOIN customers ON customer_id = customers.id ORDER BY 1 LIMIT 3",
    "SELECT DISTINCT ON (plan) * FROM customers ORDER BY plan, id",
    'SELECT "name" FROM customers',
    'SELECT U&"n\\0061me" FROM customers',
    "SELECT n.* FROM customers c, LATERAL (SELECT c.name) n",
    "SELECT string_agg(plan, ',' ORDER BY id) FROM customers",
    "SELECT first_value(id) OVER (ORDER BY plan, id) FROM customers LIMIT 2",
]


async def test_a_statement_ends_at_its_deadline_in_the_server_too(place: Place, opened: Open) -> None:
    toolset = opened(place.reader(), free=True, tool={"timeout_s": 1})
    endless = "SELECT count(*) FROM orders a, orders b, orders c, orders d, orders e, orders f"
    assert await refusal(toolset, endless, timeout_s=1.0) == (
        "tool.timeout: the query ran out of time: ask for less"
    )
    # and as soon as nobody waits for it any more
    toolset = opened(place.reader(), free=True)
    waiting = asyncio.create_task(ask(toolset, endless))
    running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE '%orders%' AND pid <> pg_backend_pid()"
    async with asyncio.timeout(20):
        while place.run(running) != [(1,)]:
            await asyncio.sleep(0.02)
        waiting.cancel()
        while place.run(running) != [(0,)]:
            await asyncio.sleep(0.02)


async def test_rows_and_bytes_are_cut_while_they_come(place: Place, opened: Open) -> None:
    toolset = opened(place.reader(), free=True)
    many = "SELECT a.id FROM orders a, orders b, orders c"  # eight millions
    found = await ask(toolset, many, records_max=7)
    assert (found["row_count"], found["truncated"]) == (7, True)
    found = await ask(toolset, "SELECT id FROM orders", records_max=200)
    assert (found["row_count"], found["truncated"]) == (200, False)
    wide = "SELECT a.id, string_agg(b.customer_id, ',') AS s FROM orders a, orders b GROUP BY a.id"
    found = await ask(toolset, wide, output_bytes_max=10_000)
    assert found["truncated"]
    assert len(json.dumps(found)) < 10_000


async def test_a_row_that_is_larger_than_all_that_is_returned_is_not_even_sent(
    place: Place, opened: Open
) -> None:
    toolset = opened(place.reader(), free=True)
    wide = "SELECT string_agg(a.customer_id, ',') AS s FROM orders a, orders b"  # 190 kB
    said = await refusal(toolset, wide, output_bytes_max=10_000)
    assert (
        said == "tool.failed: the query failed: bytes in one row are more than may be returned: ask for less"
    )
    assert (await ask(toolset, wide, output_bytes_max=1_000_000))["row_count"] == 1
    assert (await ask(toolset, "SELECT id FROM orders ORDER BY id DESC LIMIT 2"))["rows"] == [
        {"id": 200},
        {"id": 199},
    ]
    assert (await ask(toolset, "SELECT 1 AS a, 2 AS a, 'x' AS a"))["rows"] == [{"a": 1, "a_2": 2, "a_3": "x"}]
    assert "TooManyColumns" in await refusal(toolset, "SELECT " + ", ".join(["1"] * 1_700))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name::int FROM customers",
        "SELECT string_agg(name, ',')::timestamp FROM customers",
        "SELECT to_date(name, 'YYYY') FROM customers",
        "SELECT date_trunc(name, now()) FROM customers",
        "SELECT (name || '{')::json FROM customers",
        "SELECT name::uuid FROM customers",
    ],
)
async def test_no_complaint_repeats_what_is_stored(place: Place, opened: Open, sql: str) -> None:
    # what comes back as an error has no label, and would be data of no class
    said = await refusal(opened(place.reader(), free=True), sql)
    assert "Ada" not in said
    assert said.startswith(("tool.failed: the query failed: ", "args.invalid: "))


async def test_a_connection_that_the_server_has_ended_is_replaced(place: Place, opened: Open) -> None:
    toolset = opened(place.reader(), free=True)
    await ask(toolset, "SELECT 1 AS one")
    place.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert (await ask(toolset, "SELECT 1 AS one"))["rows"] == [{"one": 1}]


async def test_the_arguments_of_a_query_are_values_and_no_sql(place: Place, opened: Open) -> None:
    toolset = opened(place.reader(), queries={"by_plan": BY_PLAN})
    found = await toolset.call("by_plan", {"plan": "pro"}, context(records_max=2))
    assert found["rows"][0] == {"id": "C-10", "plan": "pro", "share": "100%"}
    found = await toolset.call("by_plan", {"plan": "pro' OR 'a' = 'a"}, context())
    assert found["rows"] == []


async def test_a_query_that_is_declared_to_write_commits_once_or_not_at_all(
    place: Place, opened: Open
) -> None:
    place.run("CREATE TABLE IF NOT EXISTS visits (id int PRIMARY KEY)")
    visit = {
        "description": "d",
        "sql": "INSERT INTO visits VALUES (:id) RETURNING id",
        "args": {"id": {"type": "integer"}},
        "tool": {"effect": "write"},
    }
    role = place.role(
        "GRANT SELECT ON customers, orders TO {role}", "GRANT INSERT, SELECT ON visits TO {role}"
    )
    with pytest.raises(RemitError, match="may write"):
        opened(role, queries={"visit": visit}, free=True)  # a model's own SQL is under no such role
    toolset = opened(role, queries={"visit": visit})
    done = await toolset.call("visit", {"id": 1}, context())
    assert (done["changed"], done["rows"]) == (1, [{"id": 1}])
    with pytest.raises(EffectFailed, match="duplicate key"):
        await toolset.call("visit", {"id": 1}, context())
    assert place.run("SELECT id FROM visits") == [(1,)]
    (spec,) = toolset.specs
    assert (spec.effect, spec.idempotency) == ("write", "at_most_once")


async def test_a_query_that_is_not_declared_to_write_cannot(place: Place, opened: Open) -> None:
    place.run("CREATE TABLE IF NOT EXISTS visits (id int PRIMARY KEY)")
    query = {"description": "d", "sql": "INSERT INTO visits VALUES (77)"}
    write = {"description": "d", "sql": "DELETE FROM visits WHERE id = 0", "tool": {"effect": "write"}}
    role = place.role("GRANT SELECT ON customers, orders TO {role}", "GRANT ALL ON visits TO {role}")
    toolset = opened(role, queries={"sneak": query, "clean": write})
    with pytest.raises(EffectFailed, match="read-only transaction"):
        await toolset.call("sneak", {}, context())
    assert place.run("SELECT id FROM visits WHERE id = 77") == []


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"url_env": "A", "file": "b"}, "a url_env or a file"),
        ({}, "a url_env or a file"),
        ({"file": "b", "free": True}, "needs tables"),
        (
            {"file": "b", "queries": {"q": {"description": "d", "sql": "SELECT :a"}}},
            "no argument of that name: a",
        ),
        (
            {
                "file": "b",
                "queries": {"q": {"description": "d", "sql": "SELECT 'x:a'::text", "args": {"a": {}}}},
            },
            "an argument that it does not use: a",
        ),
        ({"file": "b", "free": True, "tables": TABLES, "tool": {"effect": "write"}}, "reads, whatever"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(RemitError, match=why):
        declare_sql("shop", SqlToolset.model_validate({"kind": "sql", **keys}))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    file = tmp_path / "shop.db"
    connection = sqlite3.connect(file)
    connection.executescript(
        "CREATE TABLE customers (id TEXT, name TEXT, plan TEXT, iban TEXT);"
        "INSERT INTO customers VALUES ('C-1', 'Ada', 'pro', 'DE1'), ('C-2', 'Bob', 'free', 'DE2');"
        "CREATE TABLE secrets (word TEXT); INSERT INTO secrets VALUES ('s');"
    )
    connection.close()
    return file


async def test_a_file_of_sqlite(shop: Path, opened: Open) -> None:
    tables = {"customers": TABLES["customers"]}
    toolset = opened(None, file=shop.name, tables=tables, free=True, queries={"by_plan": BY_PLAN})
    assert (await ask(toolset, "SELECT * FROM customers LIMIT 1", denied_classes=DENIED))["rows"] == [
        {"id": "C-1", "plan": "pro"}
    ]
    assert (await refusal(toolset, "SELECT name FROM customers", denied_classes=DENIED)).startswith(
        "data.denied"
    )
    assert (await refusal(toolset, "SELECT * FROM secrets")).startswith("args.invalid")
    assert (await refusal(toolset, "DELETE FROM customers")).startswith("args.invalid")
    found = await toolset.call("by_plan", {"plan": "pro"}, context())
    assert found["rows"] == [{"id": "C-1", "plan": "pro", "share": "100%"}]
    masked = opened(None, file=shop.name, tables=tables, free=True, denied_columns="mask")
    found = await ask(masked, "SELECT id, name FROM customers", denied_classes=DENIED, records_max=1)
    assert (found["rows"], found["classes"]) == ([{"id": "C-1", "name": None}], [])
