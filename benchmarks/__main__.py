"""`python -m benchmarks`: measure, and show what came of it as a table and as JSON."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    bound,
    calibration,
    cap,
    connectors,
    decision,
    gate,
    job,
    model_call,
    money,
    people,
    postgres,
    report,
    sandbox,
    start,
)
from benchmarks.figures import Measure, Options

TOPICS: dict[str, Callable[[Options], list[Measure]]] = {
    "decision": decision.measure,
    "gate": gate.measure,
    "job": job.measure,
    "start": start.measure,
    "model-call": model_call.measure,
    "money": money.measure,
    "people": people.measure,
    "postgres": postgres.measure,
    "cap": cap.measure,
    "bound": bound.measure,
    "sandbox": sandbox.measure,
    "connectors": connectors.measure,
}


def main() -> int:
    """Measure what was asked for. Exit code 0 whether or not targets are met: machines differ."""
    arguments = _parser().parse_args()
    began = time.monotonic()
    measures: list[Measure] = []
    with tempfile.TemporaryDirectory(prefix="remit-bench-", dir=arguments.folder) as folder:
        options = Options(quick=arguments.quick, folder=Path(folder))
        chosen = arguments.only or list(TOPICS)
        for name in ("calibration", *chosen):
            print(f"benchmarks: {name} ...", file=sys.stderr, flush=True)
            measures += calibration.measure(options) if name == "calibration" else TOPICS[name](options)
        after = calibration.measure(Options(quick=True, folder=Path(folder)))
    seconds = time.monotonic() - began
    result = report.as_json(measures, after, quick=arguments.quick, seconds=seconds)
    report.write(result, Path(__file__).parent / "results" / "latest.json")
    print(result if arguments.json else report.table(measures, after, seconds=seconds))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a few minutes instead of thirty, and rougher figures"
    )
    parser.add_argument("--only", action="append", choices=list(TOPICS), help="this topic (may be repeated)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument(
        "--folder",
        type=Path,
        default=None,
        help="measure the disk that this folder is on (default: temporary)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
