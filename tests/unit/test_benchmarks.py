"""The benchmarks measure what they say: a quick measure of each in-process kind, and the arithmetic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import decision, report, workload
from benchmarks.figures import Measure, Options, percentile


def test_a_quick_decision_measure_gives_a_figure_for_every_row(tmp_path: Path) -> None:
    measures = decision.measure(Options(quick=True, folder=tmp_path))
    assert [one.name for one in measures if one.median is None or one.median <= 0] == []
    shown = report.table(measures, [], seconds=0)
    assert all(one.name in shown for one in measures)
    read = json.loads(report.as_json(measures, [], quick=True, seconds=0))
    assert [one["median"] for one in read["measures"]] == [one.median for one in measures]


async def test_the_job_is_done_by_remit_and_everything_is_written(tmp_path: Path) -> None:
    figures = await workload.measure("benchmarks.remit_system", {"seq": 2, "park": 3}, tmp_path)
    assert figures["ms_run"] > 0
    assert figures["db_bytes_run"] > 1000
    assert (tmp_path / "remit.log").read_bytes().count(b'"event":"TOOL_CALL"') == 5 * (
        workload.WARMING_RUNS + 2 + 3
    )


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 2), (0.75, 3), (0.99, 4), (1.0, 4)])
def test_a_percentile_is_the_smallest_value_that_the_share_does_not_exceed(
    share: float, expected: int
) -> None:
    assert percentile([4, 2, 3, 1], share) == expected


@pytest.mark.parametrize(
    ("better", "met", "best", "ratio"), [("less", False, 1.0, 2.0), ("more", True, 3.0, 0.5)]
)
def test_target_best_and_ratio_follow_the_direction(
    better: str, met: bool, best: float, ratio: float
) -> None:
    one = Measure(
        topic="t",
        name="n",
        unit="u",
        samples=(1.0, 2.0, 3.0),
        limited_by="nothing",
        better="less" if better == "less" else "more",
        target=1.5,
        floor=1.0,
    )
    assert (one.median, one.met, one.best, one.ratio) == (2.0, met, best, ratio)


def test_a_measure_without_a_figure_says_why() -> None:
    one = Measure(
        topic="t", name="n", unit="u", samples=(), limited_by="", problem="no such thing", target=1.0
    )
    assert one.met is None
    assert "not measured: no such thing" in report.table([one], [], seconds=0)


@pytest.mark.parametrize(
    ("unit", "better", "median", "slowness", "met"),
    [
        ("ms", "less", 3.0, 2.0, True),
        ("ms", "less", 3.2, 2.0, False),
        ("calls/s", "more", 0.8, 2.0, True),
        ("calls/s", "more", 0.7, 2.0, False),
        ("KB", "less", 3.0, 2.0, None),  # a slow machine has no more bytes
    ],
)
def test_a_slow_machine_is_taken_out_of_times_and_of_nothing_else(
    unit: str, better: str, median: float, slowness: float, met: bool | None
) -> None:
    one = Measure(
        topic="t",
        name="n",
        unit=unit,
        samples=(median,),
        limited_by="",
        better="less" if better == "less" else "more",
        target=1.5,
    )
    assert one.met is False
    assert one.met_at(slowness) is met
