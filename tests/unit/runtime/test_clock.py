"""The clock that several machines have in common."""

from __future__ import annotations

from remit.runtime.clock import SharedClock, SystemClock

YEAR_2000_US = 946_684_800_000_000


class Steered(SharedClock):
    """Its steady clock stands where it is put."""

    steady_ns = 5_000_000_000

    def monotonic_ns(self) -> int:
        return self.steady_ns


def test_it_is_the_systems_until_it_is_told_the_time() -> None:
    before = SystemClock().now_us()
    assert before <= SharedClock().now_us() <= SystemClock().now_us()


def test_told_the_time_it_goes_on_by_the_steady_clock_alone() -> None:
    clock = Steered()
    clock.steady_ns += 2_000  # the answer was 2 us on its way, so it is 1 us old
    clock.agree(YEAR_2000_US, 5_000_000_000)
    assert clock.now_us() == YEAR_2000_US + 1
    clock.steady_ns += 3_600 * 10**9
    assert clock.now_us() == YEAR_2000_US + 1 + 3_600 * 10**6
    clock.agree(YEAR_2000_US, clock.steady_ns)
    assert clock.now_us() == YEAR_2000_US


def test_the_steady_clock_never_goes_back() -> None:
    clock = SystemClock()
    times = [clock.monotonic_ns() for _ in range(1_000)]
    assert times == sorted(times)
