"""How much one call may cost at most, and where that money is held before it is made."""

from __future__ import annotations

from dataclasses import dataclass, replace

from remit.core import days
from remit.core.actions import ModelCall
from remit.core.messages import KnownPrefix, ModelRequest
from remit.core.runs import Run
from remit.governance.bounds import input_tokens_max
from remit.governance.remit import Remit
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


def holds(run: Run, remit: Remit, at_us: int, tenant: TenantCap | None) -> tuple[Hold, ...]:
    """The scopes at which the money of a call is held, in the order in which they are checked.

    A day is that of the admission, in the zone of whoever set the cap; the cost stays with it.
    """
    day, ends_us = days.day_and_end(remit.timezone, at_us)
    scopes = (
        Hold(
            scope=f"run:{run.id}",
            cap_nano_usd=remit.cap_run_nano_usd,
            rule="cost_controls.max_cost_per_run_usd",
        ),
        Hold(
            scope=day_scope(run.tenant, run.agent, day),
            cap_nano_usd=remit.cap_day_nano_usd,
            rule="cost_controls.max_daily_spend_usd",
            alert_percent=remit.alert_percent,
            resets_at_us=ends_us,
        ),
    )
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


def day_scope(tenant: str, agent: str, day: str) -> str:
    """The scope of an agent's money on a day, `YYYY-MM-DD`."""
    return f"day:{tenant}/{agent}/{day}"
