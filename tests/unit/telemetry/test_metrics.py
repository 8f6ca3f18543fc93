from __future__ import annotations

import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from telemetry_samples import (
    AGENT,
    DENY,
    MODEL,
    RUN_ID,
    a_model_call,
    a_release,
    a_run,
    a_tool_call,
    crossed,
    ended,
    model_done,
    started,
    stopped,
)

from remit.adapters.telemetry.metrics import BUCKETS, Metrics
from remit.core.errors import RemitError
from remit.core.outcomes import Done, Failed, Refused, Suspended, Unknown

RUN = a_run()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The sample of exactly these labels, as Prometheus reads it."""
    for family in text_string_to_metric_families(metrics.expose().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def test_what_an_agent_can_have_is_there_at_zero_from_the_start() -> None:
    metrics = Metrics()
    metrics.declare(AGENT, ["search_kb", "send_email"], MODEL)
    for status in ("success", "error", "timeout", "refused", "cancelled"):
        assert value(metrics, "agent_tasks_total", agent_name=AGENT, status=status) == 0
    for tool in ("search_kb", "send_email", "llm", "run"):
        assert value(metrics, "agent_task_duration_seconds_count", agent_name=AGENT, tool=tool) == 0
    assert value(metrics, "agent_cost_usd_total", agent_name=AGENT, model=MODEL) == 0
    assert value(metrics, "agent_cost_total_usd", agent_name=AGENT, model=MODEL) == 0
    assert value(metrics, "agent_active_runs", agent_name=AGENT) == 0
    assert value(metrics, "remit_spans_dropped_total", sink="traces") == 0


@pytest.mark.parametrize(
    ("status", "label"),
    [
        ("succeeded", "success"),
        ("failed", "error"),
        ("timed_out", "timeout"),
        ("refused", "refused"),
        ("cancelled", "cancelled"),
    ],
)
def test_each_end_counts_once_under_its_status(status, label) -> None:  # type: ignore[no-untyped-def]
    metrics = Metrics()
    metrics.emit(started(RUN))
    assert value(metrics, "agent_active_runs", agent_name=AGENT) == 1
    metrics.emit(stopped(RUN, status))
    assert value(metrics, "agent_active_runs", agent_name=AGENT) == 0
    assert value(metrics, "agent_tasks_total", agent_name=AGENT, status=label) == 1
    assert value(metrics, "agent_task_duration_seconds_sum", agent_name=AGENT, tool="run") == 6


def test_a_wait_is_neither_active_nor_an_end() -> None:
    metrics = Metrics()
    metrics.emit(started(RUN))
    metrics.emit(stopped(RUN, "suspended"))
    assert value(metrics, "agent_active_runs", agent_name=AGENT) == 0
    assert b'status="' not in metrics.expose()
    metrics.emit(stopped(RUN, "cancelled"))  # it was not active: the gauge stays where it is
    assert value(metrics, "agent_active_runs", agent_name=AGENT) == 0


def test_only_what_was_performed_is_timed_and_paid() -> None:
    metrics = Metrics()
    call = a_tool_call(RUN)
    for outcome in (
        Refused(decision=DENY),
        Suspended(approval_id="ap", decision=DENY),
        Done(value={}, cost_nano_usd=5, replayed=True),
    ):
        metrics.emit(ended(RUN, call, outcome))
    assert b"agent_task_duration_seconds_count{" not in metrics.expose()
    assert b"agent_cost_usd_total{" not in metrics.expose()
    metrics.emit(ended(RUN, call, Done(value={}, cost_nano_usd=1_000_000_000)))
    metrics.emit(ended(RUN, call, Failed(code="tool.failed", message="", cost_nano_usd=500_000_000)))
    metrics.emit(ended(RUN, call, Unknown(action_id="", reason="")))
    metrics.emit(ended(RUN, a_model_call(RUN), model_done(4_113_000), took=700_000))
    metrics.emit(ended(RUN, a_release(RUN), Done(value="text")))
    assert value(metrics, "agent_task_duration_seconds_count", agent_name=AGENT, tool="search_kb") == 3
    assert value(metrics, "agent_task_duration_seconds_sum", agent_name=AGENT, tool="llm") == 0.7
    assert value(metrics, "agent_cost_usd_total", agent_name=AGENT, model="none") == 1.5
    assert value(metrics, "agent_cost_total_usd", agent_name=AGENT, model=MODEL) == 0.004113


def test_buckets() -> None:
    metrics = Metrics()
    metrics.declare(AGENT, [], MODEL)
    edges = [
        sample.labels["le"]
        for family in text_string_to_metric_families(metrics.expose().decode())
        for sample in family.samples
        if sample.name == "agent_task_duration_seconds_bucket" and sample.labels["tool"] == "llm"
    ]
    assert edges == [*(str(edge) for edge in BUCKETS), "+Inf"]
    assert BUCKETS == (0.1, 0.5, 1, 2.5, 5, 10, 30, 60)


def test_decisions_count_the_one_that_held() -> None:
    metrics = Metrics()
    metrics.emit(ended(RUN, a_tool_call(RUN)))
    metrics.emit(ended(RUN, a_tool_call(RUN), Refused(decision=DENY)))
    name = "remit_decisions_total"
    assert value(metrics, name, agent_name=AGENT, effect="allow", code="allowed") == 1
    assert value(metrics, name, agent_name=AGENT, effect="deny", code="data.denied") == 1


def test_no_label_holds_the_id_of_a_run_a_user_or_a_made_up_tool() -> None:
    metrics = Metrics()
    made_up = a_tool_call(RUN, tool="tool-the-model-made-up")
    for event in (
        started(RUN),
        ended(RUN, a_tool_call(RUN)),
        ended(RUN, made_up, Refused(decision=DENY)),
        crossed(RUN, f"run:{RUN_ID}"),
        stopped(RUN),
    ):
        metrics.emit(event)
    shown = metrics.expose().decode()
    assert RUN_ID not in shown
    assert RUN.principal.id not in shown
    assert "made-up" not in shown
    assert value(metrics, "remit_budget_alerts_total", agent_name=AGENT, scope="run", threshold="80") == 1


@given(st.lists(st.integers(0, 10**12), max_size=50))
def test_money_is_summed_exactly(costs: list[int]) -> None:
    metrics = Metrics()
    metrics.declare(AGENT, [], MODEL)
    for cost in costs:
        metrics.emit(ended(RUN, a_model_call(RUN), model_done(cost)))
    assert value(metrics, "agent_cost_usd_total", agent_name=AGENT, model=MODEL) == sum(costs) / 10**9


def test_serve_answers_and_frees_its_port() -> None:
    metrics = Metrics()
    metrics.count_lost("log", 3)
    metrics.count_error("traces")
    server = metrics.serve("127.0.0.1:0")
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as response:
        body = response.read().decode()
    assert 'remit_spans_dropped_total{sink="log"} 3.0' in body
    assert 'remit_telemetry_errors_total{sink="traces"} 1.0' in body
    taken = f"127.0.0.1:{server.port}"
    server.close()
    metrics.serve(taken).close()


@pytest.mark.parametrize("address", ["9090", "localhost", "127.0.0.1:http", "127.0.0.1:99999", ":80", ""])
def test_an_address_that_is_none_is_told(address: str) -> None:
    with pytest.raises(RemitError) as error:
        Metrics().serve(address)
    assert error.value.code == "usage.invalid"
