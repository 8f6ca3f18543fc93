"""The same job by Remit and by a peer, each in processes of its own, taking turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Measure, Options, Samples
from benchmarks.peers.environment import ROOT, PeerUnavailable, python_of

PROCESS_S_MAX = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A system at the job. `scale`: how many runs it gets, in those of the slowest."""

    key: str
    label: str
    module: str
    scale: int
    peer: str | None = None

    def python(self) -> Path:
        """The Python that has it. Raises: PeerUnavailable."""
        return Path(sys.executable) if self.peer is None else python_of(f"peers-{self.peer}")


REMIT = Contestant(key="remit", label="Remit", module="benchmarks.remit_system", scale=5)
LANGGRAPH = Contestant(
    key="langgraph",
    label="LangGraph + SQLite saver",
    module="benchmarks.peers.langgraph_system",
    scale=1,
    peer="langgraph",
)

WARMING = 200
"""Runs before memory is measured: a worker's heap is no new one, and what it grows by is what a run needs."""

FIGURES = (
    (
        "ms_run",
        "one at a time",
        "ms/run",
        10.0,
        "12 governed calls, each two synced commits one after the other",
    ),
    ("cpu_ms_run", "one at a time, CPU", "ms/run", None, "Python: gate, SQL and telemetry of 12 calls"),
    ("runs_s", "100 at once", "runs/s", 400.0, "the processor: commits are shared, the interpreter is not"),
    ("lag_p99_ms", "lag p99, 100 at once, 50 ms model", "ms", 10.0, "bursts: all models answer together"),
    (
        "kb_parked",
        "a run that waits",
        "KB",
        20.0,
        "its conversation, its task and the frames of its coroutine",
    ),
    (
        "db_bytes_run",
        "databases",
        "bytes/run",
        24_576.0,
        "12 calls: two audit records, call, result and span each",
    ),
    ("import_s", "import", "s", None, "reading modules"),
)


def measure(options: Options) -> list[Measure]:
    """All figures of Remit and of LangGraph; a peer that cannot be had says why."""
    found, problems = Samples(), dict[str, str]()
    for _ in range(options.pick(1, 2)):
        for contestant in (REMIT, LANGGRAPH):
            plan = {name: count * contestant.scale for name, count in _plan(options).items()}
            _gather(contestant, plan, options, (found, problems))
    for contestant in (REMIT, LANGGRAPH):
        # memory once: it hardly varies, and a thousand waiting runs take the peer a minute and more
        _gather(contestant, {"conc": WARMING, "park": options.pick(100, 1000)}, options, (found, problems))
    return [
        _measure(contestant, figure, found, problems)
        for figure in FIGURES
        for contestant in (REMIT, LANGGRAPH)
    ]


def _plan(options: Options) -> dict[str, int]:
    return {"seq": options.pick(8, 30), "conc": 100, "lag": options.pick(100, 200)}


def _gather(
    contestant: Contestant, plan: dict[str, int], options: Options, into: tuple[Samples, dict[str, str]]
) -> None:
    found, problems = into
    if contestant.key in problems:
        return
    try:
        figures = _run(contestant, plan, options)
    except PeerUnavailable as error:
        problems[contestant.key] = str(error)
        return
    if "park" in plan:
        figures = {name: figure for name, figure in figures.items() if name == "kb_parked"}
    found.add(**{f"{contestant.key}_{name}": figure for name, figure in figures.items()})


def _run(contestant: Contestant, plan: dict[str, int], options: Options) -> dict[str, float]:
    environment = dict(os.environ, REMIT_BENCH_FOLDER=str(options.folder), PYTHONPATH=str(ROOT))
    command = [str(contestant.python()), "-m", "benchmarks.workload", contestant.module, json.dumps(plan)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PROCESS_S_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PeerUnavailable(f"it took longer than {PROCESS_S_MAX} s") from error
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise PeerUnavailable(f"it failed: {last[:200]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _measure(
    contestant: Contestant,
    figure: tuple[str, str, str, float | None, str],
    found: Samples,
    problems: dict[str, str],
) -> Measure:
    key, name, unit, target, limited_by = figure
    ours = contestant.peer is None
    return Measure(
        topic="job",
        name=f"{contestant.label}: {name}",
        unit=unit,
        samples=found.of(f"{contestant.key}_{key}"),
        better="more" if key == "runs_s" else "less",
        target=target if ours else None,
        # beside a peer the floor is Remit's figure of the same minutes
        floor=None if ours else found.median(f"{REMIT.key}_{key}"),
        limited_by=limited_by if ours else "its ratio is to Remit's figure",
        problem=problems.get(contestant.key, ""),
    )
