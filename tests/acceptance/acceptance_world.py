"""A governed agent in this process: the real gate, rules, runner and SQLite journal; the model is scripted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from remit.adapters.journal.sqlite import SqliteJournal
from remit.core.actions import Principal
from remit.core.messages import ModelReply
from remit.core.tools import ToolSpec
from remit.governance.compiler import parse
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.rules import Rules
from remit.ports.effects import EffectFailed, Model, ToolHost
from remit.runtime.clock import SystemClock
from remit.runtime.runner import Runner, RunResult
from remit.testing.fakes import FixedPrices, RecordingTelemetry, ScriptedModel

MODEL = "claude-test"
CONFIG = """agent:
  name: tested
  model: {model}
  max_retries: 0
  max_concurrent_runs: 1000
  allowed_tools: [{tools}]
  data_access: {{allow_pii: true, allow_financial: true, allow_internal_docs: true, max_records_per_query: 50}}
  cost_controls: {{max_daily_spend_usd: 100000.00, max_cost_per_run_usd: 1000.00}}
"""


class World:
    """One journal; a gate and a runner for each task."""

    def __init__(self, journal: SqliteJournal) -> None:
        self.journal = journal
        self.telemetry = RecordingTelemetry()

    async def run(
        self, task: str, model: Model | Sequence[ModelReply | EffectFailed], tools: ToolHost
    ) -> RunResult:
        """A task under a remit that grants every tool of `tools`. `model`: one, or the replies of one."""
        services = GateServices(
            journal=self.journal,
            prices=FixedPrices({MODEL: 1000}),
            clock=SystemClock(),
            telemetry=self.telemetry,
        )
        asked = ScriptedModel(model) if isinstance(model, Sequence) else model
        gate = Gate(services, Effects(model=asked, tools=tools))
        return await Runner(services, gate, rules_of(tools.specs)).run(task, Principal(kind="user", id="u"))


def rules_of(specs: Sequence[ToolSpec]) -> Rules:
    """The rules of a remit that grants all of `specs`."""
    text = CONFIG.format(model=MODEL, tools=", ".join(spec.name for spec in specs))
    return Rules(parse(text, "tested.yaml", specs), specs)


@asynccontextmanager
async def open_world(folder: Path) -> AsyncIterator[World]:
    """A world whose journal lies in `folder`."""
    journal = SqliteJournal.open(folder / "remit.db", SystemClock())
    try:
        yield World(journal)
    finally:
        await journal.close()
