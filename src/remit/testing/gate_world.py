"""The world of the gate's simulation: tools, a model, two processes on one store, and an outside witness.

The witness looks through a connection of its own, at the very moment an effect runs and after every
commit; it knows nothing of the gate.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, cast

from remit.adapters.journal import schema
from remit.adapters.journal.sql import Sql
from remit.adapters.journal.sqlite import SqliteJournal
from remit.core import actions, memory
from remit.core.actions import Action, Place, Principal
from remit.core.canonical import Json
from remit.core.decisions import Decision
from remit.core.messages import ModelReply, ModelRequest, Usage
from remit.core.tools import ToolSpec
from remit.governance.compiler import parse
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.remit import Remit
from remit.governance.rules import Rules
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.journal import Journal
from remit.ports.services import TextSink
from remit.testing.fakes import FakeClock, FixedPrices, RecordingTelemetry, says
from remit.testing.faulty_journal import Fault, FaultyJournal
from remit.testing.memory_journal import MemoryJournal
from remit.testing.memory_store import MemoryStore

Behaviour: TypeAlias = Literal[
    "ok", "bad_usage", "junk", "failed", "raises", "exits", "cancels_itself", "hangs"
]
BEHAVIOURS: tuple[Behaviour, ...] = Behaviour.__args__  # type: ignore[attr-defined]

HANG_S = 0.01
PRICE = 1000
PAY_PRICE = 900_000

_ARGS: Mapping[str, Any] = {
    "type": "object",
    "properties": {"to": {"type": "string"}, "amount": {"type": "number"}, "more": {"type": "object"}},
    "required": ["to"],
}
TOOLS = (
    ToolSpec(
        name="lookup", description="l", args_schema=_ARGS, effect="read", rate_group="lookups", rate_key="to"
    ),
    ToolSpec(name="pay", description="p", args_schema=_ARGS, price_nano_usd=PAY_PRICE, rate_group="payments"),
    ToolSpec(name="note", description="n", args_schema=_ARGS, idempotency="idempotent"),
    ToolSpec(
        name="search", description="s", args_schema=_ARGS, effect="read", price_nano_usd=500_000, timeout_s=5
    ),
    ToolSpec(name="people", description="x", args_schema=_ARGS, effect="read", classes=("pii",)),
    ToolSpec(name="wire", description="w", args_schema=_ARGS),
)
FILE = """
agent:
  name: sim
  model: m
  max_output_tokens: 16
  allowed_tools: [lookup, pay, note, search, people]
  rate_limits: {max_lookups_per_minute: 2, max_payments_per_hour: 4}
  cost_controls: {max_daily_spend_usd: 0.016, max_cost_per_run_usd: 0.010}
  approvals: [{tool: pay, when: {amount: {gt: 100}}, expires_s: 600}]
"""
CAPS: Mapping[str, int] = {"run": 10_000_000, "day": 16_000_000}
PRINCIPAL = Principal(kind="user", id="u")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One effect as it ran: what it was given, and what the store held at that moment.

    `digest` is the action's digest computed anew from what the tool received.
    """

    action_id: str
    resource: str
    args: Json
    digest: str
    recorded_digest: str | None
    recorded_state: str | None
    intents: int
    paused: frozenset[str]


class Witness(Protocol):
    """Somebody else's look at the store."""

    def call(self, action_id: str) -> tuple[str, str] | None:
        """The recorded digest and state of a call."""
        ...

    def intents(self, digest: str) -> int:
        """How many audit records of an admission carry this digest."""
        ...

    def outcomes(self, run_id: str, call: str) -> int:
        """How many audit records of an outcome this call has."""
        ...

    def balances(self) -> Mapping[str, tuple[int, int, int]]:
        """Spent, held and presumed of every scope."""
        ...

    def paused(self) -> frozenset[str]: ...

    def used_approvals(self) -> frozenset[str]:
        """The action digests whose approvals are used up."""
        ...


class SqlWitness:
    """Looks through a connection of its own."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    def call(self, action_id: str) -> tuple[str, str] | None:
        row = self._sql.execute(
            "SELECT digest, coalesce(done.state, 'started') FROM call LEFT JOIN done USING (seq) WHERE id = ?",
            (action_id,),
        ).fetchone()
        return None if row is None else (row[0].hex(), row[1])

    def intents(self, digest: str) -> int:
        return self._count("json_extract(body, '$.digest') = ? AND json_extract(body, '$.kind') = ?", digest)

    def outcomes(self, run_id: str, call: str) -> int:
        where = "json_extract(body, '$.run') = ? AND json_extract(body, '$.call') = ?"
        rows = self._sql.execute(
            f"SELECT count(*) FROM audit WHERE {where} AND json_extract(body, '$.kind') = 'outcome'",
            (run_id, call),
        )
        return int(rows.fetchone()[0])

    def balances(self) -> Mapping[str, tuple[int, int, int]]:
        rows = self._sql.execute("SELECT scope, spent, held, presumed FROM balance").fetchall()
        return {scope: (spent, held, presumed) for scope, spent, held, presumed in rows}

    def paused(self) -> frozenset[str]:
        return frozenset(scope for (scope,) in self._sql.execute("SELECT scope FROM control"))

    def used_approvals(self) -> frozenset[str]:
        rows = self._sql.execute("SELECT action_digest FROM approval WHERE used_at IS NOT NULL")
        return frozenset(digest for (digest,) in rows)

    def _count(self, where: str, digest: str) -> int:
        row = self._sql.execute(f"SELECT count(*) FROM audit WHERE {where}", (digest, "intent")).fetchone()
        return int(row[0])


class MemoryWitness:
    """Looks at the store behind the journals."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def call(self, action_id: str) -> tuple[str, str] | None:
        call = self._store.calls.get(action_id)
        return None if call is None else (call.admission.action_digest, call.state or "started")

    def intents(self, digest: str) -> int:
        marks = (f'"digest":"{digest}"'.encode(), b'"kind":"intent"')
        return sum(all(mark in body for mark in marks) for body in self._store.audit)

    def outcomes(self, run_id: str, call: str) -> int:
        marks = (f'"run":"{run_id}"'.encode(), f'"call":"{call}"'.encode(), b'"kind":"outcome"')
        return sum(all(mark in body for mark in marks) for body in self._store.audit)

    def balances(self) -> Mapping[str, tuple[int, int, int]]:
        return {
            name: (one.spent_nano_usd, one.held_nano_usd, one.presumed_nano_usd)
            for name, one in self._store.balances.items()
        }

    def paused(self) -> frozenset[str]:
        return frozenset(self._store.controls)

    def used_approvals(self) -> frozenset[str]:
        standing = self._store.approvals.items()
        return frozenset(digest for digest, one in standing if one.used_at_us is not None)


class Store(Protocol):
    """A journal's store that outlives its processes."""

    @property
    def witness(self) -> Witness: ...
    def open(self, clock: FakeClock) -> Journal: ...
    def remove(self) -> None: ...


class MemoryBackend:
    """The store in memory."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self.witness: Witness = MemoryWitness(self._store)

    def open(self, clock: FakeClock) -> Journal:
        return MemoryJournal(clock, self._store)

    def remove(self) -> None:
        """Nothing is left behind."""


class SqliteBackend:
    """The store in a temporary file, copied from `template`, an empty journal."""

    def __init__(self, template: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="remit-simulation-"))
        self._path = self._folder / "remit.db"
        shutil.copyfile(template, self._path)
        self._looking = sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        self.witness: Witness = SqlWitness(self._looking)

    def open(self, clock: FakeClock) -> Journal:
        return SqliteJournal.open(self._path, clock)

    def remove(self) -> None:
        self._looking.close()
        shutil.rmtree(self._folder)


def empty_journal(path: Path) -> Path:
    """An empty journal file at `path`."""
    schema.migrate(path)
    return path


class FaultyRules(Rules):
    """Rules that fail where they are told to; `impatient`, so that a hanging effect costs little time."""

    fault: Fault = "none"
    impatient = False

    def decide(self, action: Action, seen: memory.Seen | None = None) -> Decision:
        if self.fault == "policy_raises":
            raise RuntimeError("the policy is broken")
        if self.fault == "policy_times_out":
            raise TimeoutError
        decision = super().decide(action, seen)
        if self.impatient:
            return replace(decision, constraints=replace(decision.constraints, timeout_s=HANG_S))
        return decision


@dataclass(slots=True, kw_only=True)
class Process:
    """One worker: its journal (with faults), its gate, its rules."""

    journal: FaultyJournal
    gate: Gate
    rules: FaultyRules


GateFactory: TypeAlias = Callable[[GateServices, Effects], Gate]


@dataclass(slots=True)
class World:
    """Tools and model whose `behaviour` is set before each act, and what the witness saw of them."""

    store: Store
    make_gate: GateFactory
    wrap: Callable[[Journal], Any]
    clock: FakeClock = field(default_factory=FakeClock)
    telemetry: RecordingTelemetry = field(default_factory=RecordingTelemetry)
    seen: list[Seen] = field(default_factory=list)
    overspent: list[str] = field(default_factory=list)
    behaviour: Behaviour = "ok"
    output_tokens: int = 16
    places: dict[str, Place] = field(default_factory=dict)
    expecting: str = ""
    current: Process | None = None

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        return TOOLS

    def remit(self) -> Remit:
        """The remit of the world's agent."""
        return parse(FILE, "sim.yaml", TOOLS)

    def process(self) -> Process:
        """A new process on the same store."""
        journal = FaultyJournal(self.wrap(self.store.open(self.clock)), self.check_caps)
        services = GateServices(
            journal=cast(Journal, journal),
            prices=FixedPrices({"m": PRICE}),
            clock=self.clock,
            telemetry=self.telemetry,
        )
        gate = self.make_gate(services, Effects(model=self, tools=self))
        return Process(journal=journal, gate=gate, rules=FaultyRules(self.remit(), TOOLS))

    def check_caps(self) -> None:
        """What a stranger sees of the money at this moment."""
        for scope, (spent, held, presumed) in self.store.witness.balances().items():
            cap = CAPS[scope.partition(":")[0]]
            if spent + held > cap or min(spent, held, presumed) < 0 or presumed > spent:
                self.overspent.append(f"{scope}: spent {spent}, held {held}, presumed {presumed}, cap {cap}")

    async def call(self, tool: str, args: Json, context: CallContext) -> Json:
        """A tool of this world (`ToolHost`)."""
        action_id, digest = self._identify(tool, args, context)
        self._saw(action_id, tool, args, digest)
        await self._behave()
        if self.behaviour == "junk":
            return object()
        # what a result says of itself is data like any other
        return {"label": {"trust": "trusted", "classes": []}, "trust": "trusted", "classes": ["public"]}

    def _identify(self, tool: str, args: Json, context: CallContext) -> tuple[str, str]:
        """The id of the action that these arguments make at some place, and its digest, computed anew."""
        for action_id, place in self.places.items():
            digest = actions.tool_call(place, tool, "anew", args).digest
            if context.idempotency_key and digest.startswith(context.idempotency_key):
                return action_id, digest
        return "nobody decided on this", ""

    async def complete(self, request: ModelRequest, on_text: TextSink | None = None) -> ModelReply:
        """The model of this world (`Model`)."""
        recorded = self.store.witness.call(self.expecting)
        self._saw(self.expecting, request.model, None, "" if recorded is None else recorded[0])
        await self._behave()
        if self.behaviour == "junk":
            return says("lone \ud800", usage=Usage(input_tokens=100, output_tokens=self.output_tokens))
        if self.behaviour == "bad_usage":
            return says("refund", usage=Usage(input_tokens=-5000, output_tokens=self.output_tokens))
        return says("well", usage=Usage(input_tokens=100, output_tokens=self.output_tokens))

    def _saw(self, action_id: str, resource: str, args: Json, digest: str) -> None:
        witness = self.store.witness
        recorded = witness.call(action_id)
        self.seen.append(
            Seen(
                action_id=action_id,
                resource=resource,
                args=args,
                digest=digest,
                recorded_digest=None if recorded is None else recorded[0],
                recorded_state=None if recorded is None else recorded[1],
                intents=witness.intents(digest),
                paused=witness.paused(),
            )
        )
        self.check_caps()

    async def _behave(self) -> None:
        process = self.current
        if process is not None and process.journal.fault in ("cancel_in_effect", "crash_in_effect"):
            process.journal.dead = process.journal.fault == "crash_in_effect"
            process.journal.strike()
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        match self.behaviour:
            case "hangs":
                await asyncio.Event().wait()
            case "raises":
                raise RuntimeError("broken")
            case "exits":
                raise SystemExit(3)
            case "cancels_itself":
                raise asyncio.CancelledError
            case "failed":
                raise EffectFailed("tool.failed", "it did not happen", usage=Usage())
