"""Starts programs in the sandbox: the command line that locks one in, for whoever starts processes.

It needs namespaces, because only they end with all that a program has started. What cannot be had ends with exit code
126 and the reason on standard error, before the program has begun.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from remit import __file__ as package
from remit.adapters.sandbox.inside.limits import Limits

_MAIN = "import sys; sys.path.insert(0, sys.argv[1]); from remit.adapters.sandbox.inside.program import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramSettings:
    """What a program may read and run beside the system's own, whether it has the network, and its limits.

    With `network` it can reach whatever this machine can. `limits.memory_mb` bounds the address space of each process,
    which some runtimes reserve by the gigabyte.
    """

    readable: tuple[Path, ...] = ()
    network: bool = False
    limits: Limits = field(
        default_factory=lambda: Limits(memory_mb=4096, cpu_s=3600, work_mb=256, files=1024, processes=256)
    )


def locked_in(command: Sequence[str], settings: ProgramSettings) -> list[str]:
    """The command line that runs `command` in the sandbox; start it with the environment that the program is to have.

    Standard input, output and error are the program's. Killing it, or the end of its parent, ends all that it started.
    """
    setup = {
        "readable": [str(path.resolve()) for path in settings.readable],
        "network": settings.network,
        "limits": asdict(settings.limits),
    }
    root = str(Path(package).parents[1])
    return [sys.executable, "-I", "-S", "-B", "-c", _MAIN, root, orjson.dumps(setup).decode(), *command]
