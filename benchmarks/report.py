"""The measures as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from benchmarks import calibration
from benchmarks.figures import Measure


def table(measures: Sequence[Measure], after: Sequence[Measure], *, seconds: float) -> str:
    """One line a measure, by topic; then the calibration of the end, for drift.

    Targets are `met`, or met `ref`: once the times are divided by what the machine is slower than the one that
    the targets are from.
    """
    slowness = calibration.slowness([*measures, *after])
    lines = [
        _head(),
        f"Python takes {slowness:.1f} times as long here and now as on the machine of the targets",
    ]
    topic = ""
    for one in measures:
        if one.topic != topic:
            topic = one.topic
            lines += ["", topic, _row("", "median", "best", "x floor", "target", "met", "limited by")]
        lines.append(_line(one, slowness))
    drift = ", ".join(f"{one.name} {_number(one.median)} {one.unit}" for one in after)
    lines += ["", f"calibration at the end: {drift}", f"took {seconds:.0f} s"]
    return "\n".join(lines)


def as_json(measures: Sequence[Measure], after: Sequence[Measure], *, quick: bool, seconds: float) -> str:
    """Everything, as JSON text."""
    return json.dumps(
        {
            "machine": machine(),
            "quick": quick,
            "seconds": round(seconds, 1),
            "slowness": round(calibration.slowness([*measures, *after]), 2),
            "measures": [_as_dict(one) for one in measures],
            "calibration_after": [_as_dict(one) for one in after],
        },
        indent=2,
    )


def write(text: str, path: Path) -> None:
    """Keep the newest result, in a folder that is not under version control."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def machine() -> dict[str, str | int]:
    """What the figures depend on beside the code."""
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 0,
        "load_1min": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown",
    }


def _head() -> str:
    return "  ".join(f"{key} {value}" for key, value in machine().items())


def _line(one: Measure, slowness: float) -> str:
    label = one.name + (f" ({one.note})" if one.note else "")
    if one.problem:
        return f"  {label:<54} not measured: {one.problem}"
    target = ""
    if one.target is not None:
        target = f"{'<=' if one.better == 'less' else '>='} {_number(one.target)}"
    met = {True: "yes", False: "NO", None: ""}[one.met]
    if one.met is False and one.met_at(slowness):
        met = "ref"
    ratio = f"{one.ratio:.1f}" if one.ratio is not None else ""
    return _row(
        label, f"{_number(one.median)} {one.unit}", _number(one.best), ratio, target, met, one.limited_by
    )


def _row(label: str, *cells: str) -> str:
    widths = (18, 10, 8, 10, 4)
    padded = [f"{cell:>{width}}" for cell, width in zip(cells[:-1], widths, strict=True)]
    return f"  {label:<54}{' '.join(padded)}  {cells[-1]}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _as_dict(one: Measure) -> dict[str, object]:
    return {
        "topic": one.topic,
        "name": one.name,
        "unit": one.unit,
        "median": one.median,
        "best": one.best,
        "samples": [round(sample, 4) for sample in one.samples],
        "floor": one.floor,
        "floors": one.ratio,
        "better": one.better,
        "target": one.target,
        "met": one.met,
        "limited_by": one.limited_by,
        "problem": one.problem,
        "note": one.note,
    }
