from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from remit.adapters.telemetry.spans import SpanRecord
from remit.cli.tracenodes import TraceView
from remit.cli.tracetree import render, to_json
from remit.core.messages import Usage
from remit.ports.journal import CallRecord

RUN_ID = "01k9zq8x4e5r6t7y8w9vabcdef"
AGENT = "customer-support-v2"
T0 = 1_790_000_000_000_000
BLOCKED = {
    "state": "refused",
    "code": "data.denied",
    "effect": "deny",
    "rule": "data_access.allow_pii",
    "source": "agent-config.yaml:18",
}


def span(kind: Any, resource: str, at: int = 0, **fields: Any) -> SpanRecord:
    given = {"place": f"{at}.t0", "attempt": 1, "step": at, "duration_us": 2_345, "state": "done"} | fields
    return SpanRecord(
        kind=kind,
        trace_id="0" * 32,
        run_id=RUN_ID,
        tenant="default",
        agent=AGENT,
        remit_digest="a" * 64,
        resource=resource,
        started_us=T0 + at,
        **given,
    )


def a_call(at: int, resource: str = "send_email", state: Any = "started") -> CallRecord:
    return CallRecord(
        action_id=f"{RUN_ID}.{at}.t0",
        run_id=RUN_ID,
        kind="tool",
        resource=resource,
        digest="d" * 64,
        started_at_us=T0 + at,
        ended_at_us=None,
        state=state,
        usage=Usage(),
        cost_nano_usd=0,
        held_nano_usd=5_000_000,
    )


def spans() -> list[SpanRecord]:
    return [
        span("run", AGENT, place="", attempt=0, state="succeeded", duration_us=8_000_000, cost_nano_usd=9_000_000),
        span("attempt", "1", 1, place="", state="failed", extra={"retry.error": "model.unavailable", "retry.in_s": 2.0}),
        span("model", "claude-x", 2, input_tokens=900, cache_read_tokens=100, output_tokens=40, cost_nano_usd=4_000_000),
        span("attempt", "2", 10, place="", attempt=2),
        span("model", "claude-x", 2, attempt=2, replayed=True, cost_nano_usd=4_000_000, input_tokens=1000),
        span("tool", "search_kb", 12, attempt=2, cost_nano_usd=1_000_000, extra={"result_count": 3}),
        span("tool", "get_customer", 13, attempt=2, **BLOCKED),
        span("tool", "send_email", 14, attempt=2, state="suspended", rule="approvals", extra={"remit.approval.id": "ap1"}),
        span("tool", "create_ticket", 15, attempt=2, state="unknown", code="effect.unknown"),
    ]  # fmt: skip


def view(**fields: Any) -> TraceView:
    return TraceView(**({"run_id": RUN_ID, "agent": AGENT, "status": "succeeded", "spans": spans()} | fields))


def test_the_tree_as_a_whole() -> None:
    assert render(view(), width=100) == (
        f"{RUN_ID}  {AGENT}  succeeded\n"
        "                                       time           tokens       direct        total\n"
        "✓ run customer-support-v2            8.00 s          1000→40    $0.004000    $0.009000\n"
        "├─ ✗ attempt 1                       2.3 ms          1000→40    $0.000000    $0.004000\n"
        "│  │ RETRY in 2 s  model.unavailable\n"
        "│  └─ ✓ chat claude-x                2.3 ms          1000→40    $0.004000    $0.004000\n"
        "└─ ✓ attempt 2                       2.3 ms                     $0.000000    $0.001000\n"
        "   ├─ ✓ chat claude-x replayed       2.3 ms\n"
        "   ├─ ✓ search_kb result_count=3     2.3 ms                     $0.001000    $0.001000\n"
        "   ├─ ✗ get_customer                 2.3 ms\n"
        "   │    BLOCKED data.denied  rule data_access.allow_pii  agent-config.yaml:18\n"
        "   ├─ ⏸ send_email                   2.3 ms\n"
        "   │    WAITS for approval ap1  rule approvals\n"
        "   └─ ? create_ticket                2.3 ms\n"
        "        UNKNOWN: it may have happened; a person decides\n"
    )


def test_money_without_a_span_is_the_runs_own_and_replays_cost_nothing() -> None:
    tree = to_json(view())["tree"]
    first, second = tree["children"]
    assert tree["cost_inclusive_nano_usd"] == 9_000_000
    assert tree["cost_direct_nano_usd"] == 4_000_000
    assert first["cost_inclusive_nano_usd"] == 4_000_000
    assert second["cost_inclusive_nano_usd"] == 1_000_000
    assert second["children"][0]["replayed"] is True


def test_json_is_plain_and_complete() -> None:
    found = to_json(view(calls=[a_call(20)], status="running"))
    assert orjson.loads(orjson.dumps(found)) == found
    blocked = found["tree"]["children"][1]["children"][2]
    assert (blocked["rule"], blocked["source"]) == ("data_access.allow_pii", "agent-config.yaml:18")
    assert blocked["parent_id"] == found["tree"]["children"][1]["span_id"]
    assert found["tree"]["children"][1]["children"][-1]["state"] == "running"


def test_an_open_call_is_running_while_the_run_is_and_in_doubt_after() -> None:
    running = render(view(status="running", calls=[a_call(20)], now_us=T0 + 5_000_020))
    assert "└─ … send_email" in running
    assert "5.00 s" in running
    assert "RUNNING: no outcome yet  $0.005000 held" in running
    ended = render(view(status="failed", code="run.interrupted", calls=[a_call(20)]))
    assert "NO OUTCOME: it may have happened" in ended
    assert "run.interrupted" in ended


def test_a_call_that_has_a_span_or_an_outcome_is_not_shown_twice() -> None:
    calls = [a_call(12, "search_kb"), a_call(30, "other", "done")]
    assert render(view(calls=calls)) == render(view())


def test_a_run_with_nothing_but_an_open_call_and_one_with_nothing_at_all() -> None:
    only = render(view(spans=[], calls=[a_call(3)], status="running", now_us=T0 + 9))
    assert "attempt 1" in only
    assert "send_email" in only
    nothing = render(view(spans=[], status="queued"))
    assert "… run customer-support-v2" in nothing


def test_an_attempt_that_goes_on_has_its_effects_already() -> None:
    going = [span("tool", "search_kb", 5)]
    assert "… attempt 1" in render(view(spans=going, status="running", now_us=T0 + 10))


@pytest.mark.parametrize("width", [0, 1, 20, 40, 60, 80, 100, 120, 200, 400])
def test_rule_and_line_survive_every_width(width: int) -> None:
    text = render(view(), width=width)
    assert "\x1b" not in text
    for needed in (
        "BLOCKED data.denied",
        "rule data_access.allow_pii",
        "agent-config.yaml:18",
        "ap1",
        "RETRY",
    ):
        assert needed in text


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_lines_fit_the_width_and_times_are_aligned(width: int) -> None:
    lines = render(view(), width=width).splitlines()[1:]
    assert max(cell_len(line) for line in lines) <= width
    ends = {line.index(" ms") + 3 for line in lines if " ms" in line}
    assert len(ends) == 1


@given(st.text(max_size=60), st.integers(10, 200))
def test_whatever_a_model_names_stays_on_its_line(tool: str, width: int) -> None:
    text = render(view(spans=[span("tool", tool, rule=tool, code=tool, state="refused")]), width=width)
    plain = render(view(spans=[span("tool", "x", rule="x", code="x", state="refused")]), width=1000)
    assert "\x1b" not in text
    assert len(text.splitlines()) >= len(plain.splitlines())
    assert all(char.isprintable() or char == "\n" for char in text)


def test_colour_only_where_it_is_wanted() -> None:
    assert "\x1b[31m" in render(view(), colour=True)
    assert "\x1b" not in render(view())


def test_three_thousand_spans_take_less_than_a_second() -> None:
    many = [span("tool", "search_kb", at, extra={"result_count": at}) for at in range(3000)]
    began = time.process_time()
    text = render(view(spans=many), width=140, colour=True)
    assert time.process_time() - began < 1.0
    assert text.count("search_kb") == 3000
