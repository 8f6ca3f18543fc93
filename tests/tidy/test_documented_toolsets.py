"""Each governance file in the pages on toolsets is one that loads: its keys, and the tools that it grants."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from remit.core.tools import Declared
from remit.governance.compiler import Surroundings, parse
from remit.governance.remit import Remit
from remit.governance.toolsets import KnowledgeToolset, MailToolset, SqlToolset, Toolset
from remit.wiring.toolsets import declare

ROOT = Path(__file__).parents[2]
PAGES = ("sql", "mail", "knowledge", "http", "mcp")
NEEDED = {
    "name": "a",
    "model": "m",
    "cost_controls": {"max_daily_spend_usd": 1, "max_cost_per_run_usd": 1},
}


def files() -> Iterator[Any]:
    for page in PAGES:
        text = (ROOT / "docs" / f"{page}.md").read_text()
        blocks = [
            one for one in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if one.startswith("agent:")
        ]
        assert blocks, page
        for number, block in enumerate(blocks):
            yield pytest.param(block, id=f"{page}-{number}")


@pytest.mark.parametrize("block", list(files()))
def test_a_documented_file_loads(block: str, tmp_path: Path) -> None:
    given = NEEDED | yaml.safe_load(block)["agent"]
    # what is declared by files beside it is tried by the tests of its kind
    elsewhere = {name for name, one in given["toolsets"].items() if one["kind"] in ("http", "mcp")}

    def declared(name: str, section: Toolset) -> Declared:
        if not isinstance(section, KnowledgeToolset | MailToolset | SqlToolset):
            return Declared((), "d")
        return declare(name, section, tmp_path)

    if elsewhere:
        given["allowed_tools"] = []
        given.pop("rate_limits", None)
    remit = parse(yaml.safe_dump({"agent": given}), "a.yaml", (), around=Surroundings(declare=declared))
    assert isinstance(remit, Remit)
    assert {named.name for named in remit.toolsets} == set(given["toolsets"])
