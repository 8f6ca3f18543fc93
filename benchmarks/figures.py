"""What a measure is: a figure, its floor, its target, and one sentence on what limits it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

Better: TypeAlias = Literal["less", "more"]
TIMED = frozenset({"s", "ms", "us", "us CPU", "ms/run", "calls/s", "runs/s", "pairs/s"})
"""Units of what a slower machine does slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How thoroughly to measure, and where there is room for files that are thrown away."""

    quick: bool
    folder: Path

    def pick(self, quick: int, full: int) -> int:
        """The size for this kind of measurement."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measured figure. `samples` are the repetitions; the figure is their median.

    `floor` is what the same moment gave for the least that must be done, in the same unit. `problem` says
    why there is no figure.
    """

    topic: str
    name: str
    unit: str
    samples: tuple[float, ...]
    limited_by: str
    better: Better = "less"
    target: float | None = None
    floor: float | None = None
    problem: str = ""
    note: str = ""

    @property
    def median(self) -> float | None:
        """The middle of the repetitions, None where there are none."""
        return statistics.median(self.samples) if self.samples else None

    @property
    def best(self) -> float | None:
        """The best of the repetitions: what the machine can do when nothing else runs on it."""
        if not self.samples:
            return None
        return min(self.samples) if self.better == "less" else max(self.samples)

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target; None where there is no target or no figure."""
        if self.target is None or self.median is None:
            return None
        return self.median <= self.target if self.better == "less" else self.median >= self.target

    def met_at(self, slowness: float) -> bool | None:
        """Whether the target is met once the machine's slowness is taken out; None where it has no part in it."""
        if self.met is None or self.median is None or self.target is None or self.unit not in TIMED:
            return None
        if self.better == "less":
            return self.median / slowness <= self.target
        return self.median * slowness >= self.target

    @property
    def ratio(self) -> float | None:
        """The figure in floors: how many times the least that must be done."""
        if not self.floor or not self.median:
            return None
        return self.median / self.floor if self.better == "less" else self.floor / self.median


@dataclass(slots=True)
class Samples:
    """The repetitions of several figures, gathered by name."""

    by_name: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **figures: float) -> None:
        """One repetition's figures."""
        for name, figure in figures.items():
            self.by_name.setdefault(name, []).append(figure)

    def of(self, name: str) -> tuple[float, ...]:
        """All repetitions of a figure."""
        return tuple(self.by_name.get(name, ()))

    def median(self, name: str) -> float | None:
        """The median of a figure, None where it was never measured."""
        found = self.of(name)
        return statistics.median(found) if found else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
