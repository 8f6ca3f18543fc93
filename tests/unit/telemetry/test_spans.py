from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from telemetry_samples import (
    ALLOW,
    DENY,
    REMIT,
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

from remit.adapters.telemetry import content, names
from remit.adapters.telemetry.otlp import attributes, span_name
from remit.adapters.telemetry.spans import SpanMaker, SpanRecord, effect_span
from remit.core import ids
from remit.core.outcomes import Done, Failed, Outcome, Refused, Suspended, Unknown

RUN = a_run()


def spanned(event, *, capture: bool = False) -> SpanRecord:
    span = SpanMaker(FixedClock(), capture_content=capture).span_of(event)
    assert span is not None
    return span


def test_ids_follow_from_run_attempt_and_action() -> None:
    call = a_tool_call(RUN, 3, "t1")
    effect = spanned(ended(RUN, call, attempt=2))
    attempt = spanned(attempt_ended(RUN, 2))
    run = spanned(stopped(RUN))
    assert effect.span_id == ids.span_id(call.id)
    assert effect.parent_id == attempt.span_id == ids.span_id(f"{RUN_ID}/attempt/2")
    assert attempt.parent_id == run.span_id == ids.span_id(RUN_ID)
    assert run.parent_id == ""
    assert {effect.trace_id, attempt.trace_id, run.trace_id} == {ids.trace_id(RUN_ID)}


def test_a_wait_and_a_replay_do_not_take_the_id_of_the_performance() -> None:
    call = a_tool_call(RUN)
    wait = spanned(ended(RUN, call, Suspended(approval_id="ap1", decision=DENY)))
    done = spanned(ended(RUN, call))
    replay = spanned(ended(RUN, call, Done(value={}, replayed=True), attempt=2))
    refused = spanned(ended(RUN, call, Refused(decision=DENY), attempt=2))
    assert len({wait.span_id, done.span_id, replay.span_id, refused.span_id}) == 4


@pytest.mark.parametrize(
    ("outcome", "state", "code", "failed"),
    [
        (Done(value={}), "done", "", False),
        (Refused(decision=DENY), "refused", "data.denied", True),
        (Suspended(approval_id="ap1", decision=DENY), "suspended", "data.denied", False),
        (Failed(code="tool.timeout", message="m"), "failed", "tool.timeout", True),
        (Unknown(action_id="a", reason="r"), "unknown", "effect.unknown", True),
    ],
)
def test_each_outcome_has_its_state(outcome: Outcome, state: str, code: str, failed: bool) -> None:
    span = spanned(ended(RUN, a_tool_call(RUN), outcome))
    assert (span.state, span.code, span.failed) == (state, code, failed)


def test_a_refusal_by_the_journal_shows_its_own_decision_and_not_the_first() -> None:
    event = ended(RUN, a_tool_call(RUN), Refused(decision=DENY))
    late = event.__class__(
        run=RUN,
        action=event.action,
        attempt=1,
        decision=ALLOW,
        outcome=event.outcome,
        started_us=event.started_us,
        duration_us=1,
    )
    assert spanned(late).rule == DENY.rule


def test_a_span_is_made_once_for_all_sinks() -> None:
    maker = SpanMaker(FixedClock())
    event = ended(RUN, a_tool_call(RUN))
    assert maker.span_of(event) is maker.span_of(event)
    assert maker.span_of(crossed(RUN)) is None
    assert maker.span_of(event) is not None


SECRETS = ("4111-1111", "ada@secret.example", "the whole answer", "do not show", "printed on the way")


def content_events() -> list:
    return [
        ended(
            RUN,
            a_tool_call(RUN, tool="get_customer", args={"email": SECRETS[1]}),
            Done(value={"found": True, "card": SECRETS[0]}),
        ),
        ended(
            RUN,
            a_tool_call(RUN, args={"query": SECRETS[3]}),
            Failed(code="tool.failed", message=SECRETS[3], output=SECRETS[4]),
        ),
        ended(RUN, a_model_call(RUN, text=SECRETS[3]), model_done()),
        ended(RUN, a_release(RUN, answer=SECRETS[2]), Done(value=SECRETS[2])),
    ]


def test_no_content_on_spans_unless_it_is_asked_for() -> None:
    for event in content_events():
        shown = repr(spanned(event))
        assert not any(secret in shown for secret in SECRETS), shown


def test_content_on_spans_where_it_is_asked_for() -> None:
    shown = "".join(repr(spanned(event, capture=True)) for event in content_events())
    assert all(secret in shown for secret in SECRETS)


@pytest.mark.parametrize(
    ("value", "captured"),
    [
        ("", False),
        ("NO_CONTENT", False),
        ("EVENT_ONLY", False),
        ("true", False),
        ("SPAN_ONLY", True),
        ("span_and_event", True),
    ],
)
def test_only_the_named_values_switch_content_on(value: str, captured: bool) -> None:
    assert content.captures_content({content.CAPTURE_VARIABLE: value}) is captured
    assert content.captures_content({}) is False


def test_named_fields_of_the_support_tools() -> None:
    ticket = a_tool_call(RUN, tool="create_ticket", args={"priority": "high", "title": "secret"})
    assert spanned(ended(RUN, ticket, Done(value={"ticket_id": "T-7"}))).shown == {
        "ticket_id": "T-7",
        "priority": "high",
    }
    customer = a_tool_call(RUN, tool="get_customer", args={"id": "c1"})
    assert spanned(ended(RUN, customer, Done(value={"found": False}))).shown == {"customer_exists": False}
    search = ended(RUN, a_tool_call(RUN, args={"query": "refunds"}))
    assert spanned(search).shown == {"result_count": 2}
    assert spanned(search, capture=True).shown == {"result_count": 2, "query": "refunds"}


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ([1, 2], 2),
        ({"rows": [1]}, 1),
        ({"results": [], "columns": ["a"]}, 0),
        ({"items": [1, 2, 3], "next": 4}, 3),
        ({"a": [1], "b": [2]}, None),
        ({"found": True}, None),
        ("text", None),
        (None, None),
    ],
)
def test_result_count(value: object, count: int | None) -> None:
    assert content.record_count(value) == count


@given(st.text(max_size=9000))
def test_what_is_cut_is_still_json_and_bounded(text: str) -> None:
    found = content.content_of(a_model_call(RUN, text=text), model_done())
    messages = orjson.loads(found[names.INPUT_MESSAGES])
    assert len(messages[0]["parts"][0]["content"]) <= content.PART_CHARS_MAX


def test_of_a_long_history_the_newest_messages_are_kept() -> None:
    call = a_model_call(RUN, text="x" * 5000)
    request = call.request  # type: ignore[attr-defined]
    many = a_model_call(RUN)
    object.__setattr__(
        many,
        "request",
        request.__class__(
            model=request.model, system="", messages=request.messages * 100, tools=(), max_output_tokens=1
        ),
    )
    found = content.content_of(many, model_done())[names.INPUT_MESSAGES]
    assert 1 < len(orjson.loads(found)) < 100
    assert len(found) < 2 * content.MESSAGES_CHARS_MAX


def test_names_by_the_conventions() -> None:
    spans = {
        "invoke_agent customer-support-v2": stopped(RUN),
        "agent.attempt": attempt_ended(RUN),
        "execute_tool search_kb": ended(RUN, a_tool_call(RUN)),
        "chat claude-sonnet-4-20250514": ended(RUN, a_model_call(RUN), model_done()),
        "release answer": ended(RUN, a_release(RUN)),
    }
    for name, event in spans.items():
        assert span_name(spanned(event)) == name


def test_the_missions_names_stand_in_agent_span() -> None:
    found = [
        attributes(spanned(event))["agent.span"]
        for event in (
            stopped(RUN),
            attempt_ended(RUN, 3),
            ended(RUN, a_tool_call(RUN)),
            ended(RUN, a_model_call(RUN), model_done()),
        )
    ]
    assert found == ["agent.run", "agent.attempt.3", "tool.search_kb", "llm.call"]


def test_attributes_of_a_model_call() -> None:
    found = attributes(spanned(ended(RUN, a_model_call(RUN), model_done())))
    assert found["gen_ai.provider.name"] == "anthropic"
    assert found["gen_ai.usage.input_tokens"] == 1000  # the cached ones included
    assert found["gen_ai.usage.cache_read.input_tokens"] == 100
    assert found["gen_ai.response.finish_reasons"] == ["tool_use"]
    assert found["remit.cost.nano_usd"] == 4_113_000
    assert found["remit.digest"] == REMIT


def test_started_run_has_no_duration() -> None:
    span = spanned(started(RUN))
    assert (span.duration_us, span.state) == (None, "running")


def test_an_unserialisable_result_is_named_and_not_raised() -> None:
    event = ended(RUN, a_tool_call(RUN), Done(value={"results": ["\ud800"]}))
    assert "not shown" in effect_span(event, capture=True).extra[names.TOOL_CALL_RESULT]
