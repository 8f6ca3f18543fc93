"""All the tools there are, from whatever hosts; each name stands for one tool."""

from __future__ import annotations

from collections.abc import Sequence

from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.tools import ToolSpec
from remit.ports.effects import CallContext, EffectFailed, ToolHost


class Registry:
    """A `ToolHost` made of hosts. Raises: RemitError `toolset.unavailable` where two tools share a name."""

    def __init__(self, hosts: Sequence[ToolHost]) -> None:
        self._hosts: dict[str, ToolHost] = {}
        for host in hosts:
            for spec in host.specs:
                if spec.name in self._hosts:
                    raise RemitError("toolset.unavailable", f"two toolsets have a tool named {spec.name!r}")
                self._hosts[spec.name] = host
        self._specs = tuple(spec for host in hosts for spec in host.specs)

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        return self._specs

    async def call(self, tool: str, args: Json, context: CallContext) -> Json:
        host = self._hosts.get(tool)
        if host is None:
            raise EffectFailed("tool.unknown", f"there is no tool {tool!r}")
        return await host.call(tool, args, context)
