"""What is PostgreSQL's own: lost connections, restarts, many writers, migrations at once, addresses with secrets."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import count as count_from
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.postgres_databases import Databases
from tests.unit.journal.cutting_proxy import CuttingProxy

from remit.adapters.journal.postgres import schema
from remit.adapters.journal.postgres.connection import Address
from remit.adapters.journal.postgres.journal import PostgresJournal, PostgresOptions
from remit.core.errors import RemitError
from remit.core.runs import RunEnd
from remit.ports.journal import Admitted, AuditQuery, Window
from remit.ports.runs import RunEnding, StartRun
from remit.testing.fakes import FakeClock
from remit.testing.journal_values import (
    Z,
    admission_of,
    completion_of,
    ending_of,
    hold_of,
    kind_of,
    run_of,
)
from remit.testing.postgres_server import postgres_server

CLOCK = FakeClock()


def opened(url: str) -> PostgresJournal:
    return PostgresJournal.open(PostgresOptions(url=url))


async def running(url: str, run_id: str = "r") -> PostgresJournal:
    journal = opened(url)
    await journal.create_run(StartRun(run=run_of(run_id), audit=Z))
    assert await journal.begin_run(run_id, 1000, 1)
    return journal


def count(url: str, statement: str) -> int:
    with psycopg.connect(url, options="-c search_path=remit") as connection:
        row = connection.execute(statement.encode()).fetchone()
        assert row is not None
        return int(row[0])


def through(proxy: CuttingProxy, url: str) -> str:
    return make_conninfo(url, host="127.0.0.1", port=proxy.port)


# lost connections


@pytest.mark.parametrize("seed", range(8))
async def test_a_connection_cut_anywhere_leaves_nothing_open(seed: int, database: str) -> None:
    """What is said to have happened has, once; what is said not to have happened has not."""
    random = Random(seed)
    calm = False

    def budget() -> tuple[int | None, bool]:
        if calm:
            return None, True
        towards_server = random.random() < 0.5
        return int(2 ** random.uniform(8, 14 if towards_server else 11)), towards_server

    await (await running(database)).close()
    port = int(conninfo_to_dict(database)["port"] or 0)
    with CuttingProxy(port, budget) as proxy:
        journal = connected(through(proxy, database))
        told: dict[str, str] = {}
        enough = proxy.cuts + 8

        async def call(name: str) -> None:
            action = f"r.1.{name}"
            holds = (hold_of(10**9), hold_of(10**9, "run:r"))
            try:
                # some take the way of what does not fit: an approval that is not there, beside those that do
                approval = "nobody" if random.random() < 0.1 else None
                admission = admission_of(action, CLOCK, holds=holds, amount_nano_usd=7, approval_id=approval)
                told[f"a{name}"] = kind_of(await journal.admit(admission))
                if told[f"a{name}"] == "Admitted":
                    await journal.complete(completion_of(action, CLOCK, cost_nano_usd=5))
                    told[f"c{name}"] = "Settled"
            except RemitError as error:
                told[f"c{name}" if f"a{name}" in told else f"a{name}"] = error.code

        turns = count_from(0)
        while proxy.cuts < enough:
            turn = next(turns)
            await asyncio.gather(*(call(f"{turn}x{index}") for index in range(random.randint(1, 12))))
        calm = True
        await journal.close()
    reader = opened(database)
    calls = {one.action_id.rpartition(".")[2]: one for one in await reader.calls("r")}
    for name, said in told.items():
        call_of = calls.get(name[1:])
        stands = call_of is not None and (name[0] == "a" or call_of.state == "done")
        if said == "journal.unconfirmed":
            continue
        assert stands == (said in ("Admitted", "Settled")), (name, said, seed)
    open_count = sum(one.state == "started" for one in calls.values())
    for balance in await reader.balances():
        done_count = len(calls) - open_count
        assert (balance.spent_nano_usd, balance.held_nano_usd) == (5 * done_count, 7 * open_count)
    assert count(database, "SELECT count(*) FROM audit") == 1 + 2 * len(calls) - open_count
    await reader.close()


def connected(url: str) -> PostgresJournal:
    """A journal, opened through a proxy that may cut the first tries."""
    for _ in range(100):
        try:
            return opened(url)
        except RemitError:
            continue
    raise AssertionError("the proxy lets nobody through")


async def test_an_answer_that_is_lost_is_asked_for_again(database: str) -> None:
    """The commit stands, its answer is cut off: the caller is told what it comes to, with what it ended."""
    await (await running(database)).close()
    port = int(conninfo_to_dict(database)["port"] or 0)
    with AnswerlessProxy(port) as proxy:
        journal = opened(through(proxy, database))
        await journal.admit(admission_of("r.1.a", CLOCK))
        proxy.swallow = True
        settled = await journal.complete(completion_of("r.1.a", CLOCK, ending=ending_of("succeeded")))
        assert settled.run_ended
        assert proxy.cuts == 1
        assert count(database, "SELECT count(*) FROM done") == 1
        await journal.close()


class AnswerlessProxy(CuttingProxy):
    """Once it is to `swallow`, it cuts the next connection that is answered, before the answer has passed."""

    swallow = False

    def __init__(self, port: int) -> None:
        super().__init__(port, lambda: (None, False))

    async def _forward(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, budget: int | None
    ) -> None:
        is_answer = sink.get_extra_info("sockname")[1] == self.port
        while data := await source.read(65_536):
            if is_answer and self.swallow:
                self.swallow = False
                self.cuts += 1
                return
            sink.write(data)
            await sink.drain()


async def test_a_connection_that_was_given_up_commits_nothing_any_more(database: str) -> None:
    journal = await running(database)
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("DELETE FROM remit.writer")
    # it notices, connects anew, and does what was asked
    assert await journal.admit(admission_of("r.1.a", CLOCK)) == Admitted()
    assert count(database, "SELECT count(*) FROM writer") == 1
    await journal.close()
    assert count(database, "SELECT count(*) FROM writer") == 0


async def test_the_server_may_crash_and_come_back_under_load() -> None:
    with postgres_server() as server:
        journal = await running(server.url())
        done: list[str] = []

        async def load(lane: int) -> None:
            for index in range(40):
                action = f"r.{lane}.{index}"
                assert await journal.admit(admission_of(action, CLOCK)) == Admitted()
                await journal.complete(completion_of(action, CLOCK))
                done.append(action)

        loads = [asyncio.ensure_future(load(lane)) for lane in range(8)]
        for how in (signal.SIGQUIT, signal.SIGINT):
            seen = len(done)
            while len(done) < seen + 60:
                await asyncio.sleep(0)
            await asyncio.to_thread(server.stop, how)
            await asyncio.to_thread(server.start)
        await asyncio.gather(*loads)
        calls = await journal.calls("r")
        assert Counter(one.state for one in calls) == {"done": 320}
        assert len(await journal.audit(AuditQuery(limit=1000))) == 641
        await journal.close()


async def test_a_database_that_stays_away_is_unavailable_and_names_no_secret() -> None:
    with postgres_server("fsync=off") as server:
        url = make_conninfo(server.url(), password="hush-hush")
        journal = opened(url)
        server.stop()
        with pytest.raises(RemitError) as refused:
            await journal.run("r")
        assert refused.value.code == "journal.unavailable"
        journal._writer._is_down = True  # so that it does not wait for the server to come back
        with pytest.raises(RemitError) as refused:
            await journal.record(Z)
        assert refused.value.code in ("journal.unavailable", "journal.unconfirmed")
        assert "hush-hush" not in f"{refused.value} {refused.value.__cause__!r} {journal._address!r}"
        with pytest.raises(RemitError) as refused:
            opened(url)
        assert refused.value.code == "journal.unavailable"
        assert "hush-hush" not in str(refused.value)
        await journal.close()


@pytest.mark.parametrize("url", ["hush hush", "postgresql://u:hush@h:port/x?nonsense=1", "postgres:hush"])
def test_an_address_that_is_none_is_not_repeated(url: str) -> None:
    with pytest.raises(RemitError) as refused:
        Address.of(url)
    assert refused.value.code == "usage.invalid"
    assert "hush" not in f"{refused.value}{refused.value.__cause__!r}"
    assert "hush" not in repr(PostgresOptions(url=url, replica_url=url))


# many writers

_WORKER = """
import asyncio, json, random, sys
from remit.adapters.journal.postgres.journal import PostgresJournal, PostgresOptions
from remit.ports.journal import Admitted, Hold, Window
from remit.testing.fakes import FakeClock
from remit.testing.journal_values import admission_of, completion_of

url, name, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
CAP, LIMIT = 10_000, 40

async def main():
    journal, clock, chance = PostgresJournal.open(PostgresOptions(url=url)), FakeClock(), random.Random(seed)
    taken = []
    async def lane(number):
        for index in range(25):
            action, amount = f"r.{number}.{name}{index}", chance.randint(1, 400)
            scopes = chance.sample(["day:a", "day:b", "day:c", "day:d"], chance.randint(1, 4))
            windows = (Window(key="k", limit=LIMIT, span_s=3600, rule="w"),) if chance.random() < 0.3 else ()
            holds = tuple(Hold(scope=scope, cap_nano_usd=CAP, rule="c", alert_percent=80) for scope in scopes)
            verdict = await journal.admit(admission_of(action, clock, holds=holds, amount_nano_usd=amount, windows=windows))
            if isinstance(verdict, Admitted):
                cost = amount if chance.random() < 0.5 else 0
                await journal.complete(completion_of(action, clock, cost_nano_usd=cost))
                taken.append([scopes, cost, bool(windows)])
    await asyncio.gather(*(lane(number) for number in range(12)))
    await journal.close()
    print(json.dumps(taken))

asyncio.run(main())
"""


async def test_caps_and_windows_are_exact_over_processes_and_nobody_deadlocks(database: str) -> None:
    await (await running(database)).close()
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _WORKER, database, name, str(seed), stdout=subprocess.PIPE
        )
        for seed, name in enumerate("pq")
    ]
    said = await asyncio.gather(*(worker.communicate() for worker in workers))
    assert [worker.returncode for worker in workers] == [0, 0]
    taken = [one for printed, _ in said for one in json.loads(printed)]
    spent: Counter[str] = Counter()
    for scopes, cost, _ in taken:
        spent.update(dict.fromkeys(scopes, cost))
    reader = opened(database)
    balances = {one.scope: one for one in await reader.balances("day:")}
    assert {scope: one.spent_nano_usd for scope, one in balances.items()} == dict(spent)
    assert all(one.held_nano_usd == 0 for one in balances.values())
    assert max(spent.values()) <= 10_000
    assert max(spent.values()) > 9_000, "nobody came near the cap: the test tests nothing"
    assert sum(windowed for _, _, windowed in taken) == 40
    assert len(await reader.audit(AuditQuery(kind="alert"))) == sum(one >= 8_000 for one in spent.values())
    await reader.close()
    assert count(database, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


async def test_of_two_that_wait_for_the_same_window_the_second_counts_the_first(database: str) -> None:
    """The clock is read and the events are counted after the lock, or both would find room."""
    journal, other = await running(database), opened(database)
    window = Window(key="k", limit=1, span_s=60, rule="w")
    with psycopg.connect(database, options="-c search_path=remit") as holder:
        holder.execute("SELECT pg_advisory_xact_lock(window_lock('k'))")
        both = [
            one.admit(admission_of(f"r.1.{index}", CLOCK, windows=(window,)))
            for index, one in enumerate((journal, other))
        ]
        with psycopg.connect(database, autocommit=True) as watcher:
            waiting = 0
            while waiting < 2:
                row = watcher.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
                waiting = row[0] if row is not None else 0
                await asyncio.sleep(0)
    verdicts = sorted(kind_of(verdict) for verdict in await asyncio.gather(*both))
    assert verdicts == ["Admitted", "rate"]
    await journal.close()
    await other.close()


async def test_what_fits_is_one_statement(database: str) -> None:
    journal = await running(database)
    await journal.close()
    journal = opened(database)
    window = Window(key="k", limit=10**6, span_s=60, rule="w")
    actions = [f"r.1.{index}" for index in range(50)]
    await asyncio.gather(
        *(
            journal.admit(
                admission_of(one, CLOCK, holds=(hold_of(10**9),), amount_nano_usd=7, windows=(window,))
            )
            for one in actions
        )
    )
    ending = RunEnding(end=RunEnd(status="succeeded", answer="x"), audit=Z)
    last = [None] * 49 + [ending]
    settled = await asyncio.gather(
        *(
            journal.complete(completion_of(one, CLOCK, cost_nano_usd=5, ending=end))
            for one, end in zip(actions, last, strict=True)
        )
    )
    assert [one.run_ended for one in settled] == [False] * 49 + [True]
    session = journal._writer._session
    assert session is not None
    assert session.batch == 2
    await journal.close()


# values and schema


async def test_a_zero_character_is_stored_otherwise_and_ends_no_run_badly(database: str) -> None:
    journal = await running(database)
    await journal.admit(admission_of("r.1.a", CLOCK, kind="release"))
    ending = RunEnding(end=RunEnd(status="succeeded", answer="a\0b"), audit=Z)
    assert (
        await journal.complete(completion_of("r.1.a", CLOCK, result=b'"a\\u0000b"', ending=ending))
    ).run_ended
    record = await journal.run("r")
    assert record is not None
    assert record.end is not None
    assert record.end.answer == "a\ufffdb"
    await journal.close()


async def test_many_workers_may_start_on_an_empty_database_at_once(postgres: Databases) -> None:
    with postgres.empty() as url:
        addresses = [Address.of(url) for _ in range(4)]
        await asyncio.gather(*(asyncio.to_thread(schema.migrate, address) for address in addresses))
        assert count(url, "SELECT count(*) FROM alembic_version") == 1
        await (await running(url)).close()


@pytest.mark.parametrize("table", ["outbox", "refusal"])
def test_a_migration_that_breaks_leaves_nothing_behind(table: str, postgres: Databases) -> None:
    with postgres.empty() as url, psycopg.connect(url, autocommit=True) as other:
        other.execute("CREATE SCHEMA remit")
        # of the first step, of a later one
        other.execute(f"CREATE TABLE remit.{table} (in_the_way int)".encode())
        with pytest.raises(RemitError, match=r"journal\.unavailable"):
            schema.migrate(Address.of(url))
        tables = other.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'remit'").fetchall()
        assert {name for (name,) in tables} <= {table, "alembic_version"}
        other.execute(f"DROP TABLE remit.{table}".encode())
        schema.migrate(Address.of(url))
        with Address.of(url).connect() as connection:
            assert schema.version(connection) == schema.HEAD


async def test_a_newer_schema_is_refused(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE remit.alembic_version SET version_num = '9999'")
    with pytest.raises(RemitError, match=r"journal\.schema"):
        opened(database)


def test_the_newest_migration_is_the_head() -> None:
    folder = Path(schema.__file__).parent
    config = Config()
    config.set_main_option("script_location", str(folder.parent / "migrations"))
    config.set_main_option("version_locations", str(folder / "versions"))
    config.set_main_option("path_separator", "newline")
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD


async def test_every_commit_waits_for_the_disk_whatever_the_server_is_told(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            f'ALTER ROLE postgres IN DATABASE "{connection.info.dbname}" SET synchronous_commit = off'.encode()
        )
    journal: Any = opened(database)
    row = journal._writer._session.connection.execute("SHOW synchronous_commit").fetchone()
    assert row == ("on",)
    await journal.close()


async def test_a_lock_that_nobody_frees_fails_the_batch_and_no_other(database: str) -> None:
    """All who share the batch are told at once, rather than each after a wait of its own."""
    journal = await running(database)
    await journal.admit(admission_of("r.1.first", CLOCK, holds=(hold_of(100),), amount_nano_usd=1))
    session = journal._writer._session
    assert session is not None
    session.connection.execute("SET lock_timeout = '50ms'")
    with psycopg.connect(database) as holder:
        holder.execute("SELECT * FROM remit.balance FOR UPDATE")
        wanted = [
            admission_of(f"r.1.{index}", CLOCK, holds=(hold_of(100),), amount_nano_usd=1)
            for index in range(20)
        ]
        told = await asyncio.gather(*map(journal.admit, wanted), return_exceptions=True)
        assert {getattr(one, "code", one) for one in told} == {"journal.unavailable"}
        # it has waited once, and for a second time only if the batch was not handed over whole
        assert session.batch <= 6
    assert await journal.admit(wanted[0]) == Admitted()
    assert len(await journal.calls("r")) == 2
    await journal.close()


async def test_an_operation_that_is_refused_refuses_no_other_of_its_batch(database: str) -> None:
    journal = await running(database)
    broken = replace(run_of("b"), trace_id=None)
    others = [
        journal.record(Z),
        journal.create_run(StartRun(run=broken, audit=Z)),
        journal.create_run(StartRun(run=run_of("s"), audit=Z)),
    ]
    told = await asyncio.gather(*others, return_exceptions=True)
    assert [type(one).__name__ for one in told] == ["NoneType", "RemitError", "bool"]
    await journal.close()
