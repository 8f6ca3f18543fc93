"""Sixteen workers, one cap: what the provider bills never passes it, and little of it is left unused."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from remit.adapters.journal.sqlite import SqliteJournal
from remit.adapters.prices import PriceBook
from remit.core import actions
from remit.core.actions import Place, Principal, TaskSource
from remit.core.messages import Message, ModelReply, ModelRequest, Text, Usage
from remit.core.outcomes import Done, Failed, Refused
from remit.core.runs import Run
from remit.governance.gate import Effects, Gate, GateServices, GovernedRun
from remit.governance.remit import parse
from remit.governance.rules import Rules
from remit.ports.effects import EffectFailed
from remit.ports.journal import StartRun
from remit.ports.services import TextSink
from remit.testing.fakes import FakeClock, FunctionTools, NoTelemetry

MODEL = "claude-sonnet-4-20260514"
CAP = 2_000_000_000
WORKERS = 16
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
    """Bills what it likes within what was asked, and at times bills without answering."""

    def __init__(self, seed: int, *, faults: bool) -> None:
        self._random = random.Random(seed)
        self._faults = faults
        self._prices = PriceBook()
        self.billed = 0

    async def complete(self, request: ModelRequest, on_text: TextSink | None = None) -> ModelReply:
        chars = sum(len(part.text) for message in request.messages for part in message.parts)  # type: ignore[union-attr]
        usage = Usage(
            input_tokens=self._random.randint(chars // 5, chars // 2 + 1),
            output_tokens=self._random.randint(1, request.max_output_tokens),
        )
        self.billed += self._prices.cost(request.model, usage)
        for _ in range(self._random.randint(0, 3)):
            await asyncio.sleep(0)
        if self._faults and self._random.random() < 0.1:
            # billed, and nobody hears how much
            raise EffectFailed("model.timeout", "no answer", retryable=True, usage=None)
        return ModelReply(parts=(Text(text="x"),), stop="end", usage=usage, model=request.model)


async def spend(home: Path, seed: int, *, faults: bool) -> tuple[int, int, int]:
    """What the provider billed, what the ledger says is spent, and what is still held, at the end."""
    clock, provider, chance = FakeClock(), Provider(seed, faults=faults), random.Random(-seed - 1)
    journal = SqliteJournal.open(home / "remit.db", clock)
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
            assert isinstance(outcome, Done | Failed | Refused)
            refusals += isinstance(outcome, Refused)
            for balance in await journal.balances("day:"):
                assert balance.spent_nano_usd + balance.held_nano_usd <= CAP

    await asyncio.gather(*(work(number) for number in range(WORKERS)))
    (day,) = await journal.balances("day:")
    await journal.close()
    return provider.billed, day.spent_nano_usd, day.held_nano_usd


@pytest.mark.parametrize("seed", range(4))
async def test_the_bill_never_passes_the_cap_and_fills_it(tmp_path: Path, seed: int) -> None:
    billed, spent, held = await spend(tmp_path, seed, faults=False)
    assert (held, billed) == (0, spent)
    assert 0.97 * CAP <= billed <= CAP, f"seed {seed}: {billed / CAP:.2%} of the cap"


@pytest.mark.parametrize("seed", range(4, 8))
async def test_with_bills_that_nobody_hears_of_the_ledger_is_above_the_bill_and_below_the_cap(
    tmp_path: Path, seed: int
) -> None:
    billed, spent, held = await spend(tmp_path, seed, faults=True)
    assert held == 0
    assert billed <= spent <= CAP, f"seed {seed}"
