"""The same job by Remit and by a peer, on SQLite and on PostgreSQL, each in processes of its own, taking turns.

The PostgreSQL server is this script's own, with its `fsync` on, and every process has an empty database there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from benchmarks.figures import Measure, Options, Samples
from benchmarks.peers.environment import ROOT, PeerUnavailable, python_of
from remit.testing.postgres_server import PostgresServer, postgres_server

PROCESS_S_MAX = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A system at the job. `scale`: how many runs it gets, in those of the slowest.

    `beside`: the one that its figures are compared with.
    """

    key: str
    label: str
    module: str
    scale: int
    peer: str | None = None
    on_postgres: bool = False
    beside: str | None = None

    def python(self) -> Path:
        """The Python that has it. Raises: PeerUnavailable."""
        return Path(sys.executable) if self.peer is None else python_of(f"peers-{self.peer}")


REMIT = Contestant(key="remit", label="Remit", module="benchmarks.remit_system", scale=5)
LANGGRAPH = Contestant(
    key="langgraph",
    label="LangGraph + SQLite saver",
    module="benchmarks.peers.langgraph_system",
    scale=1,
    peer="langgraph",
    beside="remit",
)
REMIT_POSTGRES = replace(REMIT, key="remit_pg", label="Remit on PostgreSQL", on_postgres=True)
LANGGRAPH_POSTGRES = replace(
    LANGGRAPH, key="langgraph_pg", label="LangGraph + PostgreSQL saver", on_postgres=True, beside="remit_pg"
)
ON_SQLITE, ON_POSTGRES = (REMIT, LANGGRAPH), (REMIT_POSTGRES, LANGGRAPH_POSTGRES)

WARMING = 200
"""Runs before memory is measured: a worker's heap is no new one, and what it grows by is what a run needs."""

FIGURES = (
    (
        "ms_run",
        "one at a time",
        "ms/run",
        10.0,
        "12 governed calls, each two synced commits one after the other",
    ),
    ("cpu_ms_run", "one at a time, CPU", "ms/run", None, "Python: gate, SQL and telemetry of 12 calls"),
    ("runs_s", "100 at once", "runs/s", 400.0, "the processor: commits are shared, the interpreter is not"),
    ("lag_p99_ms", "lag p99, 100 at once, 50 ms model", "ms", 10.0, "bursts: all models answer together"),
    (
        "kb_parked",
        "a run that waits",
        "KB",
        20.0,
        "its conversation, its task and the frames of its coroutine",
    ),
    (
        "db_bytes_run",
        "databases",
        "bytes/run",
        24_576.0,
        "12 calls: two audit records, call, result and span each",
    ),
    ("import_s", "import", "s", None, "reading modules"),
)
OF_THE_DATABASE = ("ms_run", "cpu_ms_run", "runs_s")
"""The figures that another database changes."""


def measure(options: Options) -> list[Measure]:
    """All figures of Remit and of LangGraph; a peer that cannot be had says why."""
    with postgres_server() as server:
        rounds = _Rounds(options, server)
        for _ in range(options.pick(1, 3)):
            for contestant in (*ON_SQLITE, *ON_POSTGRES):
                rounds.run(contestant)
        for contestant in ON_SQLITE:
            rounds.park(contestant)
    return [
        _measure(contestant, figure, rounds.found, rounds.problems)
        for contestants in (ON_SQLITE, ON_POSTGRES)
        for figure in FIGURES
        if contestants is ON_SQLITE or figure[0] in OF_THE_DATABASE
        for contestant in contestants
    ]


class _Rounds:
    """Lets contestants do the job, one after another, and keeps their figures."""

    def __init__(self, options: Options, server: PostgresServer) -> None:
        self.found = Samples()
        self.problems: dict[str, str] = {}
        self._options = options
        self._server = server
        self._databases = 0

    def run(self, contestant: Contestant) -> None:
        """One process's turn at everything but memory."""
        plan = {"seq": self._options.pick(8, 30), "conc": 100, "lag": self._options.pick(100, 200)}
        self._gather(contestant, {name: count * contestant.scale for name, count in plan.items()})

    def park(self, contestant: Contestant) -> None:
        """Memory, once: it hardly varies, and a thousand waiting runs take the peer a minute and more."""
        self._gather(contestant, {"conc": WARMING, "park": self._options.pick(100, 1000)}, only="kb_parked")

    def _gather(self, contestant: Contestant, plan: dict[str, int], only: str = "") -> None:
        if contestant.key in self.problems:
            return
        database = [self._database()] if contestant.on_postgres else []
        try:
            figures = _run(contestant, plan, self._options, database)
        except PeerUnavailable as error:
            self.problems[contestant.key] = str(error)
            return
        self.found.add(
            **{f"{contestant.key}_{name}": figure for name, figure in figures.items() if only in ("", name)}
        )

    def _database(self) -> str:
        self._databases += 1
        name = f"job_{self._databases}"
        with psycopg.connect(self._server.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self._server.url(name)


def _run(
    contestant: Contestant, plan: dict[str, int], options: Options, database: list[str]
) -> dict[str, float]:
    environment = dict(os.environ, REMIT_BENCH_FOLDER=str(options.folder), PYTHONPATH=str(ROOT))
    arguments = [contestant.module, json.dumps(plan), *database]
    command = [str(contestant.python()), "-m", "benchmarks.workload", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PROCESS_S_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PeerUnavailable(f"it took longer than {PROCESS_S_MAX} s") from error
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise PeerUnavailable(f"it failed: {last[:200]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _measure(
    contestant: Contestant,
    figure: tuple[str, str, str, float | None, str],
    found: Samples,
    problems: dict[str, str],
) -> Measure:
    key, name, unit, target, limited_by = figure
    ours = contestant.peer is None
    return Measure(
        topic="job",
        name=f"{contestant.label}: {name}",
        unit=unit,
        samples=found.of(f"{contestant.key}_{key}"),
        better="more" if key == "runs_s" else "less",
        target=target if contestant is REMIT else None,
        # beside a peer the floor is Remit's figure of the same minutes
        floor=None if ours else found.median(f"{contestant.beside}_{key}"),
        limited_by=limited_by if ours else "its ratio is to Remit's figure",
        problem=problems.get(contestant.key, ""),
    )
