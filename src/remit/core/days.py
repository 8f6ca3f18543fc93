"""Days of the calendar in a time zone: they have 23, 24 or 25 hours, and some begin later than midnight."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_QUARTER_US = 900_000_000


def local_day(timezone: str, at_us: int) -> str:
    """The day, `YYYY-MM-DD`, that a time lies in. `timezone` is an IANA zone that exists."""
    return day_and_end(timezone, at_us)[0]


def day_and_end(timezone: str, at_us: int) -> tuple[str, int]:
    """The day that a time lies in, and when it ends, in microseconds since 1970."""
    return _of_quarter(timezone, at_us // _QUARTER_US)


def starts_us(timezone: str, day: date) -> int:
    """When a day begins, in microseconds since 1970."""
    return int(datetime.combine(day, time(), ZoneInfo(timezone)).timestamp()) * 1_000_000


@lru_cache(maxsize=1024)
def _of_quarter(timezone: str, quarter: int) -> tuple[str, int]:
    # no zone changes its clock within a quarter of an hour
    local = datetime.fromtimestamp(quarter * 900, ZoneInfo(timezone)).date()
    return local.isoformat(), starts_us(timezone, local + timedelta(days=1))
