"""How much one call may cost at most, and where that money is held before it is made.

The bound on input tokens needs no tokenizer: a token is at least one byte, of the text as it is or as
NFKC makes it, whichever is longer (Claude's tokenizer normalises; one ligature can become many bytes).
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import orjson

from remit.core.actions import ModelCall
from remit.core.errors import RemitError
from remit.core.messages import Attachment, Message, ModelRequest, message_to_json
from remit.core.runs import Run
from remit.governance.remit import Remit
from remit.ports.journal import Hold
from remit.ports.services import Prices

MESSAGE_OVERHEAD_TOKENS = 16
"""For the role and the marks around one message."""

_QUARTER_US = 900_000_000

OUTPUT_TOKENS_MIN = 256
"""A reply shorter than this is of no use: where no more fits the money that is left, the call is refused."""

IMAGE_TOKENS_MAX = 8192
"""Of one image: providers scale images down first, and count a few thousand tokens at the most."""

REQUEST_OVERHEAD_TOKENS = 1024
"""For what a provider adds to a request with tools (Anthropic: up to about 800 tokens)."""


def text_tokens_max(text: str) -> int:
    """The most tokens that `text` can be."""
    if text.isascii():
        return len(text)
    size = len(text.encode(errors="replace"))
    return max(size, len(unicodedata.normalize("NFKC", text).encode(errors="replace")))


def message_tokens_max(message: Message) -> int:
    """The most tokens that `message` can be."""
    images = 0
    for part in message.parts:
        if isinstance(part, Attachment):
            if not part.media_type.startswith("image/"):
                raise RemitError("price.unknown", f"what a {part.media_type[:60]} costs cannot be bounded")
            images += IMAGE_TOKENS_MAX
    data = orjson.dumps(message_to_json(message)).decode()
    return MESSAGE_OVERHEAD_TOKENS + images + text_tokens_max(data)


def input_tokens_max(request: ModelRequest) -> int:
    """The most tokens that a provider can count as the input of `request`."""
    known = request.known_prefix
    fresh = request.messages[known.messages :] if known is not None else request.messages
    suffix = sum(message_tokens_max(message) for message in fresh)
    if request.answer_schema is not None:
        suffix += text_tokens_max(orjson.dumps(dict(request.answer_schema)).decode())
    if known is not None:
        return known.tokens + suffix
    tools = sum(
        text_tokens_max(tool.name)
        + text_tokens_max(tool.description)
        + text_tokens_max(orjson.dumps(dict(tool.args_schema)).decode())
        + MESSAGE_OVERHEAD_TOKENS
        for tool in request.tools
    )
    return REQUEST_OVERHEAD_TOKENS + text_tokens_max(request.system) + tools + suffix


def call_bounds(action: ModelCall) -> tuple[int, int]:
    """The most input and output tokens that the call can use."""
    return input_tokens_max(action.request), action.request.max_output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantCap:
    """What one tenant may spend in a day of `timezone`, over all agents; a fact of the deployment."""

    day_nano_usd: int
    timezone: str = "UTC"


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
    day, ends_us = _day(remit.timezone, at_us // _QUARTER_US)
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
    day, ends_us = _day(tenant.timezone, at_us // _QUARTER_US)
    of_tenant = Hold(
        scope=f"tenant:{run.tenant}/{day}",
        cap_nano_usd=tenant.day_nano_usd,
        rule="REMIT_TENANT_DAILY_USD",
        alert_percent=remit.alert_percent,
        resets_at_us=ends_us,
    )
    return (*scopes, of_tenant)


@lru_cache(maxsize=16)
def _day(timezone: str, quarter: int) -> tuple[str, int]:
    """The local day in which a quarter of an hour lies, and when it ends; no zone changes within a quarter."""
    zone = ZoneInfo(timezone)
    local = datetime.fromtimestamp(quarter * 900, zone).date()
    next_midnight = datetime.combine(local + timedelta(days=1), time(), zone)
    return local.isoformat(), int(next_midnight.timestamp()) * 1_000_000


def day_scope(tenant: str, agent: str, day: str) -> str:
    """The scope of an agent's money on a day, `YYYY-MM-DD`."""
    return f"day:{tenant}/{agent}/{day}"
