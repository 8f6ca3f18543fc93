"""The command line as its users have it: the console script, as a process, in an environment of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from remit.ports.journal import AuditQuery, JournalReads
from remit.wiring.deployment import Deployment, open_reader

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "support"
CONFIG = EXAMPLE / "agent-config.yaml"
SCRIPT = Path(sys.executable).with_name("remit")
PATIENCE_S = 100.0
"""How long a test waits for a process; only a broken process takes that long."""


@dataclass(frozen=True)
class Finished:
    """A process that ended."""

    exit: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document and nothing else."""
        return json.loads(self.stdout)


class Cli:
    """`remit` with a home of its own and nothing inherited that could steer it."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.environment = environment

    def run(self, *arguments: str | Path, stdin: str | None = None, cwd: Path | None = None) -> Finished:
        """Run to the end."""
        done = subprocess.run(
            self.command(arguments),
            input=None if stdin is None else stdin.encode(),
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env=self._environment(),
            cwd=cwd or ROOT,
            timeout=PATIENCE_S,
            check=False,
        )
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())

    @contextlib.contextmanager
    def started(self, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        """A process that is on; it is killed at the end, should it still be there."""
        with subprocess.Popen(
            self.command(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment(),
            cwd=ROOT,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def ask(self, *arguments: str | Path) -> Any:
        """The JSON that a reading command prints."""
        done = self.run(*arguments, "--json")
        assert done.exit == 0, done.stderr
        return done.json

    def read(self, query: Callable[[JournalReads], Awaitable[T]]) -> T | None:
        """What the journal says, asked in this process: for what lasts no longer than a process needs to start."""

        async def asked() -> T | None:
            async with open_reader(Deployment(home=self.home, environment=self.environment)) as journal:
                return None if journal is None else await query(journal)

        return asyncio.run(asked())

    def records(self, query: AuditQuery) -> list[dict[str, Any]]:
        """Audit records as `audit search` prints them."""
        entries = self.read(lambda journal: journal.audit(query)) or ()
        return [{"seq": entry.seq} | json.loads(entry.body) for entry in entries]

    def begun(self, call: str, process: subprocess.Popen[bytes]) -> Any:
        """The intent of `call` (such as `2.m1`) as soon as it is on record, while `process` is at it."""

        def found() -> list[Any]:
            if process.poll() is not None:
                raise AssertionError(f"the process ended before {call}: {process.communicate()}")
            return [one for one in self.records(AuditQuery(open_only=True)) if one["call"] == call]

        (intent,) = until(found, f"an open intent of {call}")
        return intent

    def task(self, task: str, *arguments: str | Path, config: Path = CONFIG) -> Finished:
        """A run with the scripted model, its result as JSON."""
        return self.run("run", config, "--offline", "--json", "--task", task, *arguments)

    def log(self) -> list[dict[str, Any]]:
        """The log's lines."""
        return [json.loads(line) for line in (self.home / "remit.log").read_text().splitlines()]

    def command(self, arguments: tuple[str | Path, ...]) -> list[str]:
        return [str(SCRIPT), "--home", str(self.home), *map(str, arguments)]

    def _environment(self) -> Mapping[str, str]:
        kept = ("PATH", "HOME", "TMPDIR", "LANG", "SYSTEMROOT")
        inherited = {name: os.environ[name] for name in kept if name in os.environ}
        return inherited | {"PYTHONUTF8": "1"} | self.environment


def until(found: Callable[[], Any], what: str) -> Any:
    """What `found` returns as soon as it is true. Waits for an event, never for a time."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come about in {PATIENCE_S:g} s")


def agent_folder(folder: Path, *, config: str = "", scripts: Mapping[str, str] | None = None) -> Path:
    """An agent in `folder`: the example's, with another configuration or other scripts; its config's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("kb", "data"):
        (folder / part).symlink_to(EXAMPLE / part)
    if scripts is None:
        shutil.copytree(EXAMPLE / "scripts", folder / "scripts")
    else:
        (folder / "scripts").mkdir()
        for name, text in scripts.items():
            (folder / "scripts" / f"{name}.yaml").write_text(text)
    path = folder / "agent-config.yaml"
    path.write_text(config or CONFIG.read_text())
    return path


def changed(*replacements: tuple[str, str]) -> str:
    """The example's configuration with each `old` replaced by its `new`; `old` must be there."""
    text = CONFIG.read_text()
    for old, new in replacements:
        assert old in text, f"{old!r} is not in the example's configuration"
        text = text.replace(old, new)
    return text
