"""A worker process after the other is killed in the middle of its calls; a model server outlives them all.

SQLite's journal allows one worker process for a home, so the processes come one after another, each with
sixteen runs under way. The server's bill, by model, is compared with the ledger after every kill.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import as_file, files
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from remit.adapters.journal.sqlite import SqliteReader
from remit.core.actions import Principal
from remit.core.money import format_usd, nano_usd
from remit.ports.journal import AuditQuery, Balance
from remit.testing.model_server import Chaos, RunningServer, Script, ServerOptions, serve
from remit.wiring.agent import AgentOptions, open_agent
from remit.wiring.deployment import JOURNAL_FILE, Deployment

WORKERS = 16
KILLS = 5
TASKS = 200
PATIENCE_S = 60.0
DONE, REFUSED, KILLED = 0, 3, -9
TENANT_CAP_USD = Decimal("2.00")
AGENT_SHARE = Decimal("0.75")
AGENTS = {"first": "claude-sonnet-4-20260514", "second": "gpt-5.1"}
PRELOADED = (
    "benchmarks.killed",
    "remit.adapters.models.anthropic_sdk",
    "remit.adapters.models.openai_sdk",
    "remit.adapters.tools.support.toolset",
    "genai_prices",
)
FILE = """agent:
  name: {name}
  model: {model}
  max_retries: 0
  max_concurrent_runs: 16
  max_output_tokens: 600
  allowed_tools: [search_kb]
  timeouts: {{model_call_s: {timeout_s}}}
  cost_controls: {{max_daily_spend_usd: {cap}, max_cost_per_run_usd: 2.00}}
"""
SCRIPT = {
    "name": "speak",
    "match": r"^speak (?P<words>.*)",
    "turns": [
        {"call": [{"tool": "search_kb", "args": {"query": "refund"}}]},
        {"say": "{{ match.words }}"},
    ],
}


class Unread:
    """Where a stream's text goes that nobody reads."""

    def text(self, attempt: int, text: str) -> None:
        """The text is dropped."""

    def reset(self, attempt: int) -> None:
        """There is nothing to take back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The journal's money at one moment, by scope, and the server's bill, read after it, by model."""

    balances: dict[str, Balance]
    bills: dict[str, int]

    @property
    def tenant(self) -> Balance:
        """The scope over all agents."""
        return self.balances["tenant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How a trial ended: money in nano-USD, and how many processes were killed."""

    bill: int
    spent: int
    presumed: int
    cap: int
    kills: int

    @property
    def bill_share(self) -> float:
        """The bill in caps."""
        return self.bill / self.cap

    @property
    def ledger_share(self) -> float:
        """The ledger in caps."""
        return self.spent / self.cap

    def describe(self) -> str:
        """The trial in one line."""
        return (
            f"{self.kills} kills, bill {format_usd(self.bill)}, ledger {format_usd(self.spent)} "
            f"({format_usd(self.presumed)} of it presumed), cap {format_usd(self.cap)}; "
            f"utilisation: ledger {self.ledger_share:.1%}, bill {self.bill_share:.1%}"
        )


QUIET = Chaos(seed=0, limited=0, failed=0, cut=0, hung=0, slow=0)


def stormy(seed: int) -> Chaos:
    """Limits, failures, cuts in the middle, answers that never come after their bill, slow drips."""
    return Chaos(seed=seed, limited=20, failed=20, cut=100, hung=60, slow=100, slow_s=0.02)


async def endure(
    folder: Path,
    seed: int,
    *,
    chaos: Chaos,
    kills: int = KILLS,
    cap_usd: Decimal = TENANT_CAP_USD,
) -> Trial:
    """Kill `kills` processes at moments that `seed` chooses, then let others spend the rest of the cap.

    Raises: AssertionError as soon as `bill <= spent + held <= cap` fails at a scope, or a hold is freed that
    nobody could confirm.
    """
    chance = random.Random(seed)
    # where nothing hangs, a machine that is slow for a moment must not look like it
    _make_agents(folder, cap_usd * AGENT_SHARE, timeout_s=1 if chaos.hung else 60)
    caps = {**dict.fromkeys(AGENTS, nano_usd(cap_usd * AGENT_SHARE)), "tenant": nano_usd(cap_usd)}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    before: Ledger | None = None
    async with serve([Script.model_validate(SCRIPT)], ServerOptions(chaos=chaos)) as server:
        number, left = 0, list(AGENTS)
        while left:
            is_killed = number < kills
            name = chance.choice(list(AGENTS)) if is_killed else left[0]
            process = context.Process(
                target=_work,
                args=(folder / f"{name}.yaml", cap_usd, server.base_url, f"{seed}/{number}"),
                daemon=True,
            )
            process.start()
            if is_killed:
                await _kill(process, server, chance)
            exitcode = await _exitcode(process)
            assert exitcode in (DONE, REFUSED, KILLED), f"seed {seed}, process {number}: exit {exitcode}"
            if not is_killed and exitcode == REFUSED:
                left.remove(name)
            after = await _read(folder, server)
            _check(f"seed {seed}, process {number} ({name})", caps, before, after)
            before, number = after, number + 1
        # what a connection had in it when its process was killed may be billed later
        last = await _read(folder, server)
        _check(f"seed {seed}, at the end", caps, before, last)
    assert last.tenant.held_nano_usd == 0, f"seed {seed}: {last.tenant}"
    bill = sum(last.bills.values())
    return Trial(
        bill=bill,
        spent=last.tenant.spent_nano_usd,
        presumed=last.tenant.presumed_nano_usd,
        kills=kills,
        cap=caps["tenant"],
    )


def _make_agents(folder: Path, cap_usd: Decimal, *, timeout_s: int) -> None:
    with as_file(files("remit.cli") / "template") as template:
        for part in ("kb", "data"):
            shutil.copytree(template / part, folder / part)
    for name, model in AGENTS.items():
        (folder / f"{name}.yaml").write_text(
            FILE.format(name=name, model=model, cap=cap_usd, timeout_s=timeout_s), encoding="utf-8"
        )


async def _kill(process: ForkServerProcess, server: RunningServer, chance: random.Random) -> None:
    """SIGKILL once the server has billed so many more calls, and a moment later."""
    due = server.bill["calls"] + chance.choice((0, chance.randint(1, 10), chance.randint(10, 40)))
    while server.bill["calls"] < due and process.is_alive():
        await asyncio.sleep(0.001)
    await asyncio.sleep(chance.random() * 0.03)
    process.kill()


async def _exitcode(process: ForkServerProcess) -> int | None:
    async with asyncio.timeout(PATIENCE_S):
        while process.is_alive():
            await asyncio.sleep(0.005)
    exitcode = process.exitcode
    process.close()
    return exitcode


async def _read(folder: Path, server: RunningServer) -> Ledger:
    """The ledger first and the bill after it: a bill that grows in between must be covered too."""
    path = folder / "home" / JOURNAL_FILE
    balances = {
        name: Balance(scope=name, spent_nano_usd=0, held_nano_usd=0, presumed_nano_usd=0)
        for name in (*AGENTS, "tenant")
    }
    if path.exists():
        reader = SqliteReader(path)
        try:
            for balance in await reader.balances():
                kind, _, rest = balance.scope.partition(":")
                if kind != "run":
                    balances["tenant" if kind == "tenant" else rest.split("/")[1]] = balance
            assert not await reader.audit(AuditQuery(kind="overrun")), "a call cost more than was held for it"
        finally:
            await reader.close()
    bills = {model: line["cost_nano_usd"] for model, line in server.bill["by_model"].items()}
    return Ledger(balances=balances, bills=bills)


def _check(when: str, caps: dict[str, int], before: Ledger | None, after: Ledger) -> None:
    bills = {name: after.bills.get(model, 0) for name, model in AGENTS.items()}
    bills["tenant"] = sum(after.bills.values())
    for name, cap in caps.items():
        balance = after.balances[name]
        ledger = balance.spent_nano_usd + balance.held_nano_usd
        assert bills[name] <= ledger <= cap, f"{when}: {name}: bill {bills[name]}, {balance}, cap {cap}"
        if before is not None:
            # its process is dead, so nobody can confirm what it held: held it stays, or presumed spent
            was, now = before.balances[name], balance
            kept = now.presumed_nano_usd + now.held_nano_usd
            assert kept >= was.presumed_nano_usd + was.held_nano_usd, f"{when}: {name}: {was} became {now}"


def _work(config: Path, cap_usd: Decimal, url: str, seed: str) -> None:
    """The process that is killed: an agent of the product's own making, with sixteen runs at a time."""
    environment = {
        "ANTHROPIC_API_KEY": "any",
        "ANTHROPIC_BASE_URL": url,
        "OPENAI_API_KEY": "any",
        "OPENAI_BASE_URL": f"{url}/v1",
        "REMIT_TENANT_DAILY_USD": str(cap_usd),
        "REMIT_LOG": "off",
    }
    deployment = Deployment(home=config.parent / "home", environment=environment)
    with suppress(KeyboardInterrupt):  # who stops the measurement sees no trace of this process
        sys.exit(asyncio.run(_runs(deployment, config, random.Random(seed))))


async def _runs(deployment: Deployment, config: Path, chance: random.Random) -> int:
    """Tasks of chance size until three in a row were refused for want of money (3), or all are done (0)."""
    tasks = iter([f"speak {'word ' * chance.randint(1, 600)}" for _ in range(TASKS)])
    refused = 0

    async with open_agent(deployment, AgentOptions(config=config)) as agent:

        async def work(number: int) -> None:
            nonlocal refused
            stream: Any = Unread() if number % 2 else None
            for task in tasks:
                result = await agent.runner.run(task, Principal(kind="user", id="u"), stream)
                refused = refused + 1 if result.end.code == "budget.exhausted" else 0
                if refused >= 3:
                    return

        await asyncio.gather(*(work(number) for number in range(WORKERS)))
    return REFUSED if refused >= 3 else DONE
