"""The section of the built-in support tools."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from remit.governance.fields import Section, Text


class SupportToolset(Section):
    """Where the built-in support tools find their data. Paths are relative to this file."""

    kind: Literal["support"] = "support"
    kb: Text = Field(default="kb", description="A folder of Markdown pages.")
    data: Text = Field(default="data", description="A folder of CSV tables with a tables.yaml.")
