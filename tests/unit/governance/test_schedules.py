"""Ticks: right where clocks change, the same whoever counts them from when; what is due, and what was missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.governance.compiler import parse
from remit.governance.describe import describe
from remit.governance.schedules import LOOK_BACK_US, Schedule, cron_problem, due, ticks
from remit.governance.source import ConfigErrors

MINUTE, DAY = 60_000_000, 86_400_000_000
FILE = """agent:
  name: a
  model: m
  allowed_tools: []
  cost_controls: {max_daily_spend_usd: 5, max_cost_per_run_usd: 1}
  schedules:
    - {name: morning, cron: "0 7 * * 1-5", timezone: Europe/Zurich, task: look, missed: once}
"""


def schedule(cron: str, **changes: Any) -> Schedule:
    given = {
        "name": "s",
        "timezone": "Europe/Zurich",
        "task": "t",
        "urgency": 500,
        "missed": "skip",
    } | changes
    return Schedule(cron=cron, rule="schedules.0", **given)


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


def seen(cron: str, after: str, count: int, timezone: str = "Europe/Zurich") -> list[str]:
    found = islice(ticks(schedule(cron, timezone=timezone), us(after)), count)
    return [datetime.fromtimestamp(one // 1_000_000, ZoneInfo(timezone)).isoformat()[5:22] for one in found]


def test_the_hour_that_is_left_out() -> None:
    eve = "2026-03-28T23:00:00+00:00"
    assert seen("30 2 * * *", eve, 2) == ["03-29T03:00:00+02", "03-30T02:30:00+02"]
    assert seen("0 1-3 * * *", eve, 3) == ["03-29T01:00:00+01", "03-29T03:00:00+02", "03-30T01:00:00+02"]
    assert seen("*/30 * * * *", "2026-03-29T00:29:00+00:00", 2) == ["03-29T01:30:00+01", "03-29T03:00:00+02"]


def test_the_hour_that_comes_twice() -> None:
    eve = "2026-10-24T22:00:00+00:00"
    assert seen("30 2 * * *", eve, 2) == ["10-25T02:30:00+02", "10-26T02:30:00+01"]
    assert seen("30 2 * * *", "2026-10-25T00:45:00+00:00", 1) == ["10-26T02:30:00+01"]
    assert seen("30 2 * * *", "2026-10-25T01:10:00+00:00", 1) == ["10-26T02:30:00+01"]  # in its second half
    assert seen("*/30 2 * * *", "2026-10-25T00:00:00+00:00", 3) == [
        "10-25T02:30:00+02",
        "10-25T02:00:00+01",
        "10-25T02:30:00+01",
    ]


CRONS = [
    "30 2 * * *",
    "0 1-3 * * *",
    "*/20 * * * *",
    "15 */2 * * *",
    "0 0 * * 0",
    "5,59 1,2 * * *",
    "30 * 1 * *",
]
ZONES = [
    "UTC",
    "Europe/Zurich",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Asia/Kolkata",
]


# the days on which some zone changes its clocks, in spring and in autumn
CHANGES = [
    us(f"2026-{day}T00:00+00:00") for day in ("03-08", "03-29", "04-05", "09-06", "10-04", "10-25", "11-01")
]
MOMENTS = st.tuples(st.sampled_from(CHANGES), st.integers(min_value=-DAY, max_value=DAY)).map(sum)


@settings(max_examples=60)
@given(st.sampled_from(CRONS), st.sampled_from(ZONES), MOMENTS, st.integers(min_value=0, max_value=2 * DAY))
def test_ticks_do_not_depend_on_when_somebody_began_to_count(
    cron: str, zone: str, after_us: int, later_us: int
) -> None:
    one = schedule(cron, timezone=zone)
    until_us = after_us + 3 * DAY
    whole = list(takewhile(lambda tick: tick < until_us, ticks(one, after_us)))
    part = list(takewhile(lambda tick: tick < until_us, ticks(one, after_us + later_us)))
    assert whole == sorted(set(whole))
    assert [tick for tick in whole if tick > after_us + later_us] == part


@settings(max_examples=60)
@given(st.sampled_from(ZONES), MOMENTS)
def test_a_tick_of_every_minute_is_every_minute_that_passes(zone: str, after_us: int) -> None:
    found = list(islice(ticks(schedule("* * * * *", timezone=zone), after_us), 200))
    first = after_us // MINUTE * MINUTE + MINUTE
    assert found == list(range(first, first + 200 * MINUTE, MINUTE))


def test_what_is_due() -> None:
    daily, made_up = (
        schedule("0 7 * * *", timezone="UTC"),
        schedule("0 7 * * *", timezone="UTC", missed="once"),
    )
    tick = us("2026-11-23T07:00:00+00:00")
    for one in (daily, made_up):
        assert due(one, None, tick - 1) is None
        assert due(one, None, tick) == tick
        assert due(one, None, tick + MINUTE - 1) == tick
        assert due(one, tick, tick + 1) is None
        assert due(one, None, tick + MINUTE) is None  # a schedule that has never begun has missed nothing
        assert due(one, tick - DAY, tick + MINUTE - 1) == tick
    late = tick + 3_600_000_000
    assert due(daily, tick - DAY, late) is None
    assert due(made_up, tick - DAY, late) == tick
    assert due(made_up, tick - 3 * DAY, late) == tick  # one for all three
    assert due(made_up, tick, late) is None
    assert due(made_up, late + DAY, late) is None  # the clock was set back


def test_the_look_back_is_bounded() -> None:
    yearly = schedule("0 0 1 1 *", timezone="UTC", missed="once")
    tick = us("2026-01-01T00:00:00+00:00")
    assert due(yearly, tick - 365 * DAY, tick + LOOK_BACK_US - 1) == tick
    assert due(yearly, tick - 365 * DAY, tick + LOOK_BACK_US) is None


@pytest.mark.parametrize(
    ("cron", "why"),
    [
        ("* * * * * *", "five fields"),
        ("@daily", "five fields"),
        ("60 * * * *", "bad minute"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("* * */20 * 1L", "50 years"),
        ("0 7 * * mond", "bad day-of-week"),
    ],
)
def test_an_expression_that_is_none(cron: str, why: str) -> None:
    assert why in cron_problem(cron)
    with pytest.raises(ConfigErrors) as error:
        parse(FILE.replace("0 7 * * 1-5", cron), "f.yaml", ())
    (found,) = error.value.errors
    assert why in found.message
    assert found.position.line == 7


def test_the_file_says_what_is_wrong_at_its_line() -> None:
    twice = FILE + "    - {name: morning, cron: '* * * * *', task: again}\n"
    for text, code, line in (
        (twice, "config.out_of_range", 6),
        (FILE.replace("Europe/Zurich", "Mars/Base"), "config.out_of_range", 7),
        (FILE.replace("missed: once", "missed: all"), "config.out_of_range", 7),
        (FILE.replace("missed:", "miss:"), "config.unknown_key", 7),
        (FILE.replace("task: look, ", ""), "config.missing_key", 7),
    ):
        with pytest.raises(ConfigErrors) as error:
            parse(text, "f.yaml", ())
        assert [(one.code, one.position.line) for one in error.value.errors] == [(code, line)]


def test_a_schedule_in_plain_words_with_its_next_tick() -> None:
    remit = parse(FILE, "f.yaml", ())
    at = datetime(2026, 11, 22, tzinfo=UTC) + timedelta(minutes=1)
    (said,) = [one for one in describe(remit, (), us(at.isoformat())) if one.rule == "schedules.0"]
    assert said.text == (
        "begin the task of morning: At 07:00 on Monday through Friday (Europe/Zurich), "
        "next 2026-11-23 07:00+01:00; what was missed is made up for by one run"
    )
    assert said.source == "f.yaml:7"
