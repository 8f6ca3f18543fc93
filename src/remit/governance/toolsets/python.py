"""The section of tools that are Python functions, each call of which runs in a sandbox."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from remit.governance.fields import Section, Text, ToolName
from remit.governance.toolsets.override import ToolOverride


class PythonToolset(Section):
    """Functions marked `@tool`. Paths are relative to this file."""

    kind: Literal["python"]
    source: Text = Field(description="A file of tools, or a folder of modules.")
    venv: Text | None = Field(
        default=None,
        description="A virtual environment whose packages the tools import; they cannot change it.",
    )
    reads: list[Text] = Field(
        default_factory=list, max_length=50, description="Files and folders that the tools may read."
    )
    isolation: Literal["process", "sandboxed", "namespaced"] = Field(
        default="sandboxed", description="The least under which they may run; what cannot be had is refused."
    )
    memory_mb: Annotated[int, Field(ge=64, le=65_536)] = Field(default=512, description="Of one call.")
    cpu_s: Annotated[int, Field(ge=1, le=3_600)] = Field(default=30, description="Of one call.")
    work_mb: Annotated[int, Field(ge=1, le=4_096)] = Field(
        default=64, description="What one call may write into its work folder."
    )
    processes: Annotated[int, Field(ge=1, le=256)] = Field(default=8, description="Calls at once.")
    warm: Annotated[int, Field(ge=0, le=64)] = Field(
        default=2, description="Processes that wait, locked in, for the next call."
    )
    uses: list[ToolName] = Field(
        default_factory=list,
        max_length=100,
        description="Tools of other toolsets that they may call, by ctx.call, ctx.http and ctx.sql: each time under all that "
        "this file says of them.",
    )
    tools: dict[ToolName, ToolOverride] = Field(
        default_factory=dict, max_length=500, description="What this file declares of a tool, by its name."
    )
