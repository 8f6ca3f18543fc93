"""Remit's real parts, put together as the product does, around a model and tools of the measurement."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from remit.adapters.journal.postgres.journal import PostgresJournal, PostgresOptions
from remit.adapters.journal.sqlite import SqliteJournal
from remit.adapters.telemetry import names
from remit.adapters.telemetry.fanout import Fanout
from remit.adapters.telemetry.logs import JsonLog, LogOptions
from remit.adapters.telemetry.metrics import Metrics
from remit.adapters.telemetry.spans import SpanMaker
from remit.adapters.telemetry.store import StoreOptions, TraceStore
from remit.core import canonical, ids
from remit.core.actions import Principal, TaskSource
from remit.core.canonical import Json
from remit.core.runs import Run
from remit.core.tools import ToolSpec
from remit.governance import records
from remit.governance.compiler import parse
from remit.governance.gate import Effects, Gate, GateServices, GovernedRun
from remit.governance.rules import Rules
from remit.ports.effects import CallContext, Model
from remit.ports.journal import Journal
from remit.ports.runs import StartRun
from remit.ports.services import Telemetry
from remit.runtime.clock import SystemClock
from remit.runtime.runner import Runner
from remit.testing.fakes import FixedPrices, NoTelemetry, ScriptedModel, ToolFunction

MODEL = "instant"
PRINCIPAL = Principal(kind="user", id="bench")
SCHEMA = {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]}
JOURNAL, TRACES, LOG = "remit.db", "traces.db", "remit.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsOptions:
    """`limits` are further lines of the governance file, indented by two; `database`: where the journal is on PostgreSQL."""

    tools: Sequence[tuple[ToolSpec, ToolFunction]]
    model: Model | None = None
    model_name: str = MODEL
    limits: str = ""
    telemetry: bool = True
    database: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """An agent's parts; everything durable is in one folder, but for a journal on PostgreSQL."""

    journal: Journal
    clock: SystemClock
    rules: Rules
    gate: Gate
    runner: Runner

    async def begin(self) -> GovernedRun:
        """A run that is recorded and running, for calls straight at the gate."""
        now_us = self.clock.now_us()
        run_id = ids.time_ordered(now_us, self.clock.entropy(10))
        task = "Measure the gate."
        run = Run(
            id=run_id,
            tenant=PRINCIPAL.tenant,
            agent=self.rules.remit.agent,
            remit_digest=self.rules.remit.digest,
            task=TaskSource(principal=PRINCIPAL, text=task, digest=canonical.digest(task.encode())),
            trace_id=ids.trace_id(run_id),
            created_at_us=now_us,
            deadline_us=now_us + 3_600_000_000,
        )
        await self.journal.create_run(StartRun(run=run, audit=records.run_created(run, now_us)))
        assert await self.journal.begin_run(run_id, 100_000, now_us)
        return GovernedRun(run=run, rules=self.rules)


class Tools:
    """A tool host of async functions that remembers nothing, so that memory can be measured."""

    def __init__(self, tools: Sequence[tuple[ToolSpec, ToolFunction]]) -> None:
        self._functions = {spec.name: function for spec, function in tools}
        self.specs = tuple(spec for spec, _ in tools)

    async def call(self, tool: str, args: Json, context: CallContext) -> Json:
        """What the function gives."""
        return await self._functions[tool](args, context)


def tool(name: str, *, rate_group: str | None = None, price_nano_usd: int = 0) -> ToolSpec:
    """The declaration of a tool that reads an order."""
    return ToolSpec(
        name=name,
        description="Look up an order.",
        args_schema=SCHEMA,
        effect="read",
        rate_group=rate_group,
        price_nano_usd=price_nano_usd,
    )


async def no_op(args: Json, context: CallContext) -> Json:
    """A tool that does nothing."""
    return None


async def lookup(args: Json, context: CallContext) -> Json:
    """A tool that knows every order."""
    return {"order_id": args["order_id"], "status": "shipped", "n": 3}


def governance_file(tools: Sequence[ToolSpec], model: str, limits: str = "") -> str:
    """The governance file of an agent that may use `tools`."""
    names = ", ".join(spec.name for spec in tools)
    return (
        f"agent:\n  name: bench\n  model: {model}\n  max_concurrent_runs: 100000\n  max_steps: 10000\n"
        f"  allowed_tools: [{names}]\n"
        "  cost_controls: {max_daily_spend_usd: 1000000.00, max_cost_per_run_usd: 100000.00}\n" + limits
    )


@asynccontextmanager
async def open_parts(folder: Path, options: PartsOptions) -> AsyncIterator[Parts]:
    """The parts with their files in `folder`, closed at the end of the block."""
    clock = SystemClock()
    tools = Tools(options.tools)
    with ExitStack() as stack:
        telemetry: Telemetry = NoTelemetry()
        if options.telemetry:
            telemetry = stack.enter_context(_telemetry(folder))
        journal: Journal = (
            SqliteJournal.open(folder / JOURNAL, clock)
            if options.database is None
            else PostgresJournal.open(PostgresOptions(url=options.database))
        )
        try:
            services = GateServices(
                journal=journal,
                prices=FixedPrices({options.model_name: 1000}),
                clock=clock,
                telemetry=telemetry,
            )
            text = governance_file(tools.specs, options.model_name, options.limits)
            rules = Rules(parse(text, "bench.yaml", tools.specs), tools.specs)
            gate = Gate(services, Effects(model=options.model or ScriptedModel([]), tools=tools))
            runner = Runner(services, gate, rules)
            await runner.announce()
            yield Parts(journal=journal, clock=clock, rules=rules, gate=gate, runner=runner)
        finally:
            await journal.close()


@contextmanager
def _telemetry(folder: Path) -> Iterator[Telemetry]:
    """The sinks that a deployment has by default: metrics, trace store, log."""
    metrics, spans = Metrics(), SpanMaker(SystemClock())
    store = TraceStore(
        folder / TRACES,
        spans,
        lost=partial(metrics.count_lost, "traces"),
        notice=_broken,
        options=StoreOptions(),
    )
    log = JsonLog(
        folder / LOG, spans, lost=partial(metrics.count_lost, "log"), notice=_broken, options=LogOptions()
    )
    try:
        yield Fanout({"metrics": metrics, "traces": store, "log": log}, failed=metrics.count_error)
    finally:
        log.close()
        store.close()
    # a figure of telemetry that dropped what it was given would flatter
    lost = [line for line in metrics.expose().decode().splitlines() if _counts_a_loss(line)]
    if lost:
        raise RuntimeError(f"telemetry was lost while it was measured: {lost}")


def _broken(text: str) -> None:
    raise RuntimeError(text)


def _counts_a_loss(line: str) -> bool:
    return line.startswith((names.SPANS_DROPPED, names.TELEMETRY_ERRORS)) and line[-4:] != " 0.0"


def sizes(folder: Path) -> dict[str, int]:
    """The bytes of journal, traces and log, each with the files beside it."""
    return {
        name: sum(path.stat().st_size for path in folder.glob(f"{name}*")) for name in (JOURNAL, TRACES, LOG)
    }
