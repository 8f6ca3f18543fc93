"""Customers, tickets, declarations, and the toolset as a whole."""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
import sys
from dataclasses import replace

import jsonschema_rs
import pytest

from remit.adapters.tools.support.imports import import_data, read_tables
from remit.adapters.tools.support.settings import SupportSettings
from remit.adapters.tools.support.specs import support_specs
from remit.adapters.tools.support.toolset import open_support
from remit.core.errors import RemitError
from remit.ports.effects import EffectFailed

TICKET = {"customer_id": "C-1042", "issue": "charged twice", "priority": "high"}


async def test_a_customer_is_found(toolset, make_context):
    result = await toolset.call("get_customer", {"customer_id": "C-1042"}, make_context())
    assert result["found"] is True
    assert result["customer"]["plan"] == "team"
    assert set(result["customer"]) >= {"id", "name", "email", "phone", "card_last4", "balance_usd"}


async def test_an_unknown_customer_is_not_found(toolset, make_context):
    assert await toolset.call("get_customer", {"customer_id": "C-99999"}, make_context()) == {"found": False}


async def test_financial_fields_are_left_out_where_denied(toolset, make_context):
    context = make_context(denied_classes=frozenset({"financial"}))
    result = await toolset.call("get_customer", {"customer_id": "C-1042"}, context)
    assert "name" in result["customer"]
    assert not {"card_last4", "balance_usd"} & set(result["customer"])


async def test_a_customer_is_refused_where_pii_is_denied(toolset, make_context):
    context = make_context(denied_classes=frozenset({"pii"}))
    for customer_id in ("C-1042", "C-99999"):  # the refusal does not tell who exists
        with pytest.raises(EffectFailed) as caught:
            await toolset.call("get_customer", {"customer_id": customer_id}, context)
        assert caught.value.code == "data.denied"


async def test_one_key_makes_one_ticket(toolset, make_context):
    tries = await asyncio.gather(
        *(toolset.call("create_ticket", TICKET, make_context(key="run.3.t0")) for _ in range(8))
    )
    assert tries == [{"ticket_id": "T-000001"}] * 8
    other = await toolset.call("create_ticket", TICKET, make_context(key="run.4.t0"))
    assert other == {"ticket_id": "T-000002"}


async def test_one_key_with_other_arguments_is_a_conflict(toolset, make_context):
    await toolset.call("create_ticket", TICKET, make_context())
    with pytest.raises(EffectFailed) as caught:
        await toolset.call("create_ticket", {**TICKET, "priority": "low"}, make_context())
    assert caught.value.code == "action.conflict"
    assert await toolset.call("create_ticket", TICKET, make_context()) == {"ticket_id": "T-000001"}


async def test_tickets_outlive_the_process(settings, clock, make_context):
    first = open_support(settings, clock)
    made = await first.call("create_ticket", TICKET, make_context())
    # not closed: as after a crash
    second = open_support(settings, clock)
    assert await second.call("create_ticket", TICKET, make_context()) == made
    assert await second.call("create_ticket", TICKET, make_context(key="k2")) == {"ticket_id": "T-000002"}
    await first.close()
    await second.close()


async def test_a_broken_ticket_store_makes_no_ticket(toolset, settings, make_context):
    toolset._parts.tickets._connection.execute("DROP TABLE tickets")
    with pytest.raises(EffectFailed) as caught:
        await toolset.call("create_ticket", TICKET, make_context())
    assert caught.value.code == "tool.failed"


async def test_without_folders_the_toolset_is_empty_and_says_so(tmp_path, clock, make_context):
    settings = SupportSettings(kb=tmp_path / "no-kb", data=tmp_path / "no-data", home=tmp_path / "home")
    toolset = open_support(settings, clock)
    assert len(toolset.notices) == 2
    assert "no-kb" in toolset.notices[0]
    empty = {"results": [], "total": 0}
    assert await toolset.call("search_kb", {"query": "refund"}, make_context()) == empty
    assert await toolset.call("get_customer", {"customer_id": "C-1042"}, make_context()) == {"found": False}
    with pytest.raises(EffectFailed, match="no such table"):
        await toolset.call("run_sql_query", {"sql": "select 1 from main.customers"}, make_context())
    assert (await toolset.call("run_sql_query", {"sql": "select 1 a"}, make_context()))["rows"] == [{"a": 1}]
    assert await toolset.call("create_ticket", TICKET, make_context()) == {"ticket_id": "T-000001"}
    await toolset.close()


async def test_the_full_example_has_no_notices(toolset):
    assert toolset.notices == ()


async def test_an_unknown_tool_and_a_closed_toolset_are_refused(toolset, make_context):
    with pytest.raises(EffectFailed) as caught:
        await toolset.call("drop_everything", {}, make_context())
    assert caught.value.code == "tool.unknown"
    await toolset.close()
    await toolset.close()
    with pytest.raises(EffectFailed, match="closed"):
        await toolset.call("search_kb", {"query": "x"}, make_context())


async def test_no_time_means_nothing_is_done(toolset, make_context):
    with pytest.raises(EffectFailed) as caught:
        await toolset.call("create_ticket", TICKET, make_context(timeout_s=0.0))
    assert caught.value.code == "tool.timeout"
    assert await toolset.call("create_ticket", TICKET, make_context(key="k2")) == {"ticket_id": "T-000001"}


def test_declarations_are_careful_and_complete(settings):
    specs = {spec.name: spec for spec in support_specs()}
    assert list(specs) == ["search_kb", "get_customer", "create_ticket", "send_email", "run_sql_query"]
    assert specs["send_email"].idempotency == "at_most_once"
    assert specs["send_email"].effect == specs["create_ticket"].effect == "write"
    assert (specs["create_ticket"].rate_group, specs["create_ticket"].rate_key) == ("tickets", "customer_id")
    assert specs["get_customer"].classes == ("pii",)
    assert specs["get_customer"].field_classes["card_last4"] == "financial"
    assert specs["search_kb"].record_class_field == "visibility"
    described = support_specs(read_tables(settings.data))[4]
    assert "email text [pii]" in described.description
    assert described.field_classes["email"] == "pii"
    assert described.field_classes["amount_usd"] == "financial"


LONG = "a" * 64
SCHEMA_CASES = [
    ("search_kb", {"query": "x"}, True),
    ("search_kb", {"query": "x" * 500}, True),
    ("search_kb", {"query": "x" * 501}, False),
    ("search_kb", {"query": ""}, False),
    ("search_kb", {}, False),
    ("search_kb", {"query": "x", "more": 1}, False),
    ("get_customer", {"customer_id": "C-1042"}, True),
    ("get_customer", {"customer_id": "C-12345678"}, True),
    ("get_customer", {"customer_id": "C-123"}, False),
    ("get_customer", {"customer_id": "C-123456789"}, False),
    ("get_customer", {"customer_id": "C-1042\n"}, False),
    ("get_customer", {"customer_id": "xC-1042"}, False),
    ("create_ticket", TICKET, True),
    ("create_ticket", {**TICKET, "issue": "x" * 2000}, True),
    ("create_ticket", {**TICKET, "issue": "x" * 2001}, False),
    ("create_ticket", {**TICKET, "issue": ""}, False),
    ("create_ticket", {**TICKET, "priority": "immediate"}, False),
    ("run_sql_query", {"sql": "x" * 4000}, True),
    ("run_sql_query", {"sql": "x" * 4001}, False),
] + [
    ("send_email", {"to": to, "subject": "s", "body": "b"}, good)
    for to, good in [
        ("a@example.com", True),
        ("a.b+c_d-e@mail.example.co.uk", True),
        ("a%evil.example@example.com", False),  # which a relay may send on to evil.example
        ("a@example", False),
        ("a@example.com, b@example.com", False),
        ("a@example.com\n", False),
        ("a@example.com\r\nBcc: b@example.com", False),
        ('"a"@example.com', False),
        ("A <a@example.com>", False),
        ("@example.com", False),
        ("a@-example.com", False),
        ("a@example..com", False),
        (f"{LONG}@example.com", True),
        (f"a{LONG}@example.com", False),
        ("ä@example.com", False),
        (f"a@{'.'.join(['b' * 60] * 5)}.com", False),
    ]
]


@pytest.mark.parametrize(("tool", "args", "good"), SCHEMA_CASES)
def test_schemas_take_what_fits_and_nothing_else(tool, args, good):
    (spec,) = [spec for spec in support_specs() if spec.name == tool]
    assert jsonschema_rs.validator_for(dict(spec.args_schema)).is_valid(args) is good


@pytest.mark.parametrize("char", ["\n", "\r", "\0", "\x85", "\u2028", "\x7f", "\t"])
def test_a_subject_is_one_line(char):
    schema = support_specs()[3].args_schema
    args = {"to": "a@example.com", "subject": f"a{char}b", "body": "b"}
    assert not jsonschema_rs.validator_for(dict(schema)).is_valid(args)


def test_declaring_opens_nothing_heavy():
    code = (
        "import sys; from remit.adapters.tools.support.specs import support_specs; support_specs(); "
        "print([name for name in ('sqlite3', 'smtplib', 'yaml', 'pydantic', 'email') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def folder_with(tmp_path, declaration, **files):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "tables.yaml").write_text(json.dumps(declaration))
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def one_table(**columns):
    return {"tables": {"items": {"file": "items.csv", "primary_key": "id", "columns": columns}}}


TEXT = {"type": "text", "class": "public"}


@pytest.mark.parametrize(
    ("declaration", "content"),
    [
        (one_table(id={"type": "text"}), "id\n1\n"),  # no class
        (one_table(id={"type": "text", "class": "secret"}), "id\n1\n"),
        (one_table(id={"type": "blob", "class": "public"}), "id\n1\n"),
        (one_table(other=TEXT), "other\n1\n"),  # no primary key
        (one_table(id=TEXT, **{'x" TEXT); --': TEXT}), "id\n1\n"),
        (one_table(id=TEXT), "id,more\n1,2\n"),
        (one_table(id=TEXT, more=TEXT), "id\n1\n"),
        (one_table(id=TEXT), "id\n1,2\n"),
        (one_table(id=TEXT), "id\n1\n1\n"),  # twice
        (one_table(id=TEXT), "id,x\n"),
        (one_table(id=TEXT, n={"type": "integer", "class": "public"}), "id,n\n1,x\n"),
        (one_table(id=TEXT, n={"type": "decimal", "class": "public"}), "id,n\n1,NaN\n"),
        (one_table(id=TEXT), "id\n" + "x" * 4001),
        ({"tables": {"remit_import": one_table(id=TEXT)["tables"]["items"]}}, "id\n"),
        ({"tables": {"items": {**one_table(id=TEXT)["tables"]["items"], "file": "../items.csv"}}}, "id\n"),
        ({"table": {}}, "id\n"),
        ([], "id\n"),
    ],
)
def test_data_that_does_not_fit_fails_the_start_and_keeps_the_old(tmp_path, declaration, content):
    folder = folder_with(tmp_path, declaration, items=content)
    stores = tmp_path / "stores"
    good = tmp_path / "good"
    good.mkdir()
    before = import_data(folder_with(good, one_table(id=TEXT), items="id\n1\n"), stores).path.read_bytes()
    with pytest.raises(RemitError) as caught:
        import_data(folder, stores)
    assert caught.value.code == "toolset.unavailable"
    assert (stores / "customers.db").read_bytes() == before
    assert [path.name for path in stores.iterdir()] == ["customers.db"]


def test_a_sender_that_is_no_address_fails_the_start(settings, clock):
    with pytest.raises(RemitError, match="sender"):
        open_support(replace(settings, sender="a@example.com\r\nBcc: x@example.com"), clock)


def test_the_example_is_large_plausible_and_made_by_its_script(settings, tmp_path):
    pages = list(settings.kb.glob("*.md"))
    assert len(pages) >= 32
    internal = [page for page in pages if "visibility: internal" in page.read_text()]
    assert 5 <= len(internal) <= 6
    for page in pages:
        assert 150 <= len(page.read_text().split("---", 2)[2].split()) <= 420, page.name
    copy = tmp_path / "data"
    copy.mkdir()
    (copy / "generate.py").write_bytes((settings.data / "generate.py").read_bytes())
    subprocess.run([sys.executable, str(copy / "generate.py")], check=True)
    for made in copy.glob("*.csv"):
        assert made.read_bytes() == (settings.data / made.name).read_bytes()
        assert made.stat().st_size < 100_000
    with (settings.data / "customers.csv").open() as file:
        customers = list(csv.DictReader(file))
    assert len(customers) == 300
    for row in customers:
        assert row["email"].endswith(("@example.com", "@example.org"))
        assert "-555-01" in row["phone"]
