"""Sums that are kept by us and told in the client library's terms when they are asked for.

Promise: adding costs a fraction of a microsecond, for it happens once for each effect. Money is summed in
nano-USD and time in microseconds, as integers; both become floats only on exposition.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from remit.adapters.telemetry import names

BUCKETS: Final = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BUCKETS_US: Final = tuple(int(bound * 1_000_000) for bound in BUCKETS)
_NANO: Final = 10**9


class Counts:
    """A counter with labels."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str]) -> None:
        self._name, self._help, self._labels = name, help_text, labels
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, key: tuple[str, ...], count: int) -> None:
        """Add `count` to the series of these label values (0 makes the series)."""
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + count

    def sums(self) -> list[tuple[tuple[str, ...], int]]:
        """All series."""
        with self._lock:
            return list(self._counts.items())

    def collect(self) -> Iterable[Metric]:
        """The family."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for key, count in self.sums():
            family.add_metric(key, count)
        return (family,)


class Costs(Counts):
    """Nano-USD by agent and model, told in dollars and under two names."""

    def __init__(self) -> None:
        super().__init__(names.COST, "Money spent, in US dollars.", ("agent_name", "model"))

    def collect(self) -> Iterable[Metric]:
        """Both families."""
        counter = CounterMetricFamily(self._name, self._help, labels=self._labels)
        series = GaugeMetricFamily(
            names.COST_SERIES, "The same as agent_cost_usd_total; it only ever rises.", labels=self._labels
        )
        for key, nano in self.sums():
            counter.add_metric(key, nano / _NANO)
            series.add_metric(key, nano / _NANO)
        return (counter, series)


class Durations:
    """A histogram with labels."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str]) -> None:
        self._name, self._help, self._labels = name, help_text, labels
        self._lock = threading.Lock()
        # of each series: how many observations fell into each bucket, beyond all of them, and their sum
        self._observed: dict[tuple[str, ...], list[int]] = {}

    def declare(self, key: tuple[str, ...]) -> list[int]:
        """Make the series of these label values, at 0, where there is none."""
        return self._observed.setdefault(key, [0] * (len(BUCKETS) + 2))

    def observe(self, key: tuple[str, ...], duration_us: int) -> None:
        """Count one duration."""
        with self._lock:
            observed = self._observed.get(key) or self.declare(key)
            observed[bisect_left(_BUCKETS_US, duration_us)] += 1
            observed[-1] += duration_us

    def collect(self) -> Iterable[Metric]:
        """The family."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        with self._lock:
            series = [(key, list(observed)) for key, observed in self._observed.items()]
        for key, (*counts, sum_us) in series:
            buckets, below = [], 0
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
                below += count
                buckets.append((bound, below))
            family.add_metric(key, buckets=buckets, sum_value=sum_us / 1_000_000)
        return (family,)
