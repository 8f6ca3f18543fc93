"""What serves an agent's tools over MCP. An extra: imported where it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from mcp.server import Server

from remit.adapters.tools.mcp.http_serving import HttpOptions as HttpOptions
from remit.adapters.tools.mcp.http_serving import serve_http as serve_http
from remit.adapters.tools.mcp.http_serving import who_by as who_by
from remit.adapters.tools.mcp.serving import Reply, server_of
from remit.adapters.tools.mcp.serving import serve_stdio as serve_stdio
from remit.adapters.tools.mcp.tokens import Tokens as Tokens
from remit.core.actions import Principal
from remit.core.canonical import Json
from remit.core.decisions import Decision
from remit.core.errors import RemitError
from remit.core.outcomes import Done, Failed, Outcome, Refused, Suspended
from remit.runtime.callers import Callers
from remit.wiring.agent import OpenAgent

_CUT = "the result was cut to what this agent may receive; narrow the request for the rest"


@asynccontextmanager
async def mcp_server(agent: OpenAgent, who: Callable[[Any], Principal]) -> AsyncIterator[Server[Any]]:
    """A server of what the agent is granted, until the block ends. Raises: RemitError `journal.unavailable`."""
    callers = Callers(agent.direct, agent.journal, agent.clock, "remit mcp serve")
    await callers.recover()
    granted = [agent.rules.tools[name] for name in agent.remit.allowed_tools if name in agent.rules.tools]

    async def call(principal: Principal, name: str, args: dict[str, Any]) -> Reply:
        try:
            outcome = await callers.call(principal, name, args)
        except RemitError as error:  # no run could be begun for it: nothing was done
            told = {"code": error.code, "message": error.message, "remedy": error.remedy}
            return Reply({"error": told}, is_error=True)
        if isinstance(outcome, Done):
            notes = [_CUT] * outcome.truncated + [outcome.note] * bool(outcome.note)
            return Reply(outcome.value, note="\n".join(f"[remit: {note}]" for note in notes))
        return Reply({"error": _error(outcome)}, is_error=True)

    tending = asyncio.create_task(callers.tend())
    try:
        yield server_of(agent.remit.agent, granted, call, who)
    finally:
        tending.cancel()
        await asyncio.wait({tending})
        await callers.close()


def _error(outcome: Outcome) -> dict[str, Json]:
    """Why a call was not done, or that nobody knows, as its caller is told it."""
    match outcome:
        case Refused(decision=decision):
            return _decided(decision, decision.remedy)
        case Suspended(decision=decision, approval_id=approval):
            if not approval:
                return _decided(decision, "make the same call again later")
            remedy = f"a person has to approve {approval} first; then make the same call again"
            return _decided(decision, remedy) | {"approval": approval}
        case Failed(code=code, message=message, retryable=retryable, happened=happened):
            remedy = "the call took effect: do not repeat it" if happened else ""
            return {"code": code, "message": message, "retryable": retryable, "remedy": remedy}
    return {
        "code": "effect.unknown",
        "message": "nobody knows whether it was done",
        "remedy": "do not repeat it: ask whoever runs this agent",
    }


def _decided(decision: Decision, remedy: str) -> dict[str, Json]:
    return {
        "code": decision.code,
        "message": decision.explain(),
        "rule": decision.rule,
        "source": decision.source,
        "remedy": remedy,
    }
