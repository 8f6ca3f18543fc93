"""What the headers of a response say: how long to wait, and what is still allowed. And events from bytes."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_wires import AnthropicWire, ResponsesWire

from remit.adapters.models import AnthropicModel, OpenAIModel, Quota
from remit.adapters.models.failures import RETRY_AFTER_MAX_S, retry_after_s
from remit.adapters.models.quota import read_quota
from remit.adapters.models.replies import args_object, parse, safe_id, safe_name, tool_args_of_text
from remit.adapters.models.sse import SseDecoder
from remit.ports.effects import EffectFailed
from remit.testing.model_suite import KEY, Said, chunks_of, request_of

DATE = "Sun, 22 Nov 2026 10:00:00 GMT"
DATE_US = 1_795_341_600_000_000


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1e300"}, RETRY_AFTER_MAX_S),
        ({"retry-after": "Sun, 22 Nov 2026 10:01:30 GMT", "date": DATE}, 90.0),
        ({"retry-after": "Sun, 22 Nov 2026 09:00:00 GMT", "date": DATE}, 0.0),
        ({"retry-after": "Sun, 22 Nov 2026 10:01:30 GMT"}, None),
        ({"retry-after": "Sun, 99 Nov 2026 10:01:30 GMT", "date": DATE}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


@given(text=st.text(max_size=30) | st.from_regex(r"\A[0-9.,:+ A-Za-z-]{0,30}\Z"), date=st.text(max_size=20))
@settings(max_examples=150, deadline=None)
def test_any_header_is_a_wait_or_none(text: str, date: str) -> None:
    seconds = retry_after_s({"retry-after": text, "date": date})
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_MAX_S
    limits = {"limit": "10", "remaining": "3", "reset": text}
    named = {f"x-ratelimit-{field}-requests": value for field, value in limits.items()}
    (quota,) = read_quota("openai", "m", {**named, "date": DATE})
    assert quota.resets_at_us is None or isinstance(quota.resets_at_us, int)


def test_the_quotas_of_anthropic() -> None:
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2026-11-22T10:00:01Z",
        "anthropic-ratelimit-input-tokens-limit": "40000",
        "anthropic-ratelimit-input-tokens-remaining": "39000",
        "anthropic-ratelimit-input-tokens-reset": "soon",
        "anthropic-ratelimit-output-tokens-limit": "8000",
        "anthropic-ratelimit-output-tokens-remaining": "-1",
    }
    assert read_quota("anthropic", "m", headers) == (
        Quota(
            provider="anthropic",
            model="m",
            kind="requests",
            limit=50,
            remaining=49,
            resets_at_us=DATE_US + 1_000_000,
        ),
        Quota(
            provider="anthropic",
            model="m",
            kind="input_tokens",
            limit=40000,
            remaining=39000,
            resets_at_us=None,
        ),
    )


@pytest.mark.parametrize(
    ("reset", "wait_us"),
    [
        ("1s", 1_000_000),
        ("12ms", 12_000),
        ("6m0s", 360_000_000),
        ("1h2m3.5s", 3_723_500_000),
        ("1d", 86_400_000_000),
        ("7m", 420_000_000),
        ("", None),
        ("soon", None),
        ("999999999d999999999h", None),  # once an OverflowError, which failed the call
        ("999999999d", None),  # once more microseconds than a file of ours can hold
    ],
)
def test_the_quotas_of_openai_count_from_the_response_s_date(reset: str, wait_us: int | None) -> None:
    headers = {
        "date": DATE,
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-tokens": "149000",
        "x-ratelimit-reset-tokens": reset,
    }
    (quota,) = read_quota("openai", "m", headers)
    at = None if wait_us is None else DATE_US + wait_us
    assert quota == Quota(
        provider="openai", model="m", kind="tokens", limit=150000, remaining=149000, resets_at_us=at
    )


@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.parametrize("provider", ["anthropic", "openai"])
async def test_the_last_quotas_are_kept_and_told(provider: str, status: int) -> None:
    wire = AnthropicWire() if provider == "anthropic" else ResponsesWire()
    name = "anthropic-ratelimit-requests-{}" if provider == "anthropic" else "x-ratelimit-{}-requests"
    left = ["9", "8", ""]  # the last response tells none

    def handle(request: httpx2.Request) -> httpx2.Response:
        headers = {name.format("limit"): "10", name.format("remaining"): left.pop(0)}
        body = wire.body(Said(text="Hi")) if status == 200 else b"{}"
        return httpx2.Response(status, content=body, headers=headers)

    told: list[tuple[Quota, ...]] = []
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(handle))
    make = AnthropicModel if provider == "anthropic" else OpenAIModel
    model = make(KEY, base_url="http://provider.test", http_client=client, on_quota=told.append)
    assert model.quota() == ()
    for _ in range(3):
        expected = nullcontext() if status == 200 else pytest.raises(EffectFailed)
        with expected:
            await model.complete(request_of(wire))
    assert [(quotas[0].provider, quotas[0].remaining) for quotas in told] == [(provider, 9), (provider, 8)]
    assert model.quota() == told[-1]
    await model.aclose()


_lines = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8), max_size=3)
_ends = st.sampled_from(["\n", "\r\n", "\r"])


@given(events=st.lists(_lines, max_size=5), end=_ends, cuts=st.lists(st.integers(0, 500), max_size=8))
@settings(max_examples=200, deadline=None)
def test_events_are_the_same_however_the_bytes_are_cut(
    events: list[list[str]], end: str, cuts: list[int]
) -> None:
    text = ""
    for lines in events:
        text += f": a comment{end}event: x{end}" + "".join(f"data: {line}{end}" for line in lines) + end
    decoder = SseDecoder()
    got = [data for chunk in chunks_of(text.encode(), cuts) for data in decoder.feed(chunk)]
    assert got == ["\n".join(lines).encode() for lines in events if lines]


def test_an_event_that_breaks_off_is_none_and_a_byte_order_mark_is_nothing() -> None:
    assert list(SseDecoder().feed(b"\xef\xbb\xbfdata:1\n\ndata: 2\n")) == [b"1"]


@given(data=st.binary(max_size=40) | st.just(b"[" * 10_000 + b"]" * 10_000))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_json_or_not(data: bytes) -> None:
    try:
        value = parse(data)
    except ValueError:
        return
    json.dumps(value)


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        ('{"a": 1.0}', {"a": 1.0}),
        ("[1]", [1]),
        ("{'a': 1}", "{'a': 1}"),
        ('{"a": NaN}', '{"a": NaN}'),
        ('{"a": 1}{', '{"a": 1}{'),
        ('{"a": 9007199254740991}', {"a": 2**53 - 1}),
        ('{"a": "12345678901234567890"}', {"a": "12345678901234567890"}),
        ('{"a": 0.12345678901234567890}', {"a": 0.12345678901234568}),
        (r'{"a": "\ud800"}', {"a": "?"}),
    ],
)
def test_arguments_are_read_strictly(text: str, args: Any) -> None:
    assert tool_args_of_text(text) == args


@pytest.mark.parametrize(
    "text", ['{"a": 1e999}', '{"a": -9223372036854775809}', '{"a": 36893488147419103232}']
)
def test_numbers_beyond_the_record_are_a_text(text: str) -> None:
    assert "cannot be taken" in tool_args_of_text(text)
    assert set(args_object(tool_args_of_text(text))) == {"not_an_object"}


@given(one=st.text(max_size=80), two=st.text(max_size=80))
def test_ids_that_differ_stay_different(one: str, two: str) -> None:
    assert (safe_id(one) == safe_id(two)) is (one == two)
    assert 0 < len(safe_id(one)) <= 64
    assert safe_id(safe_id(one)) == safe_id(one)
    assert 0 < len(safe_name(one)) <= 64
