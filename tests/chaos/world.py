"""The parts of the drill as real processes: database, mail server, model server, workers."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "PYTHONPATH")
ROOT = Path(__file__).parents[2]
REMIT = Path(sys.executable).with_name("remit")
CLOCK = Path(__file__).parent / "clock"

CONFIG = """agent:
  name: drill
  model: claude-sonnet-4-20260514
  max_retries: 10
  max_concurrent_runs: {slots}
  max_steps: 10
  allowed_tools: [search_kb, create_ticket, send_email]
  data_access: {{allow_internal_docs: true}}
  rate_limits: {{max_tickets_per_hour: 100000, max_emails_per_hour: 100000, max_searches_per_minute: 100000}}
  timeouts: {{run_s: 600, tool_call_s: 20}}
  cost_controls: {{max_daily_spend_usd: {cap}, max_cost_per_run_usd: 1.00, alert_on_threshold: 0.8}}
"""
SCRIPT = """name: drill
match: 'drill (?P<number>[0-9]+)'
turns:
  - after: PAUSE
    call:
      - {tool: search_kb, args: {query: refund}}
      - {tool: create_ticket, args: {customer_id: C-1042, issue: "drill {{ match.number }}", priority: low}}
  - after: PAUSE
    call:
      - {tool: send_email, args: {to: a@example.com, subject: "drill {{ match.number }}", body: hello}}
  - after: PAUSE
    say: done
"""


def make_agent(folder: Path, *, slots: int, cap_usd: str, pause_s: float) -> Path:
    """An agent in `folder`, whose model takes `pause_s` for an answer; its configuration."""
    folder.mkdir(parents=True)
    for part in ("kb", "data"):
        (folder / part).symlink_to(ROOT / "examples" / "support" / part)
    (folder / "scripts").mkdir()
    (folder / "scripts" / "drill.yaml").write_text(SCRIPT.replace("PAUSE", str(pause_s)))
    config = folder / "agent-config.yaml"
    config.write_text(CONFIG.format(slots=slots, cap=cap_usd))
    return config


@contextmanager
def process(*command: str | Path, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed at the end. What it says on standard error goes to `log`."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env=kept | environment,
        ) as started,
    ):
        try:
            yield started
        finally:
            started.kill()


class Worker:
    """A worker's place: its process is started again whenever it has ended."""

    def __init__(self, number: int, folder: Path, config: Path, environment: dict[str, str]) -> None:
        self.home = folder / f"worker-{number}"
        self.log = folder / f"worker-{number}.log"
        self.clock = folder / f"worker-{number}.clock"
        self.clock.write_text("0")
        self._config = config
        self._environment = environment | {
            "PYTHONPATH": os.pathsep.join([str(CLOCK), os.environ.get("PYTHONPATH", "")]),
            "REMIT_CHAOS_CLOCK": str(self.clock),
            "REMIT_LOG": "off",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = self.log.open("ab")
        self._killed = False
        self.ended_by_itself = 0

    def supervise(self) -> None:
        """Start it where there is none."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None and not self._killed:
            self.ended_by_itself += 1
        self._killed = False
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        self._process = subprocess.Popen(
            [str(REMIT), "--home", str(self.home), "worker", str(self._config)],
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            cwd=ROOT,
            env=kept | self._environment,
        )

    def send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._killed = self._killed or number in (signal.SIGKILL, signal.SIGTERM)
            self._process.send_signal(number)

    async def freeze(self, seconds: float) -> None:
        """Stop it where it is, and let it wake as if nothing had been."""
        self.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self.send(signal.SIGCONT)

    def jump(self, chance: random.Random) -> float:
        """Set its clock to another time; by how many seconds it is off."""
        offset = chance.choice([-3600.0, -20.0, 20.0, 3600.0, 0.0])
        self.clock.write_text(str(offset))
        return offset

    def tickets(self) -> Counter[str]:
        """The tickets in its home, by the run that made them."""
        path = self.home / "support" / "tickets.db"
        if not path.exists():
            return Counter()
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT run_id, idempotency_key FROM tickets")
            return Counter(f"{run_id} {key}" for run_id, key in rows)

    def end(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
        self._errors.close()


def mails(path: Path) -> Counter[str]:
    """The mails that the witness took, by their subject."""
    if not path.exists():
        return Counter()
    return Counter(json.loads(line)["subject"] for line in path.read_text().splitlines())
