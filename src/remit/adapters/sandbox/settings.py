"""What a sandbox is to be: what it may see and use up, how many processes, how isolated."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from remit.adapters.sandbox.inside.limits import Limits
from remit.core.tools import Isolation


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """One sandbox: the texts of its modules by path, its packages, what it may read beside them, its limits.

    `isolation`: the least that will do; `exactly`: no more than that either. `warm`: processes that wait for a call; `processes_max`: at once, with those.
    """

    name: str
    sources: Mapping[str, str]
    venv: Path | None = None
    readable: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=lambda: Limits(memory_mb=512, cpu_s=30, work_mb=64))
    isolation: Isolation = "sandboxed"
    exactly: Isolation | None = None
    warm: int = 2
    processes_max: int = 16

    @property
    def python(self) -> str:
        """The interpreter that runs in it."""
        return sys.executable if self.venv is None else str(self.venv / "bin" / "python")
