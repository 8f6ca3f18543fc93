"""What a decision by the remit's rules costs, with few rules and with many. No disk, no event loop."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.figures import Measure, Options, Samples, percentile
from benchmarks.parts import MODEL, PRINCIPAL, governance_file, tool
from remit.core.actions import Place, ToolCall, tool_call
from remit.core.decisions import Decision
from remit.governance.compiler import parse
from remit.governance.rules import Rules

TARGET_US = 5.0
LIMITED_BY = "parsing the canonical arguments and checking them against the tool's schema"


def measure(options: Options) -> list[Measure]:
    """A granted call and a refused one under remits of 10 and of 1,000 tools."""
    found = Samples()
    rules = {count: _rules(count) for count in (10, 1000)}
    for _ in range(options.pick(3, 9)):
        for count, of_count in rules.items():
            granted, unknown = _call(f"tool_{count // 2}"), _call("no_such_tool")
            assert of_count.decide(granted).effect == "allow"
            assert of_count.decide(unknown).code == "tool.not_granted"
            taken_us = _taken_us(of_count.decide, granted, options.pick(2_000, 10_000))
            found.add(
                **{
                    f"{count}_p50": percentile(taken_us, 0.5),
                    f"{count}_p99": percentile(taken_us, 0.99),
                    f"{count}_refused": percentile(_taken_us(of_count.decide, unknown, 2_000), 0.5),
                }
            )
    return [
        Measure(
            topic="decision",
            name=f"{label}, {count:,} tools, {share}",
            unit="us",
            samples=found.of(f"{count}_{key}"),
            target=TARGET_US if share == "p50" else None,
            limited_by=limited_by,
        )
        for count in (10, 1000)
        for key, label, share, limited_by in (
            ("p50", "allowed", "p50", LIMITED_BY),
            ("p99", "allowed", "p99", "interruptions by the machine"),
            ("refused", "refused", "p50", "writing the reason"),
        )
    ]


def _rules(count: int) -> Rules:
    specs = [tool(f"tool_{number}") for number in range(count)]
    return Rules(parse(governance_file(specs, MODEL), "bench.yaml", specs), specs)


def _call(name: str) -> ToolCall:
    place = Place(run_id="0" * 26, step=1, name="t0", principal=PRINCIPAL)
    return tool_call(place, name, "call-0", {"order_id": "o-4711"})


def _taken_us(decide: Callable[[ToolCall], Decision], action: ToolCall, count: int) -> list[float]:
    """What each of `count` decisions took; the reading of the clock, some 0.05 us, is in it."""
    now = time.perf_counter_ns
    taken = []
    for _ in range(count):
        began = now()
        decide(action)
        taken.append((now() - began) / 1e3)
    return taken
