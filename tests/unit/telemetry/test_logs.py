from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from telemetry_samples import (
    AGENT,
    DENY,
    MODEL,
    RUN_ID,
    FixedClock,
    a_model_call,
    a_release,
    a_run,
    a_tool_call,
    attempt_ended,
    crossed,
    ended,
    model_done,
    started,
    stopped,
)

from remit.adapters.telemetry.batches import BatchOptions
from remit.adapters.telemetry.logs import JsonLog, LogOptions
from remit.adapters.telemetry.spans import SpanMaker
from remit.core import ids
from remit.core.outcomes import Done, Failed, Refused, Suspended, Unknown

RUN = a_run()
Line = dict[str, Any]
Logged = Callable[..., list[Line]]


@pytest.fixture
def logged(tmp_path: Path, heard: Any) -> Iterator[Logged]:
    logs: list[JsonLog] = []

    def log(*events: Any, capture: bool = False) -> list[Line]:
        path = tmp_path / "logs" / "remit.jsonl"
        maker = SpanMaker(FixedClock(), capture_content=capture)
        log = JsonLog(path, maker, lost=heard.count, notice=heard.notices.append, options=LogOptions())
        logs.append(log)
        for event in events:
            log.emit(event)
        assert log.flush()
        return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    yield log
    for log_ in logs:
        log_.close()
    assert heard.lost == 0, heard.notices


def test_a_tool_call_is_one_line_with_its_ids(logged: Logged) -> None:
    call = a_tool_call(RUN, 3, "t1")
    (line,) = logged(ended(RUN, call))
    assert line == {
        "ts": "2026-09-21T14:13:20.002345Z",
        "level": "INFO",
        "event": "TOOL_CALL",
        "trace_id": RUN.trace_id,
        "span_id": ids.span_id(call.id),
        "run_id": RUN_ID,
        "agent": AGENT,
        "tool": "search_kb",
        "state": "done",
        "step": 3,
        "attempt": 1,
        "duration_ms": 2,
        "result_count": 2,
    }


def test_a_model_call_has_tokens_and_a_cost_that_sorts(logged: Logged) -> None:
    (line,) = logged(ended(RUN, a_model_call(RUN), model_done(4_113_000)))
    assert (line["event"], line["model"]) == ("LLM_CALL", MODEL)
    assert (line["input_tokens"], line["output_tokens"], line["cost"]) == (1000, 40, 0.004113)


def test_a_cost_is_a_plain_decimal_without_exponent_or_sign(tmp_path: Path, heard: Any) -> None:
    log = JsonLog(
        tmp_path / "log", SpanMaker(FixedClock()), lost=heard.count, notice=print, options=LogOptions()
    )
    for cost in (0, 1, 4_113_000, 10**9, 123_456_789_000):
        log.emit(ended(RUN, a_model_call(RUN), model_done(cost)))
    log.close()
    costs = [line.split(b'"cost":')[1].rstrip(b"}") for line in (tmp_path / "log").read_bytes().splitlines()]
    assert costs == [b"0", b"0.000000001", b"0.004113", b"1", b"123.456789"]


def test_a_block_tells_tool_code_rule_and_source(logged: Logged) -> None:
    (line,) = logged(ended(RUN, a_tool_call(RUN, tool="get_customer"), Refused(decision=DENY)))
    assert (line["level"], line["event"], line["tool"]) == ("WARNING", "BLOCKED", "get_customer")
    assert (line["code"], line["rule"], line["source"]) == (DENY.code, DENY.rule, DENY.source)


def test_a_wait_names_its_approval(logged: Logged) -> None:
    (line,) = logged(ended(RUN, a_tool_call(RUN), Suspended(approval_id="ap1", decision=DENY)))
    assert (line["event"], line["state"], line["approval_id"]) == ("BLOCKED", "suspended", "ap1")


@pytest.mark.parametrize(
    "event",
    [
        ended(RUN, a_tool_call(RUN), Failed(code="tool.failed", message="m")),
        ended(RUN, a_model_call(RUN), Failed(code="model.timeout", message="m")),
        ended(RUN, a_tool_call(RUN), Unknown(action_id="", reason="")),
        stopped(RUN, "failed", "run.failed"),
        stopped(RUN, "timed_out", "run.timed_out"),
    ],
)
def test_a_failure_is_found_by_grep_error(logged: Logged, event: Any) -> None:
    (line,) = logged(event)
    assert line["level"] == "ERROR"
    assert line["code"]


def test_the_life_of_a_run(logged: Logged) -> None:
    lines = logged(
        started(RUN),
        attempt_ended(RUN, 1, "model.unavailable", 1.5),
        attempt_ended(RUN, 2),
        stopped(RUN, "suspended"),
        crossed(RUN),
        ended(RUN, a_release(RUN), Done(value="It ships today.")),
        stopped(RUN),
    )
    assert [line["event"] for line in lines] == [
        "RUN_STARTED",
        "RETRY",
        "RUN_SUSPENDED",
        "ALERT",
        "RELEASE",
        "RUN_ENDED",
    ]
    retry, alert, end = lines[1], lines[3], lines[5]
    assert (retry["attempt"], retry["error"], retry["retry_in_s"]) == (1, "model.unavailable", 1.5)
    assert (alert["spent"], alert["cap"], alert["threshold_percent"]) == (40, 50, 80)
    assert (end["status"], end["cost"], end["duration_ms"]) == ("succeeded", 0.004113, 6000)
    assert {line["trace_id"] for line in lines} == {RUN.trace_id}


def test_a_ticket_is_logged_with_id_and_priority(logged: Logged) -> None:
    call = a_tool_call(RUN, tool="create_ticket", args={"priority": "high", "title": "secret"})
    (line,) = logged(ended(RUN, call, Done(value={"ticket_id": "T-7", "note": "secret"})))
    assert (line["ticket_id"], line["priority"]) == ("T-7", "high")
    assert "secret" not in str(line)


@pytest.mark.parametrize("capture", [False, True])
def test_whole_texts_are_never_in_the_log(logged: Logged, capture: bool) -> None:
    lines = logged(
        ended(RUN, a_model_call(RUN, text="secret"), model_done()),
        ended(RUN, a_release(RUN, answer="secret"), Done(value="secret")),
        ended(
            RUN,
            a_tool_call(RUN, tool="x", args={"a": "secret"}),
            Failed(code="tool.failed", message="secret"),
        ),
        capture=capture,
    )
    assert "secret" not in str(lines)
    assert len(lines) == 3


@given(tool=st.text(max_size=40))
def test_whatever_a_model_names_is_one_line(tool: str) -> None:
    written: list[bytes] = []
    log = JsonLog("stderr", SpanMaker(FixedClock()), lost=written.append, notice=print, options=LogOptions())  # type: ignore[arg-type]
    span = SpanMaker(FixedClock()).span_of(ended(RUN, a_tool_call(RUN), Refused(decision=DENY)))
    assert span is not None
    line = log._line(span._replace(resource=tool))
    log.close()
    assert line.count(b"\n") == 1
    assert orjson.loads(line)["tool"] == tool


@pytest.mark.parametrize("sink", ["stdout", "stderr"])
def test_the_streams(sink: Any, heard: Any, capfd: pytest.CaptureFixture[str]) -> None:
    log = JsonLog(sink, SpanMaker(FixedClock()), lost=heard.count, notice=print, options=LogOptions())
    log.emit(started(RUN))
    log.close()
    shown = capfd.readouterr()
    assert "RUN_STARTED" in (shown.out if sink == "stdout" else shown.err)
    assert heard.lost == 0


def test_a_log_that_cannot_be_written_is_counted_and_told_once(tmp_path: Path, heard: Any) -> None:
    (tmp_path / "file").write_text("")
    log = JsonLog(
        tmp_path / "file" / "log",
        SpanMaker(FixedClock()),
        lost=heard.count,
        notice=heard.notices.append,
        options=LogOptions(batches=BatchOptions(interval_s=0.0)),
    )
    for _ in range(3):
        log.emit(started(RUN))
        log.flush()
    log.close()
    assert (heard.lost, len(heard.notices)) == (3, 1)


def test_a_file_that_is_moved_away_is_begun_anew(logged: Logged, tmp_path: Path) -> None:
    assert len(logged(started(RUN))) == 1
    (tmp_path / "logs" / "remit.jsonl").rename(tmp_path / "logs" / "remit.jsonl.1")
    assert len(logged(started(RUN))) == 1


def test_lines_keep_their_order_over_seconds(logged: Logged) -> None:
    call = a_tool_call(RUN)
    lines = logged(*(ended(RUN, call, at=1_790_000_000_000_000 + n * 333_333) for n in range(10)))
    stamps = [line["ts"] for line in lines]
    assert stamps == sorted(stamps)
    assert len(set(stamps)) == 10
