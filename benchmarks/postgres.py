"""The journal on PostgreSQL: governed calls a second of one process and of two, and what a call takes up.

A call is what the gate commits for one: `admit` with a rate window and money at three scopes that all calls share, an
effect of 2 ms, `complete`. Each worker is a process of its own; the server is one more, its `fsync` on. The floor
is the same number of group commits of one INSERT for each call, in as many processes.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import IO

import psycopg

from benchmarks.figures import Measure, Options, Samples, percentile
from benchmarks.money import RECORD, RUN, SCOPES, pair_of
from remit.adapters.journal.postgres.journal import PostgresJournal, PostgresOptions
from remit.adapters.journal.writer import CommitQueue, Job
from remit.ports.journal import Window
from remit.ports.runs import StartRun
from remit.testing.postgres_server import PostgresServer, postgres_server

EFFECT_S = 0.002
WINDOW = Window(key="k", limit=10**9, span_s=60, rule="rule")
SHAPES = ((1, 1, None), (32, 1, 4_000.0), (128, 1, None), (128, 2, 7_500.0))
"""How many runs at once, in how many processes, and how many calls a second are wanted of them."""


class InsertFloor(CommitQueue):
    """Commits rows in groups, one INSERT a batch, and does nothing else."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute("CREATE TABLE IF NOT EXISTS floor (seq bigserial PRIMARY KEY, body bytea)")
        super().__init__()

    def _commit(self, batch: list[Job]) -> list[None]:
        rows = [job[1] for job in batch]
        self._connection.execute("INSERT INTO floor (body) SELECT unnest(%s::bytea[])", (rows,))
        return [None] * len(batch)

    def _release(self) -> None:
        self._connection.close()

    async def call(self, _: int) -> None:
        """The two commits of one call, with its effect in between."""
        await self.submit(_nothing, RECORD)
        await asyncio.sleep(EFFECT_S)
        await self.submit(_nothing, RECORD)


def _nothing(sql: object, operations: list[object]) -> list[object]:
    return operations


def measure(options: Options) -> list[Measure]:
    """Every shape in turn with its floor, the server's disk being that of temporary files."""
    found = Samples()
    calls = options.pick(1_500, 12_000)
    with postgres_server() as server:
        asyncio.run(_prepare(server.url()))
        done = 0
        for repetition in range(options.pick(2, 4)):
            for tasks, processes, _ in SHAPES:
                count = max(calls // 20, 50) if tasks == 1 else calls
                for kind in ("floor", "journal"):
                    figures = _workers(server, kind, (tasks // processes, count // processes, processes))
                    if repetition:  # the first fills caches and makes plans
                        key = f"{kind}_{tasks}_{processes}"
                        found.add(**{f"{key}_{name}": figure for name, figure in figures.items()})
                done += count
        found.add(bytes=_bytes(server.url()) / done)
    rows = [row for shape in SHAPES for row in _rows(found, *shape)]
    return [
        *rows,
        Measure(
            topic="postgres",
            name="bytes a call, with its indexes",
            unit="bytes",
            samples=found.of("bytes"),
            target=2_600,
            limited_by="two audit records, call, outcome; four indexes",
        ),
    ]


def _rows(found: Samples, tasks: int, processes: int, target: float | None) -> list[Measure]:
    name = f"{tasks} runs, {processes} process{'es' if processes > 1 else ''}"
    key = f"{tasks}_{processes}"
    server = "one batch at a time: the server's function, then the sync, then Python for the next"
    return [
        Measure(
            topic="postgres",
            name=f"{name}, rate",
            unit="calls/s",
            samples=found.of(f"journal_{key}_rate"),
            floor=found.median(f"floor_{key}_rate"),
            target=target,
            better="more",
            limited_by=server if tasks > 1 else "two synced commits and two round trips",
        ),
        *(
            Measure(
                topic="postgres",
                name=f"{name}, admit + complete, {share}",
                unit="ms",
                samples=found.of(f"journal_{key}_{share}"),
                floor=found.median(f"floor_{key}_{share}"),
                limited_by="the commits of the batch before, and one's own",
            )
            for share in ("p50", "p99")
        ),
        Measure(
            topic="postgres",
            name=f"{name}, CPU of the worker a call",
            unit="us CPU",
            samples=found.of(f"journal_{key}_cpu"),
            floor=found.median(f"floor_{key}_cpu"),
            limited_by="Python: the plan of a batch, futures, tasks",
        ),
    ]


async def _prepare(url: str) -> None:
    journal = PostgresJournal.open(PostgresOptions(url=url))
    await journal.create_run(StartRun(run=RUN, audit=RECORD))
    await journal.begin_run(RUN.id, 1, 0)
    await journal.close()


def _bytes(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT sum(pg_total_relation_size(pg_class.oid))::bigint FROM pg_class "
            "JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = 'remit' AND relkind = 'r'"
        ).fetchone()
        assert row is not None
        return int(row[0])


def _workers(server: PostgresServer, kind: str, shape: tuple[int, int, int]) -> dict[str, float]:
    """What `processes` workers do that begin together: calls a second of all, the rest of the worst."""
    tasks, calls, processes = shape
    first = [str(time.time_ns() + index * 10**12) for index in range(processes)]
    command = [sys.executable, "-m", "benchmarks.postgres", server.url(), kind, str(tasks), str(calls)]
    workers = [
        subprocess.Popen([*command, number], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in first
    ]
    for worker in workers:
        _pipe(worker.stdout).readline()
    for worker in workers:
        _pipe(worker.stdin).write("go\n")
        _pipe(worker.stdin).flush()
    said = [json.loads(worker.communicate()[0]) for worker in workers]
    return {
        "rate": sum(one["rate"] for one in said),
        **{name: max(one[name] for one in said) for name in ("p50", "p99", "cpu")},
    }


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


async def _work(url: str, kind: str, shape: tuple[int, int, int]) -> dict[str, float]:
    """Open, say so, wait to be told, and work: `calls` by `tasks` tasks."""
    tasks, calls, first = shape
    store: InsertFloor | PostgresJournal
    if kind == "floor":
        store = InsertFloor(url)
        call: Callable[[int], Awaitable[None]] = store.call
    else:
        store = PostgresJournal.open(PostgresOptions(url=url))
        call = pair_of(store, SCOPES, (WINDOW,), EFFECT_S)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    taken_ns: list[int] = []
    numbers = iter(range(first, first + calls))

    async def lane() -> None:
        for number in numbers:
            began = time.perf_counter_ns()
            await call(number)
            taken_ns.append(time.perf_counter_ns() - began)

    began_ns, cpu_ns = time.perf_counter_ns(), time.process_time_ns()
    await asyncio.gather(*(lane() for _ in range(tasks)))
    cpu_ns = time.process_time_ns() - cpu_ns
    elapsed_ns = time.perf_counter_ns() - began_ns
    await store.close()
    effect_ms = EFFECT_S * 1e3
    return {
        "rate": calls / elapsed_ns * 1e9,
        "p50": percentile(taken_ns, 0.5) / 1e6 - effect_ms,
        "p99": percentile(taken_ns, 0.99) / 1e6 - effect_ms,
        "cpu": cpu_ns / calls / 1e3,
    }


if __name__ == "__main__":
    url, kind, tasks, calls, first = sys.argv[1:]
    print(json.dumps(asyncio.run(_work(url, kind, (int(tasks), int(calls), int(first))))))
