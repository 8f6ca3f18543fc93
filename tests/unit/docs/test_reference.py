"""The documentation says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remit.cli.main import _COMMANDS
from remit.cli.reference import pages
from remit.governance.schema import Agent, CostControls, DataAccess, Timeouts

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", sorted(pages()))
def test_a_page_made_from_the_code_is_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == pages()[name], "run: python -m remit.cli.reference docs"


def test_every_key_of_the_governance_file_is_documented() -> None:
    page = (ROOT / "docs" / "governance-file.md").read_text()
    keys = {*Agent.model_fields, *DataAccess.model_fields, *CostControls.model_fields, *Timeouts.model_fields}
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


def test_every_command_stands_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in _COMMANDS if f"`remit {name}" not in readme] == []


def test_every_environment_variable_of_ours_is_documented() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()
    used = set()
    for path in (ROOT / "src").rglob("*.py"):
        used |= set(re.findall(r'"(REMIT_[A-Z_]+)"', path.read_text()))
    assert [name for name in sorted(used) if f"`{name}`" not in page] == []


def test_every_relative_link_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
