"""The section of a knowledge base: a folder of pages that a tool searches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from remit.governance.fields import Section, Text
from remit.governance.toolsets.override import ToolOverride


class KnowledgeToolset(Section):
    """A folder of pages, searched by the tool `search_<name>`. Paths are relative to this file."""

    kind: Literal["knowledge"]
    folder: Text = Field(description="The folder of the pages.")
    description: Text = Field(description="What the model is told of what can be found there.")
    tool: ToolOverride = ToolOverride()
