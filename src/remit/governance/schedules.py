"""When the schedules of an agent are due. Pure: a tick is a moment, the same for whoever asks and whenever.

A tick at fixed times that a change of clocks leaves out comes when it is over, and one that it would repeat comes once;
where minute or hour begin with `*`, time passes as it really does. Source: Debian's cron.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from remit.core.actions import Principal

Missed: TypeAlias = Literal["skip", "once"]

ON_TIME_US = 60_000_000
"""A tick that is as old as this has been missed."""

LOOK_BACK_US = 7 * 86_400_000_000
"""What was missed before is forgotten."""

_CHANGE_US = 3 * 3_600_000_000
"""From so long before, ticks are counted: the two meanings of a doubled hour begin alike."""

_SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A task that an agent is given at the ticks of a cron expression, in a time zone."""

    name: str
    cron: str
    timezone: str
    task: str
    urgency: int
    missed: Missed
    rule: str

    def principal(self, tenant: str) -> Principal:
        """Who asks for its runs."""
        return Principal(kind="service", id=f"schedule:{self.name}", tenant=tenant)

    def in_words(self) -> str:
        """The expression in English."""
        return CronSim(self.cron, _SOME_DAY).explain()


def schedules_of(entries: Iterable[Mapping[str, Any]]) -> tuple[Schedule, ...]:
    """The schedules of a governance file that has been checked."""
    return tuple(Schedule(**one, rule=f"schedules.{index}") for index, one in enumerate(entries))


def cron_problem(cron: str) -> str:
    """Why `cron` is no expression with five fields and a tick to come; empty where it is one."""
    if len(cron.split()) != 5:
        return "must have five fields, minute, hour, day of month, month, day of week: 0 7 * * 1-5"
    try:
        next(CronSim(cron, _SOME_DAY))
    except CronSimError as error:
        return f"must be a cron expression: {str(error)[:1].lower()}{str(error)[1:]}"
    except StopIteration:
        return "must come at some time in 50 years"
    return ""


def ticks(schedule: Schedule, after_us: int) -> Iterator[int]:
    """The ticks after a moment, in order, each once, in microseconds since 1970."""
    start = datetime.fromtimestamp((after_us - _CHANGE_US) // 1_000_000, ZoneInfo(schedule.timezone))
    last_us = after_us
    for tick in CronSim(schedule.cron, start):
        tick_us = int(tick.timestamp()) * 1_000_000
        if tick_us > last_us:
            last_us = tick_us
            yield tick_us


def clock_time(tick_us: int, timezone: str) -> str:
    """A tick as the clocks of a zone show it, to the minute, with their distance from UTC."""
    moment = datetime.fromtimestamp(tick_us // 1_000_000, ZoneInfo(timezone))
    return moment.isoformat(sep=" ", timespec="minutes")


def due(schedule: Schedule, last_us: int | None, now_us: int) -> int | None:
    """The tick that is to be started now; None where there is none. `last_us`: the last that was started.

    Of several that were missed it is the newest, which stands for all of them.
    """
    since_us = now_us - ON_TIME_US
    if last_us is not None:
        back_us = LOOK_BACK_US if schedule.missed == "once" else ON_TIME_US
        since_us = max(last_us, now_us - back_us)
    return max(takewhile(lambda tick_us: tick_us <= now_us, ticks(schedule, since_us)), default=None)
