"""What a provider still allows, as the headers of its last response say; there is no other way to ask."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from remit.adapters.models.failures import http_date
from remit.core.quota import Quota, QuotaKind

_KINDS: tuple[QuotaKind, ...] = ("requests", "tokens", "input_tokens", "output_tokens")
_DURATION = re.compile(
    r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,6}(?:\.\d{1,9})?)s)?(?:(\d{1,6})ms)?"
)
_COUNT = re.compile(r"[0-9]{1,15}")


def read_quota(provider: str, model: str, headers: Mapping[str, str]) -> tuple[Quota, ...]:
    """The quotas in the headers of a response for `model`; those that cannot be read are left out."""
    if provider == "anthropic":
        prefix, pattern = "anthropic-ratelimit-", "{prefix}{kind}-{field}"
    else:
        prefix, pattern = "x-ratelimit-", "{prefix}{field}-{kind}"
    found = []
    for kind in _KINDS:
        limit, remaining, reset = (
            headers.get(pattern.format(prefix=prefix, kind=kind.replace("_", "-"), field=field), "")
            for field in ("limit", "remaining", "reset")
        )
        if _COUNT.fullmatch(limit) and _COUNT.fullmatch(remaining):
            found.append(
                Quota(
                    provider=provider,
                    model=model,
                    kind=kind,
                    limit=int(limit),
                    remaining=int(remaining),
                    resets_at_us=_resets_at_us(reset, headers.get("date", "")),
                )
            )
    return tuple(found)


def _resets_at_us(reset: str, date: str) -> int | None:
    """A time of day as it stands; a duration counts from the response's own date."""
    match = _DURATION.fullmatch(reset)
    if match and reset:
        days, hours, minutes, seconds, milliseconds = (float(group or 0) for group in match.groups())
        now = http_date(date)
        if now is None:
            return None
        wait = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
        return round(now.timestamp() * 1_000_000) + wait // timedelta(microseconds=1)
    try:
        at = datetime.fromisoformat(reset)
    except ValueError:
        return None
    return round(at.timestamp() * 1_000_000) if at.tzinfo is not None else None
