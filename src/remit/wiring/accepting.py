"""What an MCP server offers now, beside what was accepted of it, and accepting it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from remit.adapters.tools.mcp.pins import Difference, Pins, differences, read_pins, shown, written
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
    """The listed tools of a server that are not as they were accepted; `file`: where that stands.

    `accepted_server`: what it called itself then, where it calls itself something else now; else empty.
    """

    server: str
    accepted_server: str
    file: Path
    changed: Mapping[str, Sequence[Difference]]
    pins: Pins
    unlisted: tuple[str, ...]

    def accept(self) -> None:
        """Write down that the tools are as they should be."""
        draft = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        draft.write_bytes(written(self.pins))
        os.replace(draft, self.file)


async def offered(
    config: Path, toolset: str, environment: Mapping[str, str], only: Collection[str] = ()
) -> Offer:
    """What the server of a toolset says now of its listed tools, or of `only` some of them, by the server's names.

    Raises: ConfigErrors; RemitError `config.missing`, `usage.invalid`, `toolset.unavailable`.
    """
    section = _section(config, toolset)
    for name in only:
        if name not in section.tools:
            cause = f"it lists {', '.join(section.tools)}"
            raise RemitError("usage.invalid", f"{toolset} lists no tool {name!r}", cause=cause)
    with extra("mcp"):
        from remit.adapters.tools.mcp.connection import described, transport_of  # noqa: PLC0415 - an extra
    server, now = await described(transport_of(section, config.parent, environment, SystemClock()))
    file = pins_file(toolset, section, config.parent)
    accepted = _accepted(file, toolset)
    looked_at = [name for name in section.tools if not only or name in only]
    missing = [name for name in looked_at if name not in now]
    if missing:
        cause = f"it has {', '.join(shown(name) for name in sorted(now)[:30])}"
        raise RemitError("usage.invalid", f"the server has no tool {missing[0]!r}", cause=cause)
    kept = {name: pin for name, pin in accepted.tools.items() if name in section.tools}
    # in part, what it was called when all was looked at stands: until all is again, it is told
    pins = Pins(
        server=accepted.server if only and kept else server,
        tools=kept | {name: now[name] for name in looked_at},
    )
    return Offer(
        server=server,
        accepted_server=accepted.server if accepted.server != server else "",
        file=file,
        changed={
            name: tuple(differences(accepted.tools.get(name), now[name]))
            for name in looked_at
            if name not in accepted.tools or accepted.tools[name].digest != now[name].digest
        },
        pins=pins,
        unlisted=tuple(shown(name) for name in sorted(now.keys() - section.tools.keys())),
    )


def _accepted(file: Path, toolset: str) -> Pins:
    try:
        return read_pins(file, toolset)
    except RemitError as error:
        if error.code != "mcp.unpinned":
            raise
        return Pins()


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
