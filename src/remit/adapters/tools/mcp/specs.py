"""The declarations of an MCP server's tools, from what was accepted of them. Reaches nobody."""

from __future__ import annotations

import re
from pathlib import Path

from remit.adapters.tools.mcp.pins import Pin, read_pins
from remit.core.errors import RemitError
from remit.core.tools import Declared, ToolSpec
from remit.governance.toolsets import McpToolset

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def pins_file(name: str, section: McpToolset, folder: Path) -> Path:
    """Where what was accepted stands."""
    return folder / (section.pins or f"{name}.mcp.json")


def check(section: McpToolset) -> None:
    """Return where the section says one way to reach the server. Raises: RemitError `config.invalid`."""
    if sum(way is not None for way in (section.command, section.url, section.url_env)) != 1:
        raise RemitError("config.invalid", "a server has one of command, url and url_env")
    if section.command is None and (
        section.env or section.readable or section.network or section.unsafe_no_sandbox
    ):
        raise RemitError("config.invalid", "env, readable, network and unsafe_no_sandbox are for a command")
    for remote, given in section.tools.items():
        if given.name is None and not _NAME.fullmatch(remote):
            raise RemitError(
                "config.invalid", f"{remote[:60]!r} can be no name of a tool", remedy="give it a name"
            )


def declare_mcp(name: str, section: McpToolset, folder: Path) -> Declared:
    """The listed tools, as they were accepted. Raises: RemitError `mcp.unpinned`, `config.invalid`."""
    check(section)
    pins = read_pins(pins_file(name, section, folder), name)
    specs = []
    for remote, given in section.tools.items():
        if remote not in pins.tools:
            raise RemitError("mcp.unpinned", f"the tool {remote} of {name} has not been accepted yet")
        specs.append(given.tool.applied(_spec(given.name or remote, pins.tools[remote])))
    return Declared(tuple(specs), pins.digest)


def _spec(name: str, pin: Pin) -> ToolSpec:
    # what the server says of effects is not believed: undeclared counts as writing, once
    return ToolSpec(
        name=name,
        description=pin.description,
        args_schema=pin.input_schema,
        effect="write",
        idempotency="at_most_once",
        result_trust="untrusted",
        timeout_s=60.0,
    )
