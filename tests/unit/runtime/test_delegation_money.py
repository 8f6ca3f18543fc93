"""Agents that are asked race for what is left, on the real journal: nobody spends more than any run above may."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from tests.unit.runtime.delegation_world import ASK, BACK, FRONT, WHO, World

from remit.adapters.journal.sqlite import SqliteJournal
from remit.core.messages import ModelReply, Usage
from remit.ports.journal import Balance
from remit.runtime.clock import SystemClock
from remit.testing.fakes import calls, says
from remit.testing.gate_world import empty_journal

MILLION = 1_000_000


class Spender:
    """Uses all that it may use, asks for tools by the seed, and looks at the balances while its call is under way."""

    def __init__(self, seed: int, look: Any) -> None:
        self._random = random.Random(seed)
        self._look = look
        self.asked = 0

    async def complete(self, request: Any, on_text: Any = None) -> ModelReply:
        self.asked += 1
        await self._look()
        await asyncio.sleep(0)
        usage = Usage(input_tokens=50, output_tokens=request.max_output_tokens)
        return calls(("look", {}), usage=usage) if self._random.random() < 0.5 else says("42", usage=usage)


@pytest.mark.parametrize("seed", range(5))
async def test_parallel_runs_below_one_never_spend_more_than_it_may(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "remit.db"
    path.write_bytes(empty_journal(tmp_path / "empty.db").read_bytes())
    clock = SystemClock()
    journals: list[SqliteJournal] = []

    def opened(worker: str) -> SqliteJournal:
        journals.append(SqliteJournal.open(path, clock, worker))
        return journals[-1]

    world = World(opened, clock)
    # the cap that binds is the one of the run above, or that of the day of the agent that is asked
    front = FRONT.replace("max_cost_per_run_usd: 1", "max_cost_per_run_usd: 0.009") if seed % 2 else FRONT
    back = BACK if seed % 2 else BACK.replace("max_daily_spend_usd: 5", "max_daily_spend_usd: 0.009")
    cap, scope = 9 * MILLION, "run:" if seed % 2 else "day:t/back/"
    seen: list[dict[str, Balance]] = []

    async def look() -> None:
        seen.append({one.scope: one for one in await world.journal.balances()})

    spender = Spender(seed, look)
    replies = [calls(*[ASK] * 4), calls(*[ASK] * 4), says("done")]
    process = world.process({"front": replies}, models={"back": spender}, front=front, back=back)
    result = await process.front.run("t", WHO)
    await look()
    scope = f"run:{result.run.id}" if seed % 2 else scope
    binding = [one for balances in seen for name, one in balances.items() if name.startswith(scope)]
    assert len(binding) > 1
    assert all(one.spent_nano_usd + one.held_nano_usd <= cap for one in binding)
    runs, last = await world.journal.runs(), seen[-1]
    assert last[f"run:{result.run.id}"].spent_nano_usd == sum(one.cost_nano_usd for one in runs)
    assert all(balance.held_nano_usd == 0 for balance in last.values())
    # the cap was what stopped them
    assert any(one.end is not None and one.end.code == "budget.exhausted" for one in runs)
    for journal in journals:
        await journal.close()
