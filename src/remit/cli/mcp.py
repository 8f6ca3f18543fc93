"""`remit mcp`: an agent's tools for other programs, within its remit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from remit.cli.asynchronous import run_async
from remit.cli.people import as_option, person
from remit.core.actions import Principal
from remit.core.canonical import Json
from remit.core.outcomes import Done, Failed, Outcome, Refused, Suspended
from remit.core.runs import RunEnd
from remit.wiring.agent import AgentOptions, open_agent
from remit.wiring.deployment import Deployment
from remit.wiring.toolsets import extra


@click.group(epilog="\b\nExamples:\n  remit mcp serve agent-config.yaml\n")
def command() -> None:
    """The tools of an agent for any MCP client: an IDE, another agent."""


@command.command("serve", epilog="\b\nExamples:\n  remit mcp serve agent-config.yaml --as ana\n")
@click.argument("config", type=click.Path(path_type=Path))
@as_option
@click.pass_obj
def serve(home: Path, /, config: Path, as_name: str | None) -> None:
    """Offer the tools that CONFIG grants to an MCP client over standard input and output, until it goes.

    Each call is decided, limited, recorded and held for a person as one of the agent's own would be. The session is a run
    in the journal, for whoever started this command (or --as).
    """
    os.umask(0o077)  # what is kept of a run is for whoever runs it
    deployment = Deployment(home=home, environment=_quiet(os.environ))
    run_async(_serve(deployment, config, person(as_name)))


async def _serve(deployment: Deployment, config: Path, who: Principal) -> None:
    with extra("mcp"):
        from remit.wiring.mcp_server import Reply, serve_stdio, server_of  # noqa: PLC0415 - an extra
    async with open_agent(deployment, AgentOptions(config=config, asks_models=False)) as agent:
        run = await agent.direct.begin(who, "remit mcp serve")
        granted = [agent.rules.tools[name] for name in agent.remit.allowed_tools if name in agent.rules.tools]

        async def call(name: str, args: dict[str, Any], call_id: str) -> Reply:
            outcome = await run.call(name, args, call_id)
            if isinstance(outcome, Done):
                return Reply(outcome.value)
            return Reply({"error": _error(outcome)}, is_error=True)

        try:
            await serve_stdio(server_of(agent.remit.agent, granted, call))
        finally:
            await run.end(RunEnd(status="succeeded"))


def _error(outcome: Outcome) -> dict[str, Json]:
    """Why a call was not done, or that nobody knows, as its caller is told it."""
    match outcome:
        case Refused(decision=decision):
            return {
                "code": decision.code,
                "message": decision.explain(),
                "rule": decision.rule,
                "remedy": decision.remedy,
            }
        case Suspended(decision=decision, approval_id=approval):
            message = (
                f"{decision.explain()}: a person has to approve it first. Then make the same call again."
            )
            return {"code": decision.code, "message": message, "approval": approval}
        case Failed(code=code, message=message, retryable=retryable):
            return {"code": code, "message": message, "retryable": retryable}
    return {"code": "effect.unknown", "message": "nobody knows whether it was done: do not repeat it"}


def _quiet(environment: Any) -> dict[str, str]:
    """Standard output is the protocol's: no log goes there."""
    given = dict(environment)
    if given.get("REMIT_LOG") == "stdout":
        given["REMIT_LOG"] = "stderr"
    return given
