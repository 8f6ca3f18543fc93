"""What goes wrong on purpose, as the official clients meet it, and that the bill knows all of it."""

from __future__ import annotations

import asyncio
import csv
import time
from collections import Counter
from email.utils import parsedate_to_datetime
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from scripted_clients import GPT, MODEL, Clients, clients, entry, posting, says, script, user

from remit.testing.fakes import FakeClock
from remit.testing.model_server import BillRate, Chaos

TEXT = "This is a text of quite some length, which is told in a number of pieces, one after the other."
PROTOCOLS = ("messages", "responses", "chat")


async def ask(talk: Clients, protocol: str, stream: bool, text: str = "x") -> str:
    """The text of the answer, with the client of the protocol's provider."""
    said: Any
    if protocol == "messages":
        request: dict[str, Any] = {"model": MODEL, "max_tokens": 500, "messages": user(text)}
        if not stream:
            return (await talk.anthropic.messages.create(**request)).content[0].text
        async with talk.anthropic.messages.stream(**request) as events:
            return (await events.get_final_message()).content[0].text
    if protocol == "responses":
        if not stream:
            return (await talk.openai.responses.create(model=GPT, input=text)).output_text
        said = [one async for one in await talk.openai.responses.create(model=GPT, input=text, stream=True)]
        return said[-1].response.output_text
    if not stream:
        done = await talk.openai.chat.completions.create(model=GPT, messages=user(text))
        return done.choices[0].message.content or ""
    said = await talk.openai.chat.completions.create(model=GPT, messages=user(text), stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in said])


def failing(**error: Any) -> Any:
    return says(TEXT, error=error)


BROKEN = (
    anthropic.APIConnectionError,
    openai.APIConnectionError,
    httpx2.RemoteProtocolError,
    httpx2.ReadError,
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_errors_have_the_providers_shape_and_are_not_billed(protocol: str, stream: bool) -> None:
    statuses = {
        "429": (anthropic.RateLimitError, openai.RateLimitError),
        "500": (anthropic.InternalServerError, openai.InternalServerError),
        "503": (anthropic.InternalServerError, openai.InternalServerError),
        "529": (anthropic.InternalServerError, openai.InternalServerError),
        "402": (anthropic.APIStatusError, openai.APIStatusError),
    }
    scripts = [says(TEXT, f"^{one}$", error={"status": int(one), "retry_after_s": 2}) for one in statuses]
    async with clients(*scripts) as talk:
        for status, kinds in statuses.items():
            with pytest.raises(kinds) as caught:
                await ask(talk, protocol, stream, status)
            assert caught.value.status_code == int(status)
            assert caught.value.response.headers["retry-after"] == "2"
            assert (entry(talk.server).outcome, entry(talk.server).billed) == ("failed", False)
            assert await ask(talk, protocol, stream, status) == TEXT
        assert talk.server.bill["calls"] == len(statuses)


async def test_a_spent_quota_is_told_as_the_providers_tell_it() -> None:
    async with clients(failing(quota=True, times="always")) as talk:
        with pytest.raises(anthropic.RateLimitError) as limited:
            await ask(talk, "messages", False)
        assert (limited.value.type, limited.value.error_code) == (
            "rate_limit_error",
            "enforced_spend_limit_reached",
        )
        for protocol in ("responses", "chat"):
            with pytest.raises(openai.RateLimitError) as caught:
                await ask(talk, protocol, False)
            assert caught.value.code == caught.value.type == "insufficient_quota"
    async with clients(failing(quota=True, status=402, times="always")) as talk:
        with pytest.raises(anthropic.APIStatusError) as unpaid:
            await ask(talk, "messages", True)
        assert (unpaid.value.status_code, unpaid.value.type) == (402, "billing_error")


async def test_retry_after_can_be_a_date() -> None:
    clock = FakeClock(now_us=1_800_000_000_000_000)
    async with clients(failing(status=429, retry_after_s=90, retry_after_date=True), clock=clock) as talk:
        with pytest.raises(anthropic.RateLimitError) as caught:
            await ask(talk, "messages", False)
        at = parsedate_to_datetime(caught.value.response.headers["retry-after"])
        assert at.timestamp() == 1_800_000_090


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", ["cut_after", "cut_after_bytes"])
async def test_a_cut_connection_is_an_error_of_the_connection_and_is_billed(
    protocol: str, stream: bool, fault: str
) -> None:
    async with clients(failing(**{fault: 3})) as talk:
        with pytest.raises(BROKEN):
            await ask(talk, protocol, stream)
        cut = entry(talk.server)
        assert (cut.outcome, cut.billed, cut.cost_nano_usd > 0) == ("cut", True, True)
        assert await ask(talk, protocol, stream) == TEXT
        assert entry(talk.server).cost_nano_usd == cut.cost_nano_usd
        assert talk.server.bill["calls"] == 2


async def test_a_cut_after_so_many_pieces_shows_so_many() -> None:
    async with clients(failing(cut_after=3)) as talk:
        request: dict[str, Any] = {"model": MODEL, "max_tokens": 500, "messages": user("x"), "stream": True}
        seen: list[Any] = []

        async def read() -> None:
            async with talk.http.stream("POST", "/v1/messages", json=request) as answer:
                async for line in answer.aiter_lines():
                    seen.append(line)

        with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
            await read()
        assert sum("text_delta" in line for line in seen) <= 3


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("after", [0, 2])
async def test_a_hung_call_times_out_and_is_billed(protocol: str, stream: bool, after: int) -> None:
    async with clients(failing(hang_after=after), timeout_s=0.15) as talk:
        timeouts = (anthropic.APITimeoutError, openai.APITimeoutError, httpx2.ReadTimeout)
        with pytest.raises(timeouts):
            await ask(talk, protocol, stream)
        assert (entry(talk.server).outcome, entry(talk.server).billed) == ("hung", True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_malformed_answers_are_billed_and_are_no_json(protocol: str) -> None:
    paths = {"messages": "messages", "responses": "responses", "chat": "chat/completions"}
    bodies: dict[str, dict[str, Any]] = {
        "messages": {"model": MODEL, "max_tokens": 500, "messages": user("x")},
        "responses": {"model": GPT, "input": "x"},
        "chat": {"model": GPT, "messages": user("x")},
    }
    async with posting(failing(malformed_after=2, times="always")) as http:
        whole = await http.post(f"/v1/{paths[protocol]}", json=bodies[protocol])
        with pytest.raises(ValueError, match=r"(?i)expecting|unterminated|delimiter|escape"):
            whole.json()
        lines = (await http.post(f"/v1/{paths[protocol]}", json={**bodies[protocol], "stream": True})).text
        datas = [line for line in lines.splitlines() if line.startswith("data: ")]
        assert not datas[-1].endswith("}")
        assert all(line.endswith("}") for line in datas[:-1])
        entries = (await http.get("/bill?entries=1")).json()["entries"]
        assert [(one["outcome"], one["billed"]) for one in entries] == [("failed", True)] * 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_stream_that_ends_with_an_error_raises_it(protocol: str) -> None:
    error = {"error_after": 2, "status": 529, "type": "overloaded_error", "message": "Overloaded, sorry"}
    async with clients(failing(**error)) as talk:
        errors = (anthropic.APIStatusError, openai.APIError)
        if protocol == "responses":  # whose client hands the event on
            stream = await talk.openai.responses.create(model=GPT, input="x", stream=True)
            events: list[Any] = [event async for event in stream]
            assert (events[-1].type, events[-1].sequence_number) == ("error", len(events) - 1)
        else:
            with pytest.raises(errors, match="Overloaded, sorry"):
                await ask(talk, protocol, True)
        assert (entry(talk.server).outcome, entry(talk.server).billed) == ("failed", True)


async def test_drip_lets_the_pieces_arrive_one_by_one_and_a_client_that_leaves_is_billed() -> None:
    async with clients(says(TEXT, drip_s=0.02)) as talk:
        request: dict[str, Any] = {"model": MODEL, "max_tokens": 500, "messages": user("x")}
        async with talk.anthropic.messages.stream(**request) as stream:
            arrived = [time.monotonic() async for _ in stream.text_stream]
        assert arrived[-1] - arrived[0] >= 0.02 * (len(arrived) - 2)
        async with talk.anthropic.messages.stream(**request) as stream:
            async for _ in stream.text_stream:
                break
        left = entry(talk.server)
        assert left.billed
        assert talk.server.bill["calls"] == 2
        async with asyncio.timeout(5):
            while left.outcome != "cut":  # the server notices before its next piece
                await asyncio.sleep(0.005)


# the bill


async def test_the_bill_is_the_sum_of_what_the_clients_were_told() -> None:
    rates = {
        MODEL: BillRate(input=3_000, output=15_000),
        GPT: BillRate(input=1_250, output=10_000, cache_read=125),
    }
    told: Counter[str] = Counter()
    clock = FakeClock(now_us=1_800_000_000_000_000)
    async with clients(script(turns=[{"think": "hm", "say": TEXT}]), rates=rates, clock=clock) as talk:
        mark = {"cache_control": {"type": "ephemeral"}}
        system: Any = [{"type": "text", "text": "s" * 6_000, **mark}]
        for text in ("a", "b", "b"):
            request: dict[str, Any] = {"model": MODEL, "max_tokens": 99, "messages": user(text)}
            async with talk.anthropic.messages.stream(**request, system=system) as stream:
                used = (await stream.get_final_message()).usage
            told["input_tokens"] += used.input_tokens
            told["output_tokens"] += used.output_tokens
            told["cache_read_tokens"] += used.cache_read_input_tokens or 0
            told["cache_write_tokens"] += used.cache_creation_input_tokens or 0
            told["cost_nano_usd"] += (
                used.input_tokens * 3_000
                + used.output_tokens * 15_000
                + (used.cache_read_input_tokens or 0) * 300
                + (used.cache_creation_input_tokens or 0) * 3_750
            )
        for text in ("a", "b"):
            usage: Any = (
                await talk.openai.responses.create(model=GPT, instructions="s" * 6_000, input=text)
            ).usage
            cached = usage.input_tokens_details.cached_tokens
            told["input_tokens"] += usage.input_tokens - cached
            told["output_tokens"] += usage.output_tokens
            told["cache_read_tokens"] += cached
            told["cost_nano_usd"] += (usage.input_tokens - cached) * 1_250 + cached * 125
            told["cost_nano_usd"] += usage.output_tokens * 10_000
        told["calls"] = 5
        bill = (await talk.http.get("/bill?entries=1")).json()
        assert {name: bill[name] for name in told} == told
        assert bill["cache_read_tokens"] > 3_000
        entries = bill["entries"]
        assert [one["outcome"] for one in entries] == ["ok"] * 5
        assert sum(one["cost_nano_usd"] for one in entries) == told["cost_nano_usd"]
        assert entries[1]["request_digest"] == entries[2]["request_digest"] != entries[0]["request_digest"]
        assert len({one["request_id"] for one in entries}) == 5
        assert "entries" not in (await talk.http.get("/bill")).json()
        rows = list(csv.DictReader((await talk.http.get("/bill.csv")).text.splitlines()))
        assert [(row["date"], row["model"]) for row in rows] == [("2027-01-15", MODEL), ("2027-01-15", GPT)]
        cents = sum(int(row["cost_usd"].replace(".", "")) for row in rows)
        assert cents == told["cost_nano_usd"]
        assert sum(int(row["output_tokens"]) for row in rows) == told["output_tokens"]


# chaos


async def outcomes(seed: int, stream: bool) -> list[str]:
    chaos = Chaos(seed=seed, limited=150, failed=150, cut=150, hung=100, slow=100, slow_s=0.0)
    found: list[str] = []
    async with clients(says(TEXT), chaos=chaos, timeout_s=0.3) as talk:
        for number in range(30):
            try:
                found.append(await ask(talk, "messages", stream, f"task {number % 20}"))
            except (anthropic.APIError, httpx2.HTTPError) as error:
                found.append(type(error).__name__)
        entries = talk.server.model_server.bill.entries
        found.append(str(Counter(one.outcome for one in entries)))
        assert sum(one.cost_nano_usd for one in entries) == talk.server.bill["cost_nano_usd"]
        assert all(one.billed is (one.cost_nano_usd > 0) for one in entries)
    return found


async def test_chaos_is_the_same_for_the_same_seed_and_touches_some() -> None:
    first = await outcomes(7, False)
    assert first == await outcomes(7, False)
    assert first != await outcomes(8, False)
    assert 5 < first.count(TEXT) < 25
    assert first[:10] != first[20:30]  # the same requests, come again


def test_chaos_has_shares_of_a_thousand() -> None:
    for shares in ({"cut": 1_001}, {"hung": -1}):
        with pytest.raises(ValueError, match="1,000"):
            Chaos(seed=1, **shares)
