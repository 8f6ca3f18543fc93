"""What a provider's error means: whether a later try may succeed, and what may have been billed.

Source: the providers' tables of errors; the same words mean the same at all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from remit.core.messages import Usage
from remit.ports.effects import EffectFailed

RETRY_AFTER_MAX_S = 10.0**7
"""More than anybody waits: a number beyond it means nothing."""

_TRY_AGAIN = frozenset({408, 409, 429})
_MAYBE_BILLED = frozenset({408, 499, 502, 504})
"""Statuses of someone between us and the model, who may have seen the work through."""

_SPENT = frozenset(
    {
        "billing_hard_limit_reached",
        "billing_not_active",
        "enforced_spend_limit_reached",
        "insufficient_quota",
    }
)
"""Waiting helps nobody whose money is spent, though these come as 429 too."""

_PASSING = frozenset(
    {
        "api_error",
        "internal_error",
        "internal_server_error",
        "overloaded",
        "overloaded_error",
        "rate_limit_error",
        "rate_limit_exceeded",
        "server_error",
        "server_overloaded",
        "service_unavailable",
        "slow_down",
        "timeout_error",
        "vector_store_timeout",
    }
)
"""Types and codes of errors within a stream, where there is no status."""


def of_status(status: int, body: object, headers: Mapping[str, str]) -> EffectFailed:
    """The failure of a response with an error's `status`."""
    detail, names = _error_of(body)
    message = f"the provider answered {status}: {detail or 'no message'}"
    usage = None if status in _MAYBE_BILLED else Usage()
    if names & _SPENT or not (status in _TRY_AGAIN or status >= 500):
        return EffectFailed("model.failed", message, usage=usage)
    return EffectFailed(
        "model.unavailable", message, retryable=True, retry_after_s=retry_after_s(headers), usage=usage
    )


def of_event(error: object, billed: Usage | None) -> EffectFailed:
    """The failure of a reply that ends in `error`, with what was billed until then."""
    detail, names = _error_of(error)
    message = f"the provider's reply ended in an error: {detail or 'no message'}"
    if names & _SPENT or not names & _PASSING:
        return EffectFailed("model.failed", message, usage=billed)
    return EffectFailed("model.unavailable", message, retryable=True, usage=billed)


def of_cut(detail: str, billed: Usage | None) -> EffectFailed:
    """The failure of a reply that did not come to its end."""
    return EffectFailed("model.unavailable", f"the reply was cut off: {detail}", retryable=True, usage=billed)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The wait in seconds that the provider asks for, given in milliseconds, seconds or as a date.

    A date is read against the response's own, so that it does not depend on our clock.
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        seconds = _number(headers.get(name, ""))
        if seconds is not None:
            return min(seconds * unit_s, RETRY_AFTER_MAX_S)
    until, now = http_date(headers.get("retry-after", "")), http_date(headers.get("date", ""))
    if until is None or now is None:
        return None
    return min(max((until - now).total_seconds(), 0.0), RETRY_AFTER_MAX_S)


def http_date(text: str) -> datetime | None:
    """The date in a header, with its time zone; None where it is none."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo is not None else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _error_of(body: object) -> tuple[str, frozenset[str]]:
    """The message of an error, and its type and codes; with or without the object around it."""
    if isinstance(body, dict) and isinstance(body.get("error"), dict | str):
        body = body["error"]
    if isinstance(body, str):
        return body, frozenset()
    if not isinstance(body, dict):
        return "", frozenset()
    message = body.get("message")
    details: Any = body.get("details")
    found = [body.get("type"), body.get("code")]
    found.append(details.get("error_code") if isinstance(details, dict) else None)
    names = frozenset(name for name in found if isinstance(name, str))
    return message if isinstance(message, str) else "", names
