"""How much one call may cost at most, and where that money is held before it is made.

The bound on input tokens needs no tokenizer: a token is at least one byte, of the text as it is or as
NFKC makes it, whichever is longer (Claude's tokenizer normalises; one ligature can become many bytes).
"""

from __future__ import annotations

import unicodedata
from datetime import date, timedelta
from functools import lru_cache

import orjson

from remit.core.actions import ModelCall
from remit.core.messages import Message, ModelRequest, message_to_json
from remit.core.runs import Run
from remit.governance.remit import Remit
from remit.ports.journal import Hold

MESSAGE_OVERHEAD_TOKENS = 16
"""For the role and the marks around one message."""

_DAY_US = 86_400_000_000

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
    data = orjson.dumps(message_to_json(message)).decode()
    return MESSAGE_OVERHEAD_TOKENS + text_tokens_max(data)


def input_tokens_max(request: ModelRequest) -> int:
    """The most tokens that a provider can count as the input of `request`."""
    known = request.known_prefix
    fresh = request.messages[known.messages :] if known is not None else request.messages
    suffix = sum(message_tokens_max(message) for message in fresh)
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


def holds(run: Run, remit: Remit, at_us: int) -> tuple[Hold, ...]:
    """The scopes at which the money of a call is held, in the order in which they are checked.

    The day is the UTC day of the admission; the cost stays with it.
    """
    day = _day(at_us // _DAY_US)
    return (
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
        ),
    )


@lru_cache(maxsize=2)
def _day(days: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=days)).isoformat()


def day_scope(tenant: str, agent: str, day: str) -> str:
    """The scope of an agent's money on a day, `YYYY-MM-DD`."""
    return f"day:{tenant}/{agent}/{day}"
