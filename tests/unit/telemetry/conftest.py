from __future__ import annotations

import pytest
from telemetry_samples import FixedClock

from remit.adapters.telemetry.spans import SpanMaker


class Heard:
    """Keeps what a sink said was lost, and its notices."""

    def __init__(self) -> None:
        self.lost = 0
        self.notices: list[str] = []

    def count(self, lost: int) -> None:
        self.lost += lost


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def maker(clock: FixedClock) -> SpanMaker:
    return SpanMaker(clock)
