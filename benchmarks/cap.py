"""Whether a cap holds: workers that share it, providers that bill what they like, processes that are killed.

Each seed is one trial. A trial that breaks the cap raises, whatever is being measured.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import killed
from benchmarks.figures import Measure, Options
from remit.adapters.journal.sqlite import SqliteJournal
from remit.adapters.prices import PriceBook
from remit.core import actions
from remit.core.actions import Place, Principal, TaskSource
from remit.core.messages import Message, ModelReply, ModelRequest, Text, Usage
from remit.core.money import format_usd
from remit.core.outcomes import Done, Failed, Refused
from remit.core.runs import Run
from remit.governance.compiler import parse
from remit.governance.gate import Effects, Gate, GateServices, GovernedRun
from remit.governance.rules import Rules
from remit.ports.effects import EffectFailed
from remit.ports.runs import StartRun
from remit.ports.services import TextSink
from remit.testing.fakes import FakeClock, FunctionTools, NoTelemetry

MODEL = "claude-sonnet-4-20260514"
CAP = 2_000_000_000
WORKERS = 16
UTILISATION_MIN = 0.97
WHO = Principal(kind="user", id="u")
FILE = f"""agent:
  name: a
  model: {MODEL}
  allowed_tools: []
  max_steps: 10000
  max_output_tokens: 4096
  cost_controls: {{max_daily_spend_usd: 2.00, max_cost_per_run_usd: 2.00}}
"""


class Provider:
    """Bills what it likes within what was asked; with `faults`, one call in ten is billed and never answered."""

    def __init__(self, seed: int, *, faults: bool) -> None:
        self._random = random.Random(seed)
        self._faults = faults
        self._prices = PriceBook()
        self.billed = 0

    async def complete(self, request: ModelRequest, on_text: TextSink | None = None) -> ModelReply:
        """A reply of chance length. Raises: EffectFailed, its usage unknown."""
        chars = sum(
            len(part.text) for message in request.messages for part in message.parts if isinstance(part, Text)
        )
        usage = Usage(
            input_tokens=self._random.randint(chars // 5, chars // 2 + 1),
            output_tokens=self._random.randint(1, request.max_output_tokens),
        )
        self.billed += self._prices.charge(request.model, usage).cost_nano_usd
        for _ in range(self._random.randint(0, 3)):
            await asyncio.sleep(0)
        if self._faults and self._random.random() < 0.1:
            raise EffectFailed("model.timeout", "no answer", retryable=True, usage=None)
        return ModelReply(parts=(Text(text="x"),), stop="end", usage=usage, model=request.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """At the end: what the provider billed, what the ledger says is spent, what is held still, in nano-USD."""

    billed: int
    spent: int
    held: int


async def spend(folder: Path, seed: int, *, faults: bool) -> Spent:
    """Sixteen workers at one cap, until each was refused three times; the cap is looked at after every call."""
    clock, provider, chance = FakeClock(), Provider(seed, faults=faults), random.Random(-seed - 1)
    journal = SqliteJournal.open(folder / "remit.db", clock)
    services = GateServices(journal=journal, prices=PriceBook(), clock=clock, telemetry=NoTelemetry())
    gate = Gate(services, Effects(model=provider, tools=FunctionTools([])))
    rules = Rules(parse(FILE, "f.yaml", ()), ())

    async def work(number: int) -> None:
        run = Run(
            id=f"r{number}",
            tenant="default",
            agent="a",
            remit_digest=rules.remit.digest,
            task=TaskSource(principal=WHO, text="t", digest="0" * 64),
            trace_id="0" * 32,
            created_at_us=0,
            deadline_us=2**60,
        )
        await journal.create_run(StartRun(run=run, audit=b"{}"))
        await journal.begin_run(run.id, WORKERS, 0)
        refusals, step = 0, 0
        while refusals < 3:
            step += 1
            request = ModelRequest(
                model=MODEL,
                system="",
                messages=(Message(role="user", parts=(Text(text="x" * chance.randint(10, 4000)),)),),
                tools=(),
                max_output_tokens=4096,
            )
            place = Place(run_id=run.id, step=step, name="m1", principal=WHO)
            action = actions.model_call(place, request, (f"d{step}",))
            outcome = await gate.perform(action, GovernedRun(run=run, rules=rules))
            assert isinstance(outcome, Done | Failed | Refused), outcome
            refusals += isinstance(outcome, Refused)
            for balance in await journal.balances("day:"):
                assert balance.spent_nano_usd + balance.held_nano_usd <= CAP, f"seed {seed}: {balance}"

    try:
        await asyncio.gather(*(work(number) for number in range(WORKERS)))
        (day,) = await journal.balances("day:")
    finally:
        await journal.close()
    return Spent(billed=provider.billed, spent=day.spent_nano_usd, held=day.held_nano_usd)


def measure(options: Options) -> list[Measure]:
    """Trials without faults, with bills that nobody hears of, and with processes that are killed.

    Each trial's bill, ledger and cap go to standard error.
    """
    seeds = range(options.pick(10, 100))
    clean = [_trial(options.folder, seed, faults=False) for seed in seeds]
    faulty = [_trial(options.folder, seed, faults=True) for seed in seeds]
    served = [_served(options.folder, seed, kills=0) for seed in range(options.pick(2, 100))]
    kills = [_served(options.folder, seed, kills=killed.KILLS) for seed in range(options.pick(2, 20))]
    rows = (
        ("bill / cap, no faults", [one.billed / CAP for one in clean], UTILISATION_MIN, "the last calls' bounds"),
        ("bill / cap, 1 call in 10 unheard", [one.billed / CAP for one in faulty], None, "what is presumed"),
        ("ledger / cap, 1 call in 10 unheard", [one.spent / CAP for one in faulty], UTILISATION_MIN, "bounds"),
        ("the model server's own bill / cap", [one.bill_share for one in served], UTILISATION_MIN, "bounds"),
        ("bill / cap, kill -9, cuts, hangs", [one.bill_share for one in kills], None, "what is presumed"),
        ("ledger / cap, kill -9, cuts, hangs", [one.ledger_share for one in kills], None, "the last bounds"),
    )  # fmt: skip
    measures = []
    for name, shares, target, limited_by in rows:
        print(f"benchmarks: {name}: {min(shares):.2%} to {max(shares):.2%}", file=sys.stderr, flush=True)
        measures.append(
            Measure(
                topic="cap",
                name=f"{name}, {len(shares)} seeds",
                unit="of 1",
                samples=tuple(shares),
                better="more",
                target=target,
                limited_by=limited_by,
            )
        )
    return measures


def _served(parent: Path, seed: int, *, kills: int) -> killed.Trial:
    """A trial against the model server; where processes are killed, it has faults as well."""
    chaos = killed.stormy(seed) if kills else killed.QUIET
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        trial = asyncio.run(killed.endure(Path(folder), seed, chaos=chaos, kills=kills))
    print(f"benchmarks: model server, seed {seed}: {trial.describe()}", file=sys.stderr, flush=True)
    return trial


def _trial(parent: Path, seed: int, *, faults: bool) -> Spent:
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        found = asyncio.run(spend(Path(folder), seed, faults=faults))
    shown = f"bill {format_usd(found.billed)}, ledger {format_usd(found.spent)}, cap {format_usd(CAP)}"
    print(f"benchmarks: seed {seed}, faults {faults}: {shown}", file=sys.stderr, flush=True)
    if found.held or not found.billed <= found.spent <= CAP:
        raise AssertionError(f"seed {seed}: the cap does not hold: {found}")
    return found
