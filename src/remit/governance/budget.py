"""How much one call may cost at most, and where that money is held before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from remit.core import days
from remit.core.actions import ModelCall
from remit.core.messages import KnownPrefix, ModelRequest
from remit.core.runs import Ceiling, Run
from remit.governance.bounds import input_tokens_max
from remit.governance.remit import CALLER_RULE, Remit
from remit.ports.journal import Hold
from remit.ports.services import Prices

OUTPUT_TOKENS_MIN = 256
"""A reply shorter than this is of no use: where no more fits the money that is left, the call is refused."""

COUNT_MARGIN_PART, COUNT_MARGIN_TOKENS = 20, 64
"""A count is an estimate that "may differ by a small amount": a twentieth of it and this many tokens are added."""


def call_bounds(action: ModelCall) -> tuple[int, int]:
    """The most input and output tokens that the call can use."""
    return input_tokens_max(action.request), action.request.max_output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantCap:
    """What one tenant may spend in a day of `timezone`, over all agents; a fact of the deployment."""

    day_nano_usd: int
    timezone: str = "UTC"


def counted(action: ModelCall, tokens: int) -> ModelCall:
    """The call, its input bounded by what its provider counted and the margin of a count, where that is less."""
    request = action.request
    most = min(tokens + tokens // COUNT_MARGIN_PART + COUNT_MARGIN_TOKENS, input_tokens_max(request))
    known = KnownPrefix(messages=len(request.messages), tokens=most)
    return replace(action, request=replace(request, known_prefix=known))


def least_cost(action: ModelCall, prices: Prices) -> int:
    """The least that has to be left for the call, whatever its provider counts."""
    output_tokens = min(OUTPUT_TOKENS_MIN, action.request.max_output_tokens)
    return prices.worst_cost(action.resource, COUNT_MARGIN_TOKENS, output_tokens)


def is_counted(request: ModelRequest) -> bool:
    """Whether the bound on its input is the provider's own count: of all it holds, and not of what came before."""
    known = request.known_prefix
    return known is not None and known.messages == len(request.messages)


def fitting(action: ModelCall, left_nano_usd: int, prices: Prices) -> ModelCall | None:
    """The call where `left_nano_usd` covers it as it is, else as `capped` has it."""
    if prices.worst_cost(action.resource, *call_bounds(action)) <= left_nano_usd:
        return action
    return capped(action, left_nano_usd, prices)


def capped(action: ModelCall, left_nano_usd: int, prices: Prices) -> ModelCall | None:
    """The call with `max_output_tokens` lowered to what `left_nano_usd` covers; None where that is too little."""
    request = action.request
    input_max, high = input_tokens_max(request), request.max_output_tokens
    low = min(OUTPUT_TOKENS_MIN, high)
    if high <= low or prices.worst_cost(request.model, input_max, low) > left_nano_usd:
        return None
    while low + 1 < high:
        middle = (low + high) // 2
        if prices.worst_cost(request.model, input_max, middle) <= left_nano_usd:
            low = middle
        else:
            high = middle
    return replace(action, request=replace(request, max_output_tokens=low))


def ceiling(run: Run, remit: Remit) -> Ceiling:
    """What a run may spend, and its agent in a day."""
    return Ceiling(
        run_id=run.id,
        tenant=run.tenant,
        agent=run.agent,
        run_nano_usd=remit.cap_run_nano_usd,
        day_nano_usd=remit.cap_day_nano_usd,
        timezone=remit.timezone,
        alert_percent=remit.alert_percent,
        depth_max=run.depth + remit.max_agent_depth,
    )


def holds(
    run: Run, remit: Remit, at_us: int, tenant: TenantCap | None, callers: Sequence[Ceiling] = ()
) -> tuple[Hold, ...]:
    """The scopes at which the money of a call is held, in the order in which they are checked.

    Those of the runs above (`callers`) are among them, so that no run spends more through those below it than it
    could by itself. A day is that of the admission, in the zone of whoever set the cap; the cost stays with it.
    """
    scopes: tuple[Hold, ...] = _of_ceiling(ceiling(run, remit), "", at_us)
    for caller in callers:
        scopes += _of_ceiling(caller, f"{CALLER_RULE}{caller.agent}.", at_us)
    if tenant is None:
        return scopes
    day, ends_us = days.day_and_end(tenant.timezone, at_us)
    of_tenant = Hold(
        scope=f"tenant:{run.tenant}/{day}",
        cap_nano_usd=tenant.day_nano_usd,
        rule="REMIT_TENANT_DAILY_USD",
        alert_percent=remit.alert_percent,
        resets_at_us=ends_us,
    )
    return (*scopes, of_tenant)


def _of_ceiling(kept: Ceiling, prefix: str, at_us: int) -> tuple[Hold, Hold]:
    day, ends_us = days.day_and_end(kept.timezone, at_us)
    return (
        Hold(
            scope=f"run:{kept.run_id}",
            cap_nano_usd=kept.run_nano_usd,
            rule=f"{prefix}cost_controls.max_cost_per_run_usd",
        ),
        Hold(
            scope=day_scope(kept.tenant, kept.agent, day),
            cap_nano_usd=kept.day_nano_usd,
            rule=f"{prefix}cost_controls.max_daily_spend_usd",
            alert_percent=kept.alert_percent,
            resets_at_us=ends_us,
        ),
    )


def day_scope(tenant: str, agent: str, day: str) -> str:
    """The scope of an agent's money on a day, `YYYY-MM-DD`."""
    return f"day:{tenant}/{agent}/{day}"
