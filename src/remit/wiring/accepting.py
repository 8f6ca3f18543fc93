"""What an MCP server offers now, beside what was accepted of it, and accepting it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from remit.adapters.tools.mcp.pins import Pin, differences, read_pins, written
from remit.adapters.tools.mcp.specs import pins_file
from remit.core.errors import RemitError
from remit.governance import source
from remit.governance.schema import GovernanceFile
from remit.governance.source import ConfigErrors
from remit.governance.toolsets import McpToolset
from remit.runtime.clock import SystemClock
from remit.wiring.remits import text_of
from remit.wiring.toolsets import extra


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The listed tools of a server that are not as they were accepted; `file`: where that stands."""

    server: str
    file: Path
    changed: Mapping[str, Sequence[tuple[str, str]]]
    pins: Mapping[str, Pin]
    unlisted: tuple[str, ...]

    def accept(self) -> None:
        """Write down that the tools are as they should be."""
        draft = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        draft.write_bytes(written(self.server, self.pins))
        os.replace(draft, self.file)


async def offered(config: Path, toolset: str, environment: Mapping[str, str]) -> Offer:
    """What the server of a toolset says of its listed tools now.

    Raises: ConfigErrors; RemitError `config.missing`, `usage.invalid`, `toolset.unavailable`.
    """
    section = _section(config, toolset)
    with extra("mcp"):
        from remit.adapters.tools.mcp.toolset import described, transport_of  # noqa: PLC0415 - an extra
    server, now = await described(transport_of(section, config.parent, environment, SystemClock()))
    file = pins_file(toolset, section, config.parent)
    try:
        accepted, _ = read_pins(file, toolset)
    except RemitError as error:
        if error.code != "mcp.unpinned":
            raise
        accepted = {}
    missing = sorted(section.tools.keys() - now.keys())
    if missing:
        cause = f"it has {', '.join(sorted(now)[:30])}"
        raise RemitError("usage.invalid", f"the server has no tool {missing[0]!r}", cause=cause)
    pins = {name: now[name] for name in section.tools}
    changed = {
        name: tuple(differences(accepted.get(name), pin))
        for name, pin in pins.items()
        if name not in accepted or accepted[name].digest != pin.digest
    }
    return Offer(
        server=server,
        file=file,
        changed=changed,
        pins=pins,
        unlisted=tuple(sorted(now.keys() - section.tools.keys())),
    )


def _section(config: Path, toolset: str) -> McpToolset:
    """The section of a file that cannot be compiled yet, because nothing was accepted."""
    document = source.scan(text_of(config), str(config))
    if document.errors:
        raise ConfigErrors(list(document.errors))
    try:
        parsed = GovernanceFile.model_validate(document.value)
    except ValidationError as error:
        raise source.schema_errors(document, GovernanceFile, error) from None
    section = parsed.agent.toolsets.get(toolset)
    if not isinstance(section, McpToolset):
        known = [name for name, one in parsed.agent.toolsets.items() if isinstance(one, McpToolset)]
        cause = f"there are {', '.join(known) or 'none'}"
        raise RemitError("usage.invalid", f"{config} has no MCP server {toolset!r}", cause=cause)
    return section
