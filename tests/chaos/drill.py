"""The drill: runs on three workers among faults, and what must be true of them afterwards.

`python -m tests.chaos.drill --runs 300 --faults 60 --seed 7`, or `make chaos`. The same seed makes the same faults in the
same order; when exactly they strike is the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from tests.chaos.proxy import FaultProxy
from tests.chaos.world import REMIT, Worker, mails, make_agent, process

from remit.adapters.journal.postgres.journal import PostgresJournal, PostgresOptions
from remit.core.actions import Principal
from remit.core.errors import RemitError
from remit.core.runs import FINAL
from remit.governance.resolutions import Finding, resolution
from remit.ports.journal import CallRecord
from remit.runtime import intake
from remit.runtime.clock import SystemClock
from remit.testing.postgres_server import PostgresServer, postgres_server
from remit.wiring.remits import load_remit

WORKERS = 3
KINDS = (
    ("kill",) * 8 + ("freeze",) * 4 + ("cut",) * 3 + ("stall", "refuse", "clock", "term", "restart", "crash")
)
PAUSE_S = 0.8
WHO = Principal(kind="service", id="drill")
PERSON = Principal(kind="user", id="inspector")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a drill is."""

    runs: int = 300
    faults: int = 60
    seed: int = 0
    cap_usd: str = "100.00"
    settle_s: float = 240.0
    linger_s: float = 0.0
    kinds: tuple[str, ...] = KINDS


@dataclass(slots=True, kw_only=True)
class Report:
    """What became of the runs, and what was found wrong."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    mails: int = 0
    tickets: int = 0
    unknown: int = 0
    interrupted_runs: int = 0
    spent_usd: float = 0.0
    bill_usd: float = 0.0
    seconds: float = 0.0
    stands: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"seed {self.seed}: {sum(self.statuses.values())} runs in {self.seconds:.0f} s",
            f"faults       {dict(sorted(self.faults.items()))}",
            f"runs         {dict(sorted(self.statuses.items()))}",
            f"mails        {self.mails} by the witness, each once",
            f"tickets      {self.tickets}, each with one key",
            f"unknown      {self.unknown} effects, each seen and resolved by a person",
            f"interrupted  {self.interrupted_runs} times a run went on in another worker",
            f"money        ${self.bill_usd:.4f} billed <= ${self.spent_usd:.4f} in the ledger <= the cap",
            *(f"WRONG        {line}" for line in self.wrong),
            *(f"it stands    {line}" for line in self.stands),
        ]


class Drill:
    """One drill, in `folder`."""

    def __init__(self, options: Options, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._chance = random.Random(options.seed)
        self._report = Report(seed=options.seed)
        self._run_ids: list[str] = []
        self._found: list[str] = []

    async def run(self) -> Report:
        """The report."""
        began = time.monotonic()
        with ExitStack() as stack:
            config = make_agent(
                self._folder / "agent", slots=12, cap_usd=self._options.cap_usd, pause_s=PAUSE_S
            )
            witness, witnessed = self._witness(stack)
            models = self._models(stack)
            self._server = stack.enter_context(postgres_server("fsync=off"))
            self._proxy = FaultProxy(self._server.port)
            port = await self._proxy.start()
            environment = {
                "REMIT_DATABASE_URL": make_conninfo(self._server.url(), port=port),
                "REMIT_SMTP_URL": f"smtp://127.0.0.1:{witness}?starttls=no",
                "ANTHROPIC_BASE_URL": models,
                "ANTHROPIC_API_KEY": "drill",
            }
            # not through the proxy: what is asked here is asked by somebody who is never cut off
            self._journal = PostgresJournal.open(PostgresOptions(url=self._server.url()))
            self._remit = load_remit(config)
            workers = [Worker(number, self._folder, config, environment) for number in range(WORKERS)]
            try:
                await self._work(workers)
                await self._settle(workers, witnessed)
                await self._judge(workers, witnessed, models)
            finally:
                for worker in workers:
                    worker.end()
                await self._proxy.close()
                await self._journal.close()
        self._report.seconds = time.monotonic() - began
        return self._report

    def _witness(self, stack: ExitStack) -> tuple[int, Path]:
        path = self._folder / "witnessed.jsonl"
        command = (REMIT.with_name("python"), "-m", "tests.chaos.witness", path)
        started = stack.enter_context(process(*command, log=self._folder / "witness.log"))
        assert started.stdout is not None
        return int(started.stdout.readline()), path

    def _models(self, stack: ExitStack) -> str:
        scripts = self._folder / "agent" / "scripts"
        command = (REMIT, "model-server", "--port", "0", "--scripts", scripts)
        started = stack.enter_context(process(*command, log=self._folder / "models.log"))
        assert started.stdout is not None
        for line in started.stdout:
            for word in line.decode().split():
                if word.startswith("http://"):
                    return word.rstrip("/.,;")
        raise AssertionError("the model server did not start")

    async def _work(self, workers: list[Worker]) -> None:
        """Give the runs, and strike, side by side."""
        supervising = asyncio.create_task(self._supervise(workers))
        try:
            await asyncio.sleep(4.0)  # the workers come up
            faults = asyncio.create_task(self._strike(workers))
            for number in range(self._options.runs):
                await self._submit(number)
                await asyncio.sleep(self._options.faults * 2.5 / self._options.runs)
            await faults
        finally:
            supervising.cancel()

    async def _submit(self, number: int) -> None:
        clock = SystemClock()
        run = intake.new_run(self._remit, f"drill {number}", WHO, clock)
        self._run_ids.append(run.id)
        while True:
            try:
                await intake.enqueue(self._journal, self._remit, run)
                return
            except RemitError as error:
                if not error.kind.retryable or await self._known(run.id):
                    return
                await asyncio.sleep(0.5)

    async def _known(self, run_id: str) -> bool:
        try:
            return await self._journal.run(run_id) is not None
        except RemitError:
            return False

    async def _supervise(self, workers: list[Worker]) -> None:
        while True:
            for worker in workers:
                worker.supervise()
            await asyncio.sleep(0.5)

    async def _strike(self, workers: list[Worker]) -> None:
        waking = []
        for _ in range(self._options.faults):
            kind, worker = self._chance.choice(self._options.kinds), self._chance.choice(workers)
            self._report.faults[kind] += 1
            if kind == "kill":
                worker.send(signal.SIGKILL)
            elif kind == "term":
                worker.send(signal.SIGTERM)
            elif kind == "freeze":  # for less than a lease, or for more
                waking.append(asyncio.create_task(worker.freeze(self._chance.choice([1.0, 9.0]))))
            elif kind == "clock":
                worker.jump(self._chance)
            elif kind == "cut":
                self._proxy.cut()
            elif kind == "stall":
                await self._proxy.stall(self._chance.choice([1.0, 4.0]))
            elif kind == "refuse":
                await self._proxy.refuse(self._chance.choice([1.0, 4.0]))
            else:
                await asyncio.to_thread(_restart, self._server, kind)
            await asyncio.sleep(self._chance.uniform(1.5, 4.0))
        await asyncio.gather(*waking)

    async def _settle(self, workers: list[Worker], witnessed: Path) -> None:
        """Wait until nothing moves that needs no person; then be the person, until every run has ended."""
        for worker in workers:
            worker.clock.write_text("0")
        deadline = time.monotonic() + self._options.settle_s
        supervising = asyncio.create_task(self._supervise(workers))
        try:
            while time.monotonic() < deadline:
                statuses = await self._journal.statuses(self._run_ids)
                if all(statuses.get(run_id) in FINAL for run_id in self._run_ids):
                    return
                doubtful = await self._journal.unresolved(10_000)
                if doubtful and not any(status in ("queued", "running") for status in statuses.values()):
                    await asyncio.sleep(1.0)  # what a mail server has taken, it has noted by then
                    for call in doubtful:
                        await self._resolve(call, mails(witnessed))
                await asyncio.sleep(0.5)
            self._report.stands = self._what_stands()
            await asyncio.sleep(self._options.linger_s)
        finally:
            supervising.cancel()

    def _what_stands(self) -> list[str]:
        """For whoever looks why a run is stuck: how many runs and segments are in which state."""
        asked = (
            "SELECT 'run', status, code, is_queued::text, (ready_at IS NOT NULL)::text, count(*) FROM remit.run",
            "SELECT 'segment', status, queue_name, executor_id, '', count(*) FROM dbos.workflow_status",
            "SELECT 'worker', id, lease_until::text, '', '', count(*) FROM remit.worker",
        )
        with psycopg.connect(self._server.url()) as connection:
            rows = [
                row
                for one in asked
                for row in connection.execute(f"{one} GROUP BY 1, 2, 3, 4, 5 ORDER BY 2, 3")
            ]
        return [" ".join(str(value) for value in row) for row in rows]

    async def _resolve(self, call: CallRecord, witnessed: Counter[str]) -> None:
        record = await self._journal.run(call.run_id)
        assert record is not None
        happened = witnessed[record.run.task.text] > 0
        finding = Finding(happened=happened, by=PERSON, reason="the mail server says so")
        if await self._journal.resolve(resolution(call, record.run, finding, SystemClock().now_us())):
            self._report.unknown += 1
            self._found += [call.action_id] * happened

    async def _judge(self, workers: list[Worker], witnessed: Path, models: str) -> None:
        report, taken = self._report, mails(witnessed)
        for number, run_id in enumerate(self._run_ids):
            record = await self._journal.run(run_id)
            if record is None:
                report.wrong.append(f"run {run_id} is lost")
                continue
            report.statuses[record.status] += 1
            report.interrupted_runs += record.interruptions
            count = taken[f"drill {number}"]
            sent = [
                call
                for call in await self._journal.calls(run_id)
                if call.resource == "send_email" and (call.state == "done" or call.action_id in self._found)
            ]
            if record.status not in FINAL:
                code = record.end.code if record.end else ""
                report.wrong.append(f"run {run_id} is stuck: {record.status} {code}")
            elif record.status != "succeeded":
                report.wrong.append(f"run {run_id} is {record.status}: {record.end}")
            if count > 1:
                report.wrong.append(f"run {run_id} sent {count} mails")
            if count != len(sent) and record.status in FINAL:
                report.wrong.append(f"run {run_id}: {count} mails, and {len(sent)} on record")
        report.mails = sum(taken.values())
        keys = {key for worker in workers for key in worker.tickets()}
        report.tickets = len(keys)
        for run_id, count in Counter(key.split()[0] for key in keys).items():
            if count > 1:
                report.wrong.append(f"run {run_id} made tickets with {count} keys")
        await self._count_money(models)

    async def _count_money(self, models: str) -> None:
        report = self._report
        bill = await asyncio.to_thread(_get, f"{models}/bill")
        report.bill_usd = bill["cost_nano_usd"] / 1e9
        # a clock that jumps may jump over midnight
        days = [one for one in await self._journal.balances() if not one.scope.startswith("run:")]
        report.spent_usd = sum(day.spent_nano_usd for day in days) / 1e9
        held = sum(day.held_nano_usd for day in days)
        if held:
            report.wrong.append(f"{held} nano-USD are still held")
        if report.bill_usd > report.spent_usd:
            report.wrong.append(f"the bill is {report.bill_usd}, the ledger says {report.spent_usd}")
        for day in days:
            if day.spent_nano_usd > float(self._options.cap_usd) * 1e9:
                report.wrong.append(f"{day.scope} has spent {day.spent_nano_usd} nano-USD")


def _restart(server: PostgresServer, kind: str) -> None:
    server.stop(signal.SIGQUIT if kind == "crash" else signal.SIGINT)
    server.start()


def _get(url: str) -> Any:
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def main() -> int:
    """Run a drill and print its report; 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("runs", "faults", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Options(), name))
    given = parser.parse_args()
    options = Options(runs=given.runs, faults=given.faults, seed=given.seed)
    folder = Path(tempfile.mkdtemp(prefix="remit-chaos-"))
    report = asyncio.run(Drill(options, folder).run())
    print("\n".join(report.lines()))
    print(f"logs in {folder}")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
