"""Read-only SQL: what the data allows works, denied classes stay unread, nothing writes or runs on."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from remit.adapters.tools.deadline import Deadline
from remit.adapters.tools.support.imports import CustomerData, import_data
from remit.adapters.tools.support.sql import run_query
from remit.adapters.tools.support.toolset import open_support
from remit.ports.effects import EffectFailed

DENIED = frozenset({"pii", "financial"})


async def query(toolset, make_context, sql, **constraints):
    return await toolset.call("run_sql_query", {"sql": sql}, make_context(**constraints))


async def test_count_and_group_work_where_personal_data_is_denied(toolset, make_context):
    result = await query(toolset, make_context, "select count(*) n from customers", denied_classes=DENIED)
    assert result["rows"] == [{"n": 300}]
    assert result["classes"] == []
    result = await query(
        toolset,
        make_context,
        "WITH d AS (SELECT customer_id, charged_on, plan, count(*) AS times FROM charges WHERE status = 'paid' "
        "GROUP BY 1, 2, 3 HAVING count(*) > 1) SELECT c.id, d.times FROM d JOIN customers c ON c.id = d.customer_id "
        "ORDER BY 1",
        denied_classes=DENIED,
    )
    assert [row["id"] for row in result["rows"]] == ["C-1042", "C-1107", "C-1233"]


async def test_permitted_classes_are_named_in_the_result(toolset, make_context):
    result = await query(
        toolset, make_context, "select email as x, 1 from customers where balance_usd > 1 limit 1"
    )
    assert result["classes"] == ["pii", "financial"]
    assert result["columns"] == ["x", "1"]


@pytest.mark.parametrize(
    "sql",
    [
        "select email from customers",
        "SELECT * FROM customers",
        "select c.* from customers as c",
        'select "email" from customers',
        "select [email] from main.customers",
        "select EMAIL AS plan from Customers",
        "select x from (select email as x from customers)",
        "select count(*) from (select * from customers)",
        "with t as (select * from customers) select count(*) from t",
        "with t(a,b,c,d,e,f,g,h,i,j) as (select * from customers) select a from t",
        "select min(email) from customers",
        "select count(distinct email) from customers",
        "select plan from customers group by email",
        "select plan from customers order by email",
        "select count(*) from customers where email like 'a%'",
        "select plan from customers group by plan having max(email) > 'm'",
        "select plan, row_number() over (order by email) from customers",
        "select 1 where exists (select 1 from customers where email = 'x')",
        "select (select email from customers limit 1)",
        "select plan from customers union select email from customers",
        "select case when card_last4 > '5' then 1 else 0 end from customers",
        "select a.id from customers a join customers b on a.email = b.email",
        "select count(*) filter (where phone is null) from customers",
        "values ((select name from customers limit 1))",
        "select sum(amount_usd) from charges",
        "with recursive r(x) as (select email from customers union select x from r) select count(*) from r",
        "select 1 from charges where customer_id in (select id from customers where balance_usd > 0)",
        "/* email */ select -- \n name from customers",
    ],
)
async def test_no_detour_reaches_a_denied_column(toolset, make_context, sql):
    with pytest.raises(EffectFailed) as caught:
        await query(toolset, make_context, sql, denied_classes=DENIED)
    assert caught.value.code == "data.denied"
    assert "not permitted for this agent" in caught.value.message


async def test_the_refusal_names_column_class_and_what_is_permitted(toolset, make_context):
    with pytest.raises(
        EffectFailed, match=r"^customers.email is pii: not permitted for this agent"
    ) as caught:
        await query(toolset, make_context, "select email from customers", denied_classes=DENIED)
    assert "permitted columns of customers: id, country, plan" in caught.value.message


@pytest.mark.parametrize("denied", ["pii", "financial", "public"])
async def test_each_class_is_denied_by_itself(toolset, make_context, denied):
    column = {"pii": "email", "financial": "card_last4", "public": "plan"}[denied]
    others = {"email", "card_last4", "plan"} - {column}
    with pytest.raises(EffectFailed) as caught:
        await query(
            toolset, make_context, f"select {column} from customers", denied_classes=frozenset({denied})
        )
    assert caught.value.code == "data.denied"
    result = await query(
        toolset,
        make_context,
        f"select {', '.join(others)} from customers",
        denied_classes=frozenset({denied}),
    )
    assert result["row_count"] == 300


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) from customers join (select 'x' as email) using (email)",
        "select count(*) from customers NATURAL join (select 'x' as email)",
        "select count(*) from customers full join (select 'x' as email)/**/uSiNg/**/(email)",
        "select count(*) from customers join (select 'x' as email)using(email)",
    ],
)
async def test_joins_that_compare_columns_unseen_are_refused(toolset, make_context, sql):
    """Regression: SQLite's authorizer is not asked about the columns of USING and NATURAL."""
    with pytest.raises(EffectFailed, match="join with JOIN") as caught:
        await query(toolset, make_context, sql, denied_classes=DENIED)
    assert caught.value.code == "args.invalid"


@pytest.mark.parametrize(
    "sql",
    [
        "insert into customers(id) values ('C-9')",
        "with x as (select 1) delete from customers",
        "with x as (select 1) insert into customers(id) select 1",
        "update customers set plan = 'free'",
        "drop table customers",
        "create table t(x)",
        "create temp table t(x)",
        "create temp view customers as select 1",
        "vacuum",
        "vacuum into 'copy.db'",
        "attach 'other.db' as o",
        "pragma query_only = 0",
        "pragma table_info(customers)",
        "select * from pragma_table_info('customers')",
        "select * from sqlite_master",
        "select * from sqlite_schema",
        "select * from remit_import",
        "select * from dbstat",
        "select * from json_each('[1]')",
        "select load_extension('x')",
        "select readfile('/etc/passwd')",
        "select fts3_tokenizer('simple')",
        "select rowid from customers",
        "select randomblob(10)",
        "select zeroblob(10)",
        "select printf('%d', 1)",
        "select 1; select 2",
        "select 1; drop table customers",
        "begin",
        "explain select 1",
        "reindex",
        "analyze",
        "",
        "   -- nothing",
        "\ufeffselect 1",
        "select 1\0",
        "select '\ud800'",
    ],
)
async def test_anything_but_one_plain_select_is_refused(toolset, settings, make_context, sql):
    before = (settings.stores / "customers.db").read_bytes()
    with pytest.raises(EffectFailed) as caught:
        await query(toolset, make_context, sql)
    assert caught.value.code in ("args.invalid", "tool.failed")
    assert (settings.stores / "customers.db").read_bytes() == before
    assert not list(settings.stores.glob("*copy*"))


@pytest.mark.parametrize(
    "sql",
    [
        "select zeroblob(200000000)",
        "select randomblob(200000000)",
        "select printf('%.*c', 200000000, 'x')",
        "select replace(group_concat(id), 'C', group_concat(id)) from customers, charges",
        "with recursive r(x) as (select 'aaaaaaaa' union all select x || x from r) select max(length(x)) from r",
        "with recursive r(n) as (select 1 union all select n + 1 from r) select group_concat(n) from r",
        "with recursive r(n) as (select 1 union all select n + 1 from r) select count(*) from r",
        "with recursive r(n) as (select 1 union all select n + 1 from r) select n from r order by n desc",
        "select count(*) from charges a, charges b, charges c, charges d",
        "select count(distinct a.charge_id || b.charge_id || c.charge_id) from charges a, charges b, charges c",
        "with recursive r(n, s) as (select 1, replace('0000000000', '0', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa') "
        "union all select n + 1, s from r) select count(*) from (select distinct n || s || s || s || s from r)",
    ],
)
async def test_bulk_is_refused_or_cut_at_the_deadline(toolset, make_context, sql):
    began = time.monotonic()
    with pytest.raises(EffectFailed) as caught:
        await query(toolset, make_context, sql, timeout_s=0.4)
    assert time.monotonic() - began < 2.0
    assert caught.value.code in ("tool.timeout", "tool.failed", "args.invalid")


MEMORY_PROBE = """
import resource, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import EXAMPLE, SystemClock
from remit.adapters.tools.deadline import Deadline
from remit.adapters.tools.support.imports import import_data
from remit.adapters.tools.support.sql import run_query
from remit.core.decisions import Constraints
from remit.ports.effects import EffectFailed
data = import_data(EXAMPLE / "data", Path(sys.argv[2]))
wide = "replace('0000000000', '0', '" + "a" * 3000 + "')"
sql = f"with recursive r(n) as (select 1 union all select n + 1 from r) "
sql += f"select count(*) from (select distinct n || {wide} from r)"
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    run_query(data, sql, Constraints(timeout_s=20, output_bytes_max=9999), Deadline(SystemClock(), 20))
except EffectFailed as error:
    print(error.code, error.message, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the probe reads peak memory in Linux's unit")
def test_a_query_cannot_take_all_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_PROBE, str(Path(__file__).parent), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("tool.failed the query takes too much memory")
    assert int(done.stdout.split()[-1]) < 320  # MB


async def test_a_doubling_chain_of_ctes_is_refused_before_it_is_compiled(toolset, make_context):
    chain = ["c0 as (select 1 x)"]
    chain += [f'c{n + 1}/**/as/**/(select 1 x from c{n} a, "C{n}" b)' for n in range(30)]
    began = time.monotonic()
    with pytest.raises(EffectFailed, match="too often"):
        await query(toolset, make_context, f"with {', '.join(chain)} select count(*) from c30")
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize(
    ("name", "columns"),
    [("'c{}'", ""), ("c{}", '("(")'), ("c{}", "(')')"), ("c{}", "(' as ')"), ("'as{}'", "")],
)
async def test_a_doubling_chain_cannot_hide_its_names(toolset, make_context, name, columns):
    chain = [f"{name.format(0)}{columns} as (select 1)"]
    for n in range(18):
        above = name.format(n)
        chain.append(f"{name.format(n + 1)}{columns} as (select 1 from {above} a, {above} b)")
    with pytest.raises(EffectFailed, match="too often"):
        await query(toolset, make_context, f"with {', '.join(chain)} select count(*) from {name.format(18)}")


async def test_costly_single_steps_end_near_the_deadline(toolset, make_context):
    hay = "replace('0000000000', '0', '" + "a" * 1500 + "')"
    began = time.monotonic()
    with pytest.raises(EffectFailed):
        await query(
            toolset,
            make_context,
            f"select sum(instr({hay}||a.id, substr({hay}, 1, 7500) || 'b')) from charges a, charges b",
            timeout_s=0.4,
        )
    assert time.monotonic() - began < 2.5


async def test_rows_are_cut_at_records_max_and_bytes(toolset, make_context):
    for limit in (1, 49, 50):
        result = await query(toolset, make_context, "select id from customers", records_max=limit)
        assert (result["row_count"], result["truncated"]) == (limit, True)
    result = await query(toolset, make_context, "select id from customers limit 50", records_max=50)
    assert (result["row_count"], result["truncated"]) == (50, False)
    result = await query(toolset, make_context, "select id from customers", records_max=0)
    assert (result["rows"], result["truncated"]) == ([], True)
    result = await query(toolset, make_context, "select * from customers", output_bytes_max=8192)
    assert result["truncated"]
    assert 20 < result["row_count"] < 100
    assert len(json.dumps(result)) <= 8192
    result = await query(toolset, make_context, "select a.id from charges, customers a")
    assert (result["row_count"], result["truncated"]) == (1000, True)


async def test_odd_values_become_plain_json(toolset, make_context):
    result = await query(
        toolset,
        make_context,
        "select 1e999 a, -1e999 b, x'00ff' c, null d, 1 a, cast(x'ff41' as text) e, 1.5 f",
    )
    assert result["rows"] == [
        {"a": "Infinity", "b": "-Infinity", "c": "x'00ff'", "d": None, "a_2": 1, "e": "\ufffdA", "f": 1.5}
    ]


async def test_cancelling_interrupts_the_query(toolset, make_context):
    task = asyncio.ensure_future(
        query(toolset, make_context, "select count(*) from charges a, charges b, charges c", timeout_s=60.0)
    )
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    began = time.monotonic()
    await toolset.close()  # waits for the threads
    assert time.monotonic() - began < 1.0


async def test_the_event_loop_runs_on_during_a_query(toolset, make_context):
    task = asyncio.ensure_future(
        query(toolset, make_context, "select count(*) from charges a, charges b, charges c", timeout_s=0.3)
    )
    turns = 0
    while not task.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert task.exception() is not None
    assert turns > 10


def corpus(payloads: Path) -> list[str]:
    with gzip.open(payloads / "sqlglot_sql_corpus.jsonl.gz", "rt") as lines:
        statements = [json.loads(line)["s"] for line in lines if line.strip()]
    suite = json.loads(gzip.decompress((payloads / "patt_payloads.json.gz").read_bytes()))
    for entry in suite["patt_sqli"]:
        statements += [entry["s"], f"select plan from customers where id = '{entry['s']}'"]
        statements.append(f"select plan from customers where id = {entry['s']}")
    return statements


@pytest.fixture
def twins(settings, tmp_path) -> tuple[CustomerData, CustomerData]:
    """The same data twice, except that every value of a denied class differs."""
    other = tmp_path / "twin"
    shutil.copytree(settings.data, other)
    lines = (other / "customers.csv").read_text().splitlines()
    changed = [lines[0]]
    for line in lines[1:]:
        cells = line.split(",")
        cells[1:4] = [f"N{cells[0]}", f"{cells[0]}@other.example.com", "+1-206-555-0100"]
        cells[8:] = ["0000", "999.00"]
        changed.append(",".join(cells))
    (other / "customers.csv").write_text("\n".join(changed) + "\n")
    return import_data(settings.data, tmp_path / "a"), import_data(other, tmp_path / "b")


def answer(data: CustomerData, sql: str, context, clock, timeout_s: float = 1.0):
    try:
        return run_query(data, sql, context.constraints, Deadline(clock, timeout_s))
    except EffectFailed as error:
        return error.code, error.message


def test_public_corpora_write_nothing_and_end_in_time(settings, tmp_path, clock, payloads, make_context):
    data = import_data(settings.data, tmp_path / "a")
    before = hashlib.sha256(data.path.read_bytes()).hexdigest()
    context, slowest, done = make_context(), 0.0, 0
    statements = corpus(payloads)
    for sql in statements:
        began = time.monotonic()
        done += isinstance(answer(data, sql, context, clock), dict)
        slowest = max(slowest, time.monotonic() - began)
    assert len(statements) > 3000
    assert done > 20  # harmless ones run
    assert slowest < 2.5  # the deadline is 1.0
    assert hashlib.sha256(data.path.read_bytes()).hexdigest() == before
    assert [file.name for file in data.path.parent.iterdir()] == ["customers.db"]


def test_public_corpora_learn_nothing_of_denied_columns(twins, clock, payloads, make_context):
    """Non-interference: an answer never depends on a value of a denied class."""
    context = make_context(denied_classes=DENIED)
    for sql in corpus(payloads):
        assert answer(twins[0], sql, context, clock) == answer(twins[1], sql, context, clock), sql


COLUMNS = [
    "id",
    "name",
    "email",
    "phone",
    "plan",
    "status",
    "card_last4",
    "balance_usd",
    "*",
    "c.*",
    "email x",
]
FROMS = [
    "customers c",
    "(select * from customers) c",
    "(select email, plan id from customers) c",
    "customers c join (select 'C-1042@other.example.com' email) d on 1",
    "customers c join (select 'NC-1042' name, 'C-1042@other.example.com' email) d using (email)",
    "customers c natural join (select '0000' card_last4)",
    "customers c left join charges on customer_id = c.id",
]
TAILS = [
    "",
    "where email > 'm'",
    "group by email",
    "order by name limit 3",
    "where id = 'C-1042'",
    "group by 1",
]
WRAPS = [
    "{}",
    "count(*)",
    "max({})",
    "length({})",
    "count(distinct {})",
    "group_concat({})",
    "sum({}) over ()",
]


@given(
    column=st.sampled_from(COLUMNS),
    wrap=st.sampled_from(WRAPS),
    source=st.sampled_from(FROMS),
    tail=st.sampled_from(TAILS),
    cte=st.booleans(),
)
@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_composed_queries_learn_nothing_of_denied_columns(
    twins, clock, make_context, column, wrap, source, tail, cte
):
    sql = f"select {wrap.format(column)} from {source} {tail}"
    if cte:
        sql = f"with q as ({sql}) select * from q"
    context = make_context(denied_classes=DENIED)
    assert answer(twins[0], sql, context, clock) == answer(twins[1], sql, context, clock)


@given(sql=st.text(max_size=200))
@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_is_answered_or_refused(twins, clock, make_context, sql):
    result = answer(twins[0], sql, make_context(), clock)
    assert isinstance(result, dict) or result[0] in ("args.invalid", "tool.failed", "data.denied")


async def test_changed_data_are_imported_and_running_readers_fail_closed(
    settings, tmp_path, clock, make_context
):
    folder = tmp_path / "data"
    shutil.copytree(settings.data, folder)
    changed = type(settings)(kb=settings.kb, data=folder, home=settings.home)
    first = open_support(changed, clock)
    stamp = (settings.stores / "customers.db").stat().st_mtime_ns
    second = open_support(changed, clock)
    assert (settings.stores / "customers.db").stat().st_mtime_ns == stamp  # nothing changed, nothing written
    declaration = (
        (folder / "tables.yaml")
        .read_text()
        .replace("plan: {type: text, class: public}", "plan: {type: text, class: pii}")
    )
    (folder / "tables.yaml").write_text(declaration)
    third = open_support(changed, clock)
    with pytest.raises(EffectFailed, match="restart"):
        await query(first, make_context, "select plan from charges", denied_classes=DENIED)
    with pytest.raises(EffectFailed, match=r"charges\.plan is pii"):
        await query(third, make_context, "select plan from charges", denied_classes=DENIED)
    for each in (first, second, third):
        await each.close()
