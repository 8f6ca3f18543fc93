"""What people wait for at the prompt, and what an idle agent holds in memory."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Measure, Options, Samples
from benchmarks.peers.environment import ROOT
from benchmarks.workload import resident_kb

EXAMPLE = ROOT / "examples" / "support" / "agent-config.yaml"
IDLE_S = 1.0


def measure(options: Options) -> list[Measure]:
    """`remit --version`, `remit check`, and the resident memory of an agent that has nothing to do."""
    remit = Path(sys.executable).parent / "remit"
    if not remit.exists():
        return [_failed("remit --version", "there is no remit command beside this Python (make setup)")]
    found = Samples()
    for _ in range(options.pick(3, 7)):
        found.add(
            floor_ms=_wall_ms([sys.executable, "-c", "pass"], options),
            version_ms=_wall_ms([str(remit), "--version"], options),
            check_ms=_wall_ms([str(remit), "check", str(EXAMPLE)], options),
        )
    floor = found.median("floor_ms")
    imports = "importing modules; nothing is opened"
    return [
        Measure(
            topic="start",
            name=name,
            unit="ms",
            samples=found.of(key),
            floor=floor,
            target=target,
            limited_by=limited_by,
        )
        for key, name, target, limited_by in (
            ("version_ms", "remit --version", 200.0, "starting Python, and click"),
            (
                "check_ms",
                "remit check",
                600.0,
                imports + "; pydantic and the schema of the file are most of it",
            ),
        )
    ] + [_memory(options, offline=True), _memory(options, offline=False)]


def _wall_ms(command: list[str], options: Options) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=options.folder, capture_output=True, check=True, timeout=60)
    return (time.perf_counter() - began) * 1e3


def _memory(options: Options, *, offline: bool) -> Measure:
    name = "RSS of an idle agent" + (", with the scripted model server" if offline else "")
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("REMIT_", "OTEL_"))}
    if not offline:
        variables["ANTHROPIC_API_KEY"] = "none-is-asked"
    command = [
        sys.executable,
        "-m",
        "benchmarks.start",
        "offline" if offline else "online",
        str(options.folder),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        return _failed(name, (done.stderr.strip() or "no message").splitlines()[-1][:200])
    idle_mb, bare_mb = (float(word) for word in done.stdout.split())
    return Measure(
        topic="start",
        name=name,
        unit="MB",
        samples=(idle_mb,),
        floor=bare_mb,
        target=150.0,
        limited_by="modules: the provider's client, and the libraries under it, are most of it",
    )


def _failed(name: str, problem: str) -> Measure:
    return Measure(topic="start", name=name, unit="", samples=(), limited_by="", problem=problem)


async def _idle_mb(*, offline: bool, folder: Path) -> float:
    # imported here so that the memory of a bare Python can be read before
    from remit.wiring.agent import AgentOptions, open_agent
    from remit.wiring.deployment import Deployment

    deployment = Deployment(home=folder / "home", environment=dict(os.environ))
    async with open_agent(deployment, AgentOptions(config=EXAMPLE, offline=offline)):
        await asyncio.sleep(IDLE_S)
        while any("warm" in str(task.get_coro()) for task in asyncio.all_tasks()):
            await asyncio.sleep(0.05)  # the client is still being loaded, and an agent at rest has it
        return resident_kb() / 1024


def main() -> None:
    """Print the resident memory, in MB, of an idle agent and of this Python before."""
    bare_mb = resident_kb() / 1024
    with tempfile.TemporaryDirectory(dir=sys.argv[2]) as folder:
        idle_mb = asyncio.run(_idle_mb(offline=sys.argv[1] == "offline", folder=Path(folder)))
    print(idle_mb, bare_mb)


if __name__ == "__main__":
    main()
