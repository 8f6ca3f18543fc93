"""The section of a knowledge base: folders of pages that a tool searches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from remit.governance.fields import Section, Text
from remit.governance.toolsets.override import ToolOverride


class KnowledgeToolset(Section):
    """Folders of pages (Markdown, text, HTML, PDF), searched by the tool `search_<name>`."""

    kind: Literal["knowledge"]
    folders: dict[Text, Literal["public", "internal"]] = Field(
        min_length=1,
        max_length=100,
        description="Folders, relative to this file, each with the class of its pages that do not say.",
    )
    description: Text = Field(description="What the model is told of what can be found there.")
    tool: ToolOverride = ToolOverride()
