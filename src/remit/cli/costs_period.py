"""The options that say which time a command of `remit costs` looks at, and whose days it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from remit.cli.output import parse_since
from remit.core.errors import RemitError
from remit.runtime.clock import SystemClock

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From `since_us` to before `until_us` (None: no end), in days of `timezone`."""

    since_us: int
    until_us: int | None
    timezone: str


timezone_option = click.option(
    "--timezone",
    default="UTC",
    envvar="REMIT_TIMEZONE",
    show_default="REMIT_TIMEZONE, else UTC",
    help="The IANA zone whose days are meant.",
)


def period_options(command: Callable[..., T]) -> Callable[..., T]:
    """Give `command` --since, --until and --timezone; it is called with `period`."""

    @click.option("--since", help="From this time on: 15m, 2h, 7d ago, or 2026-11-22.")
    @click.option("--until", help="Up to this time, and not at it.")
    @timezone_option
    @wraps(command)
    def with_period(*args: Any, since: str | None, until: str | None, timezone: str, **kwargs: Any) -> T:
        zone = existing_zone(timezone)
        now_us = SystemClock().now_us()
        period = Period(
            since_us=parse_since(since, now_us, zone) or 0,
            until_us=parse_since(until, now_us, zone),
            timezone=zone,
        )
        return command(*args, period=period, **kwargs)

    return with_period


def existing_zone(timezone: str) -> str:
    """`timezone`, which is a zone that there is. Raises: RemitError `usage.invalid`."""
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        message = f"there is no time zone {timezone[:60]!r}"
        raise RemitError(
            "usage.invalid", message, remedy="write an IANA zone, such as Europe/Berlin"
        ) from error
    return timezone
