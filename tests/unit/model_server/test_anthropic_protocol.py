"""Anthropic's protocol, spoken with its official client: streams, reasoning, attachments, cache, limits."""

from __future__ import annotations

import base64
import struct
from typing import Any

import anthropic
import pytest
from scripted_clients import ANTHROPIC_TOOLS, MODEL, clients, entry, posting, says, script, user

from remit.testing.fakes import FakeClock
from remit.testing.model_server import Limits

TEXT = "This is said in several small pieces, as models do, und auch in anderen Sprachen: 日本語のテキスト。"
TWO_CALLS = [{"tool": "lookup", "args": {"q": "a question of some length"}}, {"tool": "lookup"}]
THINKING = script(
    turns=[
        {"think": "First I look it up, of course.", "say": "One moment.", "call": TWO_CALLS},
        {"say": "It is {{ results[0].answer }} and {{ results[1] }}."},
    ]
)


def asking(text: str = "x", **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 2_000, "messages": user(text), **fields}


async def test_a_stream_says_what_the_whole_message_says() -> None:
    async with clients(says(TEXT)) as talk:
        whole = await talk.anthropic.messages.create(**asking())
        async with talk.anthropic.messages.stream(**asking()) as stream:
            pieces = [piece async for piece in stream.text_stream]
            streamed = await stream.get_final_message()
        assert "".join(pieces) == TEXT == whole.content[0].text
        assert len(pieces) > 5
        assert streamed.usage.input_tokens == whole.usage.input_tokens
        assert streamed.usage.output_tokens == whole.usage.output_tokens
        assert streamed.stop_reason == whole.stop_reason == "end_turn"
        assert entry(talk.server).outcome == "ok"


async def test_the_events_come_in_the_providers_order() -> None:
    async with clients(THINKING) as talk:
        events = [event async for event in await talk.anthropic.messages.create(**asking(), stream=True)]
        kinds = [event.type for event in events]
        assert (kinds[0], kinds[-2], kinds[-1]) == ("message_start", "message_delta", "message_stop")
        deltas = [event.delta.type for event in events if event.type == "content_block_delta"]
        assert list(dict.fromkeys(deltas)) == [
            "thinking_delta",
            "signature_delta",
            "text_delta",
            "input_json_delta",
        ]
        assert deltas.count("input_json_delta") > 3
        assert events[0].message.usage.input_tokens > 0
        assert events[-2].usage.output_tokens > events[0].message.usage.output_tokens


@pytest.mark.parametrize("streamed", [False, True])
async def test_parallel_calls_are_answered_with_the_thought_that_led_to_them(streamed: bool) -> None:
    async with clients(THINKING) as talk:
        request = asking(tools=ANTHROPIC_TOOLS, thinking={"type": "enabled", "budget_tokens": 1_024})
        if streamed:
            async with talk.anthropic.messages.stream(**request) as stream:
                first = await stream.get_final_message()
        else:
            first = await talk.anthropic.messages.create(**request)
        assert [block.type for block in first.content] == ["thinking", "text", "tool_use", "tool_use"]
        assert [block.input for block in first.content[2:]] == [{"q": "a question of some length"}, {}]
        assert first.stop_reason == "tool_use"
        assert first.usage.output_tokens_details.thinking_tokens > 0

        blocks = [block.to_dict() for block in first.content]
        blocks = [{key: value for key, value in one.items() if key != "parsed_output"} for one in blocks]
        results = [
            {"type": "tool_result", "tool_use_id": blocks[3]["id"], "content": "2"},
            {"type": "tool_result", "tool_use_id": blocks[2]["id"], "content": '{"answer": 42}'},
        ]

        async def go_on(said: list[Any]) -> Any:
            turns = [*user("x"), {"role": "assistant", "content": said}, {"role": "user", "content": results}]
            return await talk.anthropic.messages.create(**{**request, "messages": turns})

        assert (await go_on(blocks)).content[0].text == "It is 42 and 2."
        with pytest.raises(anthropic.BadRequestError, match="Expected `thinking`"):
            await go_on(blocks[1:])
        with pytest.raises(anthropic.BadRequestError, match="Invalid `signature`"):
            await go_on([{**blocks[0], "thinking": "I never thought this."}, *blocks[1:]])


async def test_no_thought_is_told_where_thinking_is_disabled() -> None:
    async with clients(THINKING) as talk:
        message = await talk.anthropic.messages.create(**asking(thinking={"type": "disabled"}))
        assert [block.type for block in message.content] == ["text", "tool_use", "tool_use"]
        assert all(not block.id.startswith("toolu_t") for block in message.content[1:])


async def test_every_stop_reason() -> None:
    declining = script("decline", turns=[{"refuse": "This could do harm."}])
    async with clients(declining, script("tool", turns=THINKING.turns), says(TEXT)) as talk:
        create = talk.anthropic.messages.create
        for request, reason in (
            (asking(), "end_turn"),
            (asking(max_tokens=3), "max_tokens"),
            (asking("tool"), "tool_use"),
            (asking(stop_sequences=["small"]), "stop_sequence"),
            (asking("decline"), "refusal"),
        ):
            whole = await create(**request)
            async with talk.anthropic.messages.stream(**request) as stream:
                streamed = await stream.get_final_message()
            assert (whole.stop_reason, streamed.stop_reason) == (reason, reason)
            assert whole.usage.output_tokens <= request["max_tokens"]
            if reason == "stop_sequence":
                assert (streamed.stop_sequence, streamed.content[0].text) == ("small", TEXT[:24])
            if reason == "refusal":
                assert whole.stop_details.explanation == "This could do harm."


async def test_an_answer_of_a_schema_is_said_as_json() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
    async with clients(script(turns=[{"say_json": {"n": 3, "task": "{{ task }}"}}])) as talk:
        form: Any = {"format": {"type": "json_schema", "schema": schema}}
        message = await talk.anthropic.messages.create(**asking('a "task"', output_config=form))
        assert message.content[0].text == '{"n": 3, "task": "a \\"task\\""}'
        form["format"]["schema"] = {"type": "object"}
        with pytest.raises(anthropic.BadRequestError, match="additionalProperties"):
            await talk.anthropic.messages.create(**asking(output_config=form))


# what is counted


PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 300, 200) + b"\0" * 900
PDF = b"%PDF-1.7 /Type /Pages /Type /Page 1 /Type/Page 2" + b"\0" * 900


def attached(kind: str, media_type: str, data: bytes) -> dict[str, Any]:
    source = {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}
    return {"type": kind, "source": source}


async def test_images_and_documents_count_by_what_they_show() -> None:
    async with clients(says("seen")) as talk:

        async def count(*blocks: Any) -> int:
            content = [{"type": "text", "text": "look"}, *blocks]
            messages: Any = [{"role": "user", "content": content}]
            told = await talk.anthropic.messages.count_tokens(model=MODEL, messages=messages)
            message = await talk.anthropic.messages.create(model=MODEL, max_tokens=9, messages=messages)
            assert told.input_tokens == message.usage.input_tokens
            return told.input_tokens

        bare = await count()
        assert 80 <= await count(attached("image", "image/png", PNG)) - bare < 120
        assert 3_000 <= await count(attached("document", "application/pdf", PDF)) - bare < 3_040
        for block, message in (
            (attached("image", "image/tiff", PNG), "image/gif"),
            (attached("document", "application/pdf", PNG), "not valid"),
            (
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "?"}},
                "base64",
            ),
        ):
            with pytest.raises(anthropic.BadRequestError, match=message):
                await count(block)


async def test_a_marked_prefix_is_written_once_and_then_read() -> None:
    clock = FakeClock()
    async with clients(says("ok"), clock=clock) as talk:

        async def usage(last: str, ttl: str | None = "5m", size: int = 8_000) -> tuple[int, int, int]:
            mark = {} if ttl is None else {"cache_control": {"type": "ephemeral", "ttl": ttl}}
            system: Any = [{"type": "text", "text": "s" * size, **mark}]
            used = (await talk.anthropic.messages.create(**asking(last, system=system))).usage
            split = used.cache_creation
            assert split.ephemeral_5m_input_tokens + split.ephemeral_1h_input_tokens == (
                used.cache_creation_input_tokens
            )
            return used.input_tokens, used.cache_creation_input_tokens, used.cache_read_input_tokens

        plain, written, read = await usage("one")
        assert (written > 2_000, read, plain < 20) == (True, 0, True)
        assert await usage("two") == (plain, 0, written)
        whole = (await usage("one", ttl=None))[0]
        assert abs(whole - plain - written) <= 1
        assert (await usage("one", size=1_000))[1:] == (0, 0)  # too short to be cached
        clock.advance(299)
        assert (await usage("one"))[2] == written  # which keeps it for another 5 minutes
        clock.advance(299)
        assert (await usage("one"))[2] == written
        clock.advance(301)
        assert (await usage("one", ttl="1h"))[1:] == (written, 0)
        clock.advance(1_000)
        assert (await usage("one"))[2] == written
        bill = talk.server.bill
        assert (bill["cache_read_tokens"], bill["cache_write_tokens"]) == (4 * written, 2 * written)


async def test_the_prefix_of_a_growing_conversation_is_read_and_the_rest_written() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    async with clients(script(turns=[{"call": [{"tool": "lookup"}]}, {"say": "done"}])) as talk:
        first_user = {"role": "user", "content": [{"type": "text", "text": "t" * 6_000, **mark}]}
        request = asking(tools=ANTHROPIC_TOOLS)
        first = await talk.anthropic.messages.create(**{**request, "messages": [first_user]})
        called = first.content[0].to_dict()
        result = {"type": "tool_result", "tool_use_id": called["id"], "content": "r" * 3_000, **mark}
        turns = [
            first_user,
            {"role": "assistant", "content": [called]},
            {"role": "user", "content": [result]},
        ]
        second = await talk.anthropic.messages.create(**{**request, "messages": turns})
        assert second.usage.cache_read_input_tokens == first.usage.cache_creation_input_tokens > 1_500
        assert second.usage.cache_creation_input_tokens > 750


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}] * 5},
            "maximum of 4",
        ),
        ({"cache_control": {"type": "forever"}}, "ephemeral"),
        ({"cache_control": {"type": "ephemeral", "ttl": "2h"}}, "ttl"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "1024"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2_000}}, "greater than `thinking.budget_tokens`"),
        ({"thinking": {"type": "deep"}}, "thinking.type"),
        ({"temperature": 2}, "temperature"),
        ({"tool_choice": {"type": "auto"}}, "while providing tools"),
        ({"tool_choice": {"type": "tool", "name": "other"}, "tools": ANTHROPIC_TOOLS}, "not found"),
        ({"output_config": {"effort": "extreme"}}, "effort"),
        ({"stop_sequences": [" "]}, "stop_sequences"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]},
            "file",
        ),
    ],
)
async def test_what_the_real_api_refuses_of_the_newer_fields_is_refused(
    change: dict[str, Any], message: str
) -> None:
    async with posting(says("x")) as http:
        answer = await http.post("/v1/messages", json=asking(**change))
        assert answer.status_code == 400
        assert message in answer.json()["error"]["message"]


async def test_the_limits_are_told_and_go_down_and_come_back() -> None:
    clock = FakeClock(now_us=1_800_000_000_000_000)
    limits = Limits(requests=3, input_tokens=1_000, output_tokens=500, enforced=True)
    async with clients(says("x" * 400), clock=clock, limits=limits) as talk:

        async def left() -> list[int]:
            answer = await talk.anthropic.messages.with_raw_response.create(**asking())
            headers, prefix = answer.headers, "anthropic-ratelimit"
            assert headers[f"{prefix}-tokens-reset"] == "2027-01-15T08:01:00Z"
            names = ("requests", "input-tokens", "output-tokens", "tokens")
            return [int(headers[f"{prefix}-{name}-remaining"]) for name in names]

        requests, read, said, both = await left()
        assert (requests, said, both) == (2, 400, read + said)
        assert (await left())[:3] == [1, 2 * read - 1_000, 300]
        with pytest.raises(anthropic.RateLimitError) as caught:
            await left()
        assert caught.value.response.headers["retry-after"] == "60"
        clock.advance(60)
        answer = await talk.anthropic.messages.with_raw_response.create(**asking())
        assert answer.headers["anthropic-ratelimit-requests-remaining"] == "2"
