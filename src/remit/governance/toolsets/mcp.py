"""The section of an MCP server: how it is reached, and which of its tools may be called."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from remit.governance.fields import EnvName, Section, Text, ToolName
from remit.governance.toolsets.http import OneHost
from remit.governance.toolsets.override import ToolOverride

RemoteName = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class McpTool(Section):
    """One tool of the server's."""

    name: ToolName | None = Field(default=None, description="The tool's name here; the server's by default.")
    tool: ToolOverride = ToolOverride()


class McpToolset(Section):
    """An MCP server. Only the listed tools are there, each as it was accepted (`remit tools accept`)."""

    kind: Literal["mcp"]
    command: list[Text] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="The program and its arguments, which speaks over stdio; what begins with ./ is relative to this file.",
    )
    env: dict[EnvName, EnvName] = Field(
        default_factory=dict,
        max_length=50,
        description="For the program: its variables, each from one of ours. It gets no other.",
    )
    readable: list[Text] = Field(
        default_factory=list,
        max_length=50,
        description="For the program: what it may read and run, beside the system's own; relative to this file.",
    )
    network: bool = Field(default=False, description="Whether the program has the network of this machine.")
    unsafe_no_sandbox: bool = Field(
        default=False, description="Let the program run with all the rights of whoever runs Remit."
    )
    url: Text | None = Field(default=None, description="Or the address of a server over streamable HTTP.")
    url_env: EnvName | None = None
    bearer_env: EnvName | None = None
    inner_hosts: list[OneHost] = Field(default_factory=list, max_length=20)
    pins: Text | None = Field(
        default=None,
        description="The file of what was accepted, relative to this one; <name>.mcp.json by default.",
    )
    tools: dict[RemoteName, McpTool] = Field(min_length=1, max_length=500)
    message_bytes_max: int = Field(
        default=4_000_000, ge=10_000, le=100_000_000, description="Of one message of the server's."
    )
