"""Rate windows of one call: which windows it counts in, and under which key."""

from __future__ import annotations

import unicodedata

from remit.core import canonical
from remit.core.actions import ToolCall
from remit.core.canonical import Json
from remit.core.runs import Run
from remit.core.tools import ToolSpec
from remit.governance.remit import RateLimit
from remit.ports.journal import Window


def windows(run: Run, tool: ToolSpec, limits: tuple[RateLimit, ...], action: ToolCall) -> tuple[Window, ...]:
    """The windows in which the call counts, one for each limit of its group."""
    if not limits:
        return ()
    key = f"{run.tenant}/{run.agent}/{tool.rate_group}"
    if tool.rate_key is not None:
        key += "/" + _keyed(action.args_value().get(tool.rate_key))
    return tuple(
        Window(key=f"{key}@{limit.span_s}", limit=limit.limit, span_s=limit.span_s, rule=limit.rule)
        for limit in limits
    )


def _keyed(value: Json) -> str:
    """A key that is the same however the value is spelt, and that shows nobody's identity."""
    text = value if isinstance(value, str) else canonical.canonical(value).decode()
    spelt = unicodedata.normalize("NFKC", text).casefold().strip()
    return canonical.digest(spelt.encode())[:24]
