"""Homes for the acceptance tests, and the runs that several of them look at."""

from __future__ import annotations

from pathlib import Path

import pytest
from acceptance_cli import Cli


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home")
