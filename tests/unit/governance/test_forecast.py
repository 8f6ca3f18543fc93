"""The forecast of a day: integers, days of 23 to 25 hours, nothing spent, just after midnight."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.core import days
from remit.governance.forecast import HOUR_US, Spending, forecast

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Cairo")
moments = st.integers(1_500_000_000_000_000, 2_500_000_000_000_000)
money = st.integers(0, 10**15)


@given(zone=st.sampled_from(ZONES), at_us=moments)
def test_a_moment_lies_in_its_day_and_days_follow_each_other(zone: str, at_us: int) -> None:
    day, ends_us = days.day_and_end(zone, at_us)
    assert days.starts_us(zone, date.fromisoformat(day)) <= at_us < ends_us
    assert datetime.fromtimestamp(at_us // 10**6, ZoneInfo(zone)).date().isoformat() == day
    following = (date.fromisoformat(day) + timedelta(days=1)).isoformat()
    assert days.day_and_end(zone, ends_us)[0] == following
    assert days.local_day(zone, ends_us - 1) == day


@pytest.mark.parametrize(("day", "hours"), [("2027-03-28", 23), ("2027-10-31", 25), ("2027-06-01", 24)])
def test_a_day_of_berlin_is_as_long_as_it_is(day: str, hours: int) -> None:
    starts_us = days.starts_us("Europe/Berlin", date.fromisoformat(day))
    assert days.day_and_end("Europe/Berlin", starts_us) == (day, starts_us + hours * HOUR_US)
    steady = Spending(spent_nano_usd=0, recent_nano_usd=100, recent_us=HOUR_US)
    assert forecast(steady, starts_us, starts_us + hours * HOUR_US).total_nano_usd == 100 * hours


@given(
    zone=st.sampled_from(ZONES), at_us=moments, spent=money, recent=money, hours=st.integers(1, 24), cap=money
)
def test_forecast_is_consistent(zone: str, at_us: int, spent: int, recent: int, hours: int, cap: int) -> None:
    _, ends_us = days.day_and_end(zone, at_us)
    spending = Spending(
        spent_nano_usd=spent, recent_nano_usd=recent, recent_us=hours * HOUR_US, cap_nano_usd=cap
    )
    found = forecast(spending, at_us, ends_us)
    assert found.total_nano_usd >= spent
    assert (found.total_nano_usd == spent) == (recent == 0)
    reached = found.reached_at_us
    assert (reached is not None) == (found.total_nano_usd >= cap or spent >= cap)
    if reached is None:
        return
    assert at_us <= reached < ends_us
    # within the cap a microsecond before, and at it (but for what a microsecond costs) then
    before = spent + recent * (reached - at_us) // spending.recent_us
    after = spent + -(-recent * (reached + 1 - at_us) // spending.recent_us)
    assert reached == at_us or before <= cap
    assert after >= cap or reached == ends_us - 1


@given(at_us=moments, spent=money)
def test_without_a_rate_or_a_cap_nothing_is_reached(at_us: int, spent: int) -> None:
    quiet = Spending(spent_nano_usd=spent, recent_nano_usd=0, recent_us=HOUR_US, cap_nano_usd=spent + 1)
    found = forecast(quiet, at_us, at_us + HOUR_US)
    assert (found.total_nano_usd, found.rate_nano_usd_per_hour, found.reached_at_us) == (spent, 0, None)
    uncapped = Spending(spent_nano_usd=spent, recent_nano_usd=5, recent_us=HOUR_US)
    assert forecast(uncapped, at_us, at_us + HOUR_US).reached_at_us is None


def test_just_after_midnight_the_hours_before_it_tell_the_rate() -> None:
    # $1 an hour until now, and nothing spent of the day that has just begun
    new_day = Spending(spent_nano_usd=0, recent_nano_usd=10**9, recent_us=HOUR_US, cap_nano_usd=6 * 10**9)
    found = forecast(new_day, 0, 24 * HOUR_US)
    assert found.total_nano_usd == 24 * 10**9
    assert found.reached_at_us == 6 * HOUR_US
