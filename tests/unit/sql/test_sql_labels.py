"""Queries of ours: what they return under another name says of which class it is."""

from __future__ import annotations

from typing import Any

import pytest

from remit.adapters.tools.sql.labels import unlabelled
from remit.adapters.tools.sql.specs import declare_sql
from remit.governance.toolsets import SqlToolset

TABLES = {
    "customers": {"id": "public", "name": "pii", "email": "internal", "iban": "financial", "plan": "public"},
    "crm.orders": {"id": "public", "customer_id": "public", "name": "public", "total": "public"},
}


def found(sql: str, **tool: Any) -> tuple[str, str] | None:
    given = {"description": "d", "sql": sql, "tool": tool}
    if ":who" in sql:
        given["args"] = {"who": {"type": "string"}}
    section = SqlToolset.model_validate(
        {"kind": "sql", "url_env": "U", "tables": TABLES, "queries": {"q": given}}
    )
    (spec,) = declare_sql("shop", section).specs
    return unlabelled(section.queries["q"], section, spec)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id, name, email, iban FROM customers WHERE name = :who",
        "SELECT c.*, o.total FROM customers c JOIN crm.orders o ON o.customer_id = c.id",
        "SELECT plan, count(*) FROM customers WHERE name = :who GROUP BY plan",
        "WITH a AS (SELECT id, plan AS p FROM customers) SELECT p, id AS number FROM a",
        "SELECT name FROM customers UNION SELECT name FROM crm.orders",
        "SELECT email::text FROM customers",
        "SELECT other FROM elsewhere",
        "UPDATE crm.orders SET total = 1 WHERE name = :who RETURNING id, total",
        "DELETE FROM crm.orders WHERE name = :who",
    ],
)
def test_what_keeps_its_name_says_enough(sql: str) -> None:
    assert found(sql) is None


@pytest.mark.parametrize(
    ("sql", "name", "data_class"),
    [
        ("SELECT name AS who FROM customers", "who", "pii"),
        ("SELECT iban AS plan FROM customers", "plan", "financial"),
        ("SELECT name AS email FROM customers", "email", "pii"),
        ("SELECT name || iban AS x FROM customers", "x", "pii"),
        ("SELECT lower(name) FROM customers", "lower", "pii"),
        ("SELECT max(iban) FROM customers", "max", "financial"),
        ("SELECT name, name FROM customers", "name_2", "pii"),
        ("SELECT c FROM customers c", "c", "internal"),
        ("SELECT to_json(customers) AS j FROM customers", "j", "internal"),
        ("SELECT w FROM (SELECT name AS w FROM customers) AS s", "w", "pii"),
        (
            "WITH a AS (SELECT name AS w FROM customers), b AS (SELECT w AS v FROM a) SELECT v FROM b",
            "v",
            "pii",
        ),
        ("WITH a (w) AS (SELECT name FROM customers) SELECT w FROM a", "w", "pii"),
        ("SELECT * FROM (SELECT name AS w, plan FROM customers) AS s", "w", "pii"),
        ("SELECT s FROM (SELECT name FROM customers) AS s", "s", "pii"),
        ("SELECT t.a FROM customers AS t (i, a)", "a", "internal"),
        ("SELECT id FROM crm.orders UNION ALL SELECT iban FROM customers", "id", "financial"),
        ("SELECT (SELECT name FROM customers LIMIT 1) AS one", "one", "pii"),
        ("SELECT CASE WHEN iban = 'x' THEN 1 END AS guess FROM customers", "guess", "financial"),
        ("UPDATE customers SET plan = 'x' WHERE id = :who RETURNING name AS old", "old", "pii"),
        ('SELECT "name" AS "Who" FROM customers', "who", "pii"),
        ("SELECT array_agg(DISTINCT NAME) AS everyone FROM CUSTOMERS", "everyone", "pii"),
        ("SELECT jsonb_build_object('a', iban) AS o FROM customers", "o", "financial"),
        ("SELECT row_number() OVER (ORDER BY name) AS place FROM customers", "place", "pii"),
    ],
)
def test_what_is_given_another_name_has_to_say_its_class(sql: str, name: str, data_class: str) -> None:
    assert found(sql) == (name, data_class)
    assert found(sql, classes=["pii", "internal", "financial"]) is None


def test_the_file_has_the_last_word_on_a_name() -> None:
    sql = "SELECT count(name) AS people, plan FROM customers GROUP BY plan"
    assert found(sql) == ("people", "pii")
    assert found(sql, field_classes={"people": "public"}) is None


def test_what_cannot_be_read_is_said() -> None:
    for sql in ("SELECT FROM WHERE (", "SELECT 1; SELECT 2", "CALL tidy_up()"):
        with pytest.raises(ValueError, match="cannot be read"):
            found(sql)
