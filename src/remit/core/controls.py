"""What is paused, and what an agent has under way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Something that is paused, such as `agent:{tenant}/{agent}` or `tool:{tool}`, since when, and why."""

    scope: str
    reason: str
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLoad:
    """How many runs of an agent have not ended."""

    tenant: str
    agent: str
    queued: int
    running: int
    suspended: int
