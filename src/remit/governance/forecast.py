"""What a day will have cost by its end, if it goes on as in the last hours. Arithmetic in integers, no clock."""

from __future__ import annotations

from dataclasses import dataclass

HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What is spent of a day's money, and how fast: `recent_nano_usd` within the last `recent_us`.

    `cap_nano_usd` None: there is no cap, or it is not known.
    """

    spent_nano_usd: int
    recent_nano_usd: int
    recent_us: int
    cap_nano_usd: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What will have been spent at the end of the day, were there no cap, and when the cap is reached.

    `reached_at_us` is None where it is not reached before the day ends; it is now where it has been reached.
    """

    rate_nano_usd_per_hour: int
    total_nano_usd: int
    reached_at_us: int | None


def forecast(spending: Spending, now_us: int, day_ends_us: int) -> Forecast:
    """The forecast of a day that has not ended. Whatever is rounded is rounded up: earlier, and more."""
    spent, recent, span_us = spending.spent_nano_usd, spending.recent_nano_usd, spending.recent_us
    total = spent + _up(recent * (day_ends_us - now_us), span_us)
    cap = spending.cap_nano_usd
    reached = None
    if cap is not None and spent >= cap:
        reached = now_us
    elif cap is not None and total >= cap and recent > 0:
        reached = min(now_us + (cap - spent) * span_us // recent, day_ends_us - 1)
    return Forecast(
        rate_nano_usd_per_hour=_up(recent * HOUR_US, span_us), total_nano_usd=total, reached_at_us=reached
    )


def _up(total: int, parts: int) -> int:
    return -(-total // parts)
