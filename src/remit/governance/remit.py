"""What one agent is authorised to do: a frozen value, compiled from its governance file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from remit.core.labels import DataClass
from remit.core.tools import Declared, ToolSpec
from remit.governance import conditions
from remit.governance.hooks import Hook
from remit.governance.memories import MemoryGrant
from remit.governance.schedules import Schedule
from remit.governance.toolsets import SupportToolset, Toolset


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """At most `limit` calls of the group's tools in any `span_s` seconds."""

    group: str
    limit: int
    span_s: int
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequirement:
    """A person must approve calls of `tool` that meet every condition."""

    tool: str
    tests: tuple[conditions.Test, ...]
    conditions: Mapping[str, Mapping[str, Any]]
    reason: str
    expires_s: int
    rule: str
    roles: tuple[str, ...] = ()
    quorum: int = 1
    remind_after_s: int | None = None
    escalate_after_s: int | None = None
    escalate_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Remit:
    """What one agent is authorised to do. Money in nano-USD, times in seconds. `height`: of the agents below it.

    `sources` gives `file:line` of each rule by its path in the file, such as `data_access.allow_pii`.
    """

    agent: str
    model: str
    fallback_models: tuple[str, ...]
    digest: str
    instructions: str
    max_retries: int
    max_concurrent_runs: int
    max_queued_runs: int
    max_steps: int
    max_output_tokens: int
    result_bytes_max: int
    allowed_tools: tuple[str, ...]
    denied_classes: frozenset[DataClass]
    records_max: int
    rate_limits: tuple[RateLimit, ...]
    cap_day_nano_usd: int
    cap_run_nano_usd: int
    alert_percent: int
    timezone: str
    run_timeout_s: float
    model_timeout_s: float
    tool_timeout_s: float
    approvals: tuple[ApprovalRequirement, ...]
    support: SupportToolset
    toolsets: tuple[NamedToolset, ...]
    answer_schema: Mapping[str, Any] | None
    memory: MemoryGrant | None
    agents: tuple[AskedAgent, ...]
    height: int
    max_agent_depth: int
    schedules: tuple[Schedule, ...]
    webhooks: tuple[Hook, ...]
    sources: Mapping[str, str]

    def family(self) -> Sequence[Remit]:
        """This remit and those of all agents that can be asked below it, each once."""
        found = {self.digest: self}
        for remit in (pending := [self]):
            below = {asked.remit.digest: asked.remit for asked in remit.agents}
            pending += [one for digest, one in below.items() if digest not in found]
            found |= below
        return pending

    @property
    def declared(self) -> tuple[ToolSpec, ...]:
        """The tools of its toolsets, in their order."""
        return tuple(spec for named in self.toolsets for spec in named.declared.specs)

    @property
    def reachable_tools(self) -> frozenset[str]:
        """The tools that are granted, to the agent itself or within a call of one that is."""
        return reachable(self.allowed_tools, self.declared)

    def toolsets_used(self) -> Iterator[NamedToolset]:
        """Those of its toolsets of which a tool is granted."""
        granted = self.reachable_tools
        return (named for named in self.toolsets if granted & {spec.name for spec in named.declared.specs})

    def source(self, rule: str) -> str:
        """`file:line` of `rule`, or of the nearest section above it that the file has.

        A rule of the deployment (`REMIT_...`) stands in the environment, that of a run above in its agent's file.
        """
        if rule.startswith("REMIT_"):
            return "environment"
        if rule.startswith(CALLER_RULE):
            return "the remit of the agent that asked"
        while rule not in self.sources:
            rule = rule.rpartition(".")[0]
        return self.sources[rule]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedAgent:
    """An agent that another may ask: by the tool `tool`, under its own remit, from the file `config`."""

    config: str
    tool: ToolSpec
    remit: Remit


def reachable(allowed: Iterable[str], tools: Iterable[ToolSpec]) -> frozenset[str]:
    """The tools that are allowed, and those that they use."""
    granted = frozenset(allowed)
    return granted.union(*(spec.uses for spec in tools if spec.name in granted))


CALLER_RULE = "caller."
"""Begins a rule of a run above: `caller.{agent}.` and its place in that agent's file."""


class NamedToolset(NamedTuple):
    """A toolset of the governance file, and the tools that it declares."""

    name: str
    section: Toolset
    declared: Declared
