"""The command line in this process: the real entry point, its exit code and what it printed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from remit.cli.main import main

Remit = Callable[..., "Printed"]


@dataclass(frozen=True)
class Printed:
    exit: int
    stdout: str
    stderr: str


@pytest.fixture
def remit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Remit:
    """`remit(*arguments)` with a home of its own."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "REMIT_HOME", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str | Path) -> Printed:
        monkeypatch.setattr(sys, "argv", ["remit", "--home", str(tmp_path / "home"), *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return Printed(code, printed.out, printed.err)

    return run
