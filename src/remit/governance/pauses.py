"""What can be paused to stop an action: everything, the agent, the agents above it, the one resource."""

from __future__ import annotations

from collections.abc import Sequence

from remit.core.actions import Action
from remit.core.runs import Ceiling, Run
from remit.core.tools import ToolSpec


def agent_scopes(tenant: str, *agents: str) -> tuple[str, ...]:
    """What can be paused to stop agents."""
    return ("all", *(f"agent:{tenant}/{agent}" for agent in agents))


def scopes(
    run: Run, action: Action, callers: Sequence[Ceiling] = (), tool: ToolSpec | None = None
) -> tuple[str, ...]:
    """The scopes of which none may be paused. An agent that is paused is not asked either (`tool`)."""
    agents = [run.agent, *(caller.agent for caller in callers)]
    if tool is not None and tool.agent is not None:
        agents.append(tool.agent)
    return (*agent_scopes(run.tenant, *agents), f"{action.kind}:{action.resource}")
