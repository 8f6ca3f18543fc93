"""Puts an agent and all agents that it may ask together: each has its own tools, rules, gate and runner.

They share the journal, the model's clients and the telemetry, so a tenant's cap, pauses and slots hold over all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from remit.adapters.tools.support.settings import MAILDIR, SupportSettings
from remit.adapters.tools.support.specs import support_specs
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.remit import NamedToolset, Remit
from remit.governance.rules import Rules
from remit.ports.counting import TokenCounter
from remit.ports.effects import Model, ToolHost
from remit.ports.memory import Memory
from remit.runtime.delegation import Delegate, Delegation
from remit.runtime.direct import DirectCalls
from remit.runtime.registry import Registry
from remit.runtime.runner import Runner
from remit.wiring.deployment import Deployment
from remit.wiring.memories import note_tools, open_memory
from remit.wiring.toolsets import Place, open_toolset

if TYPE_CHECKING:
    from remit.adapters.tools.support.toolset import SupportToolset


_SUPPORT = frozenset(tool.name for tool in support_specs())


class Member(NamedTuple):
    """An agent that is ready to run."""

    rules: Rules
    runner: Runner
    direct: DirectCalls


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyParts:
    """What the agents share. What they open is closed with `stack`."""

    deployment: Deployment
    services: GateServices
    model: Model
    counter: TokenCounter
    stack: AsyncExitStack


class Family:
    """Opens each agent once, by whatever way it is asked."""

    def __init__(self, parts: FamilyParts) -> None:
        self._parts = parts
        self._members: dict[str, Member] = {}
        self._support: dict[tuple[Path, Path], SupportToolset] = {}
        self._told: list[str] = []
        self.memory: Memory | None = None

    @property
    def notices(self) -> tuple[str, ...]:
        """What people should know of the tools."""
        return (*(notice for toolset in self._support.values() for notice in toolset.notices), *self._told)

    @property
    def runners(self) -> Iterator[Runner]:
        """The runners of all agents."""
        return (member.runner for member in self._members.values())

    async def open(self, remit: Remit, config: Path) -> Member:
        """The agent of a governance file, and those that it may ask. Raises: RemitError `toolset.unavailable`."""
        known = self._members.get(remit.agent)
        if known is not None:
            return known
        parts = self._parts
        hosts: list[ToolHost] = []
        if _SUPPORT & remit.reachable_tools:
            hosts.append(self._open_support(remit, config.parent))
        hosts += [await self._open_toolset(remit, named, config.parent) for named in remit.toolsets_used()]
        memory = None
        if remit.memory is not None:
            memory = self._open_memory()
            hosts.append(note_tools(memory, remit.memory, parts.services.clock))
        granted = [asked for asked in remit.agents if asked.tool.name in remit.allowed_tools]
        if granted:
            delegates = [
                Delegate(
                    tool=asked.tool,
                    remit=asked.remit,
                    runner=(await self.open(asked.remit, config.parent / asked.config)).runner,
                )
                for asked in granted
            ]
            hosts.append(Delegation(delegates, parts.services.journal, parts.services.clock))
        tools = Registry(hosts)
        rules = Rules(remit, tools.specs)
        effects = Effects(model=parts.model, tools=tools, counter=parts.counter, memory=memory)
        gate = Gate(parts.services, effects)
        direct = DirectCalls(parts.services, gate, remit, tools.specs)
        member = self._members[remit.agent] = Member(rules, Runner(parts.services, gate, rules), direct)
        return member

    async def _open_toolset(self, remit: Remit, named: NamedToolset, folder: Path) -> ToolHost:
        deployment = self._parts.deployment
        stores = deployment.home / "toolsets" / remit.agent
        place = Place(
            folder=folder, stores=stores, environment=deployment.environment, clock=self._parts.services.clock
        )
        host = await open_toolset(named, place)
        self._told += host.notices
        self._parts.stack.push_async_callback(host.close)
        return host

    def _open_memory(self) -> Memory:
        if self.memory is None:
            self.memory = open_memory(self._parts.deployment)
            self._parts.stack.push_async_callback(self.memory.close)
        return self.memory

    def _open_support(self, remit: Remit, folder: Path) -> SupportToolset:
        # the stores are opened here and not in commands that only read declarations
        from remit.adapters.tools.support.toolset import open_support  # noqa: PLC0415

        kb, data = (folder / remit.support.kb).resolve(), (folder / remit.support.data).resolve()
        known = self._support.get((kb, data))
        if known is not None:
            return known
        deployment = self._parts.deployment
        settings = SupportSettings(
            kb=folder / remit.support.kb,
            data=folder / remit.support.data,
            # what is made of other folders lies elsewhere
            home=deployment.home / "agents" / remit.agent if self._support else deployment.home,
            mail=deployment.environment.get("REMIT_SMTP_URL", MAILDIR),
            sender=deployment.environment.get("REMIT_MAIL_SENDER", "support@example.com"),
        )
        toolset = open_support(settings, self._parts.services.clock, environment=deployment.environment)
        self._parts.stack.push_async_callback(toolset.close)
        self._support[kb, data] = toolset
        return toolset
