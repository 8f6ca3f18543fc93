"""OpenAI's two protocols, spoken with its official client: items, chunks, reasoning, schemas, cache, limits."""

from __future__ import annotations

import base64
from typing import Any

import openai
import orjson
import pytest
from scripted_clients import CHAT_TOOLS, GPT, RESPONSES_TOOLS, clients, entry, posting, says, script, user

from remit.testing.model_server import Script

TEXT = "This is said in several small pieces, as models do: 日本語のテキスト。"
CALLING: dict[str, Any] = {
    "turns": [
        {
            "think": "First I look it up, of course.",
            "say": "One moment.",
            "call": [{"tool": "lookup", "args": {"q": "a question of some length"}}, {"tool": "lookup"}],
        },
        {"say": "It is {{ results[0].answer }} and {{ results[1] }}."},
    ]
}
DECLINING = script("decline", turns=[{"refuse": "I will not do this."}])
SEALED: list[Any] = ["reasoning.encrypted_content"]


def plain(item: Any) -> dict[str, Any]:
    """An item of the output as it goes back: without what the client's parser added."""
    value = item.to_dict()
    value.pop("parsed_arguments", None)
    if isinstance(value.get("content"), list):
        value["content"] = [{k: v for k, v in one.items() if k != "parsed"} for one in value["content"]]
    return value


async def responded(talk: Any, stream: bool, **request: Any) -> Any:
    request = {"model": GPT, "store": False, **request}
    if not stream:
        return await talk.openai.responses.create(**request)
    final: Any = None
    numbers: list[int] = []
    texts: list[str] = []
    async for event in await talk.openai.responses.create(**request, stream=True):
        numbers.append(event.sequence_number)
        if event.type == "response.output_text.delta":
            texts.append(event.delta)
        if event.type in ("response.completed", "response.incomplete"):
            final = event.response
    assert numbers == list(range(len(numbers)))
    assert "".join(texts) == final.output_text
    return final


async def chatted(talk: Any, stream: bool, **request: Any) -> tuple[str, str, list[Any], str, Any]:
    """The text, the refusal, the calls, why it ended, and the usage."""
    request = {"model": GPT, **request}
    if not stream:
        done = await talk.openai.chat.completions.create(**request)
        message = done.choices[0].message
        calls = [(one.id, one.function.name, one.function.arguments) for one in message.tool_calls or []]
        return message.content or "", message.refusal or "", calls, done.choices[0].finish_reason, done.usage
    text = refusal = finish = ""
    usage: Any = None
    calls_by_index: dict[int, list[str]] = {}
    options = {"include_usage": True}
    async for chunk in await talk.openai.chat.completions.create(
        **request, stream=True, stream_options=options
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            refusal += choice.delta.refusal or ""
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or []:
                known = calls_by_index.setdefault(call.index, [call.id or "", call.function.name or "", ""])
                known[2] += call.function.arguments or ""
    return text, refusal, [tuple(call) for call in calls_by_index.values()], finish, usage


@pytest.mark.parametrize("stream", [False, True])
async def test_responses_call_in_parallel_and_take_the_results_with_the_reasoning(stream: bool) -> None:
    async with clients(script(**CALLING)) as talk:
        asked: dict[str, Any] = {"tools": RESPONSES_TOOLS, "include": SEALED}
        first = await responded(talk, stream, input="x", reasoning={"summary": "auto"}, **asked)
        items = [plain(item) for item in first.output]
        assert [one["type"] for one in items] == ["reasoning", "message", "function_call", "function_call"]
        assert orjson.loads(items[2]["arguments"]) == {"q": "a question of some length"}
        assert items[0]["summary"][0]["text"] == "First I look it up, of course."
        assert first.status == "completed"
        assert first.usage.output_tokens_details.reasoning_tokens > 0
        outputs = [
            {"type": "function_call_output", "call_id": items[3]["call_id"], "output": "2"},
            {"type": "function_call_output", "call_id": items[2]["call_id"], "output": '{"answer": 42}'},
        ]

        async def go_on(said: list[Any]) -> Any:
            return await responded(talk, stream, input=[*user("x"), *said, *outputs], **asked)

        assert (await go_on(items)).output_text == "It is 42 and 2."
        with pytest.raises(openai.BadRequestError, match="without its required 'reasoning' item"):
            await go_on(items[1:])
        with pytest.raises(openai.BadRequestError, match="could not be verified"):
            await go_on([{**items[0], "encrypted_content": "AAAA"}, *items[1:]])
        with pytest.raises(openai.NotFoundError, match="not persisted"):
            await go_on([{k: v for k, v in items[0].items() if k != "encrypted_content"}, *items[1:]])
        with pytest.raises(openai.BadRequestError, match="required following item"):
            await responded(talk, stream, input=[*user("x"), items[0], *user("y")], **asked)


@pytest.mark.parametrize("stream", [False, True])
async def test_chats_call_in_parallel_and_take_the_results(stream: bool) -> None:
    async with clients(script(**CALLING)) as talk:
        text, _, calls, finish, usage = await chatted(talk, stream, messages=user("x"), tools=CHAT_TOOLS)
        assert (text, finish) == ("One moment.", "tool_calls")
        assert [orjson.loads(args) for _, _, args in calls] == [{"q": "a question of some length"}, {}]
        assert usage.completion_tokens_details.reasoning_tokens > 0
        said = [
            {"id": one, "type": "function", "function": {"name": name, "arguments": args}}
            for one, name, args in calls
        ]
        results = [
            {"role": "tool", "tool_call_id": calls[1][0], "content": "2"},
            {"role": "tool", "tool_call_id": calls[0][0], "content": '{"answer": 42}'},
        ]
        turns = [*user("x"), {"role": "assistant", "content": text, "tool_calls": said}]
        done = await chatted(talk, stream, messages=[*turns, *results], tools=CHAT_TOOLS)
        assert (done[0], done[3]) == ("It is 42 and 2.", "stop")
        with pytest.raises(openai.BadRequestError, match="did not have response messages"):
            await chatted(talk, stream, messages=[*turns, results[0]], tools=CHAT_TOOLS)


@pytest.mark.parametrize("stream", [False, True])
async def test_every_way_to_end(stream: bool) -> None:
    async with clients(DECLINING, says(TEXT)) as talk:
        done = await responded(talk, stream, input="x")
        assert (done.status, done.output_text) == ("completed", TEXT)
        cut = await responded(talk, stream, input="x", max_output_tokens=16)
        assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        assert (cut.output[0].status, cut.usage.output_tokens) == ("incomplete", 16)
        declined = await responded(talk, stream, input="decline")
        assert declined.output[0].content[0].refusal == "I will not do this."

        assert (await chatted(talk, stream, messages=user("x")))[0:4:3] == (TEXT, "stop")
        cut_chat = await chatted(talk, stream, messages=user("x"), max_completion_tokens=4)
        assert (cut_chat[0], cut_chat[3]) == (TEXT[:16], "length")
        assert (await chatted(talk, stream, messages=user("x"), stop=["small"]))[0] == TEXT[:24]
        assert (await chatted(talk, stream, messages=user("decline")))[1] == "I will not do this."
        assert entry(talk.server).outcome == "ok"


async def test_answers_of_a_schema_and_the_systems_words_are_no_task() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    strict = {"name": "answer", "strict": True, "schema": schema}
    loose = {"name": "answer", "strict": True, "schema": {**schema, "required": []}}
    async with clients(script("^count$", turns=[{"say_json": {"n": 3}}])) as talk:
        text: Any = {"format": {"type": "json_schema", **strict}}
        done = await responded(talk, False, input="count", instructions="be brief", text=text)
        assert done.output_text == '{"n": 3}'
        form: Any = {"type": "json_schema", "json_schema": strict}
        messages = [{"role": "system", "content": "be brief"}, *user("count")]
        assert (await chatted(talk, False, messages=messages, response_format=form))[0] == '{"n": 3}'
        with pytest.raises(openai.BadRequestError, match="'required' is required"):
            await responded(talk, False, input="count", text={"format": {"type": "json_schema", **loose}})
        bad_form = {"type": "json_schema", "json_schema": loose}
        with pytest.raises(openai.BadRequestError, match="'required' is required"):
            await chatted(talk, False, messages=messages, response_format=bad_form)


async def test_images_and_files_are_counted_by_what_they_show() -> None:
    pdf = "data:application/pdf;base64," + base64.b64encode(b"%PDF-1 /Type/Page " + b"\0" * 9_000).decode()
    jpeg = "data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8" + b"\0" * 90_000).decode()
    async with clients(says("seen")) as talk:
        bare = (await responded(talk, False, input="look")).usage.input_tokens
        parts: Any = [
            {"type": "input_text", "text": "look"},
            {"type": "input_image", "image_url": jpeg, "detail": "auto"},
            {"type": "input_file", "filename": "a.pdf", "file_data": pdf},
        ]
        more = (await responded(talk, False, input=[{"role": "user", "content": parts}])).usage.input_tokens
        assert 3_068 <= more - bare < 3_200
        parts = [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": jpeg}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": pdf}},
        ]
        usage = (await chatted(talk, False, messages=[{"role": "user", "content": parts}]))[4]
        assert 3_068 <= usage.prompt_tokens - bare < 3_200


async def test_a_repeated_prefix_is_cached_by_itself() -> None:
    async with clients(says("ok")) as talk:

        async def cached(model: str, last: str, size: int = 8_000) -> tuple[int, int]:
            done = await responded(talk, False, model=model, instructions="s" * size, input=last)
            details = done.usage.input_tokens_details
            assert details.cached_tokens % 128 == 0
            return details.cached_tokens, details.cache_write_tokens

        assert await cached(GPT, "one") == (0, 0)
        assert (await cached(GPT, "two"))[0] > 1_900
        assert await cached(GPT, "one", size=900) == (0, 0)
        first = await cached("gpt-5.6-terra", "one")  # whose cache writes are charged, and so told
        assert (first[0], first[1] > 1_900) == (0, True)
        assert (await cached("gpt-5.6-terra", "two"))[0] > 1_900
        messages = [{"role": "system", "content": "s" * 8_000}, *user("x")]
        assert (await chatted(talk, False, messages=messages))[4].prompt_tokens_details.cached_tokens == 0
        usage = (await chatted(talk, True, messages=[*messages, *user("y")]))[4]
        assert usage.prompt_tokens_details.cached_tokens > 1_900


async def test_limits_and_ids_are_told() -> None:
    async with clients(says("ok")) as talk:
        raw = await talk.openai.responses.with_raw_response.create(model=GPT, input="x")
        first = dict(raw.headers)
        assert first["x-request-id"].startswith("req_")
        assert first["x-ratelimit-remaining-requests"] == "3999"
        assert first["x-ratelimit-reset-tokens"].endswith("s")
        raw = await talk.openai.responses.with_raw_response.create(model=GPT, input="x")
        name = "x-ratelimit-remaining-tokens"
        assert int(raw.headers[name]) < int(first[name]) < int(first["x-ratelimit-limit-tokens"])


USER: Script | Any = {"role": "user", "content": "x"}
RESPONSES_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"input": None}, "'input'"),
    ({"input": []}, "'input'"),
    ({"surprise": 1}, "Unknown parameter: 'surprise'"),
    ({"max_output_tokens": 3}, ">= 16"),
    ({"previous_response_id": "resp_1"}, "stores nothing"),
    ({"stream": "yes"}, "'stream'"),
    ({"stream_options": {"include_obfuscation": False}}, "only allowed when 'stream'"),
    ({"tools": [{"type": "magic"}]}, "Supported values"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "pattern"),
    ({"tools": RESPONSES_TOOLS * 2}, "unique"),
    ({"tools": [{**RESPONSES_TOOLS[0], "strict": True}]}, "additionalProperties"),
    ({"tool_choice": "sometimes"}, "Supported values"),
    ({"include": ["everything"]}, "Supported values"),
    ({"text": {"format": {"type": "xml"}}}, "Supported values"),
    ({"input": [{"role": "narrator", "content": "x"}]}, "Supported values"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "Supported values"),
    (
        {"input": [USER, {"type": "function_call", "call_id": "c", "name": "a", "arguments": "{}"}]},
        "No tool output",
    ),
    ({"input": [USER, {"type": "function_call_output", "call_id": "c", "output": ""}]}, "No tool call"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "ftp://x"}]}]},
        "valid URL",
    ),
]
CHAT_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "empty array"),
    ({"surprise": 1}, "Unknown parameter"),
    ({"max_tokens": 5, "max_completion_tokens": 5}, "at the same time"),
    ({"max_tokens": 0}, ">= 1"),
    ({"n": 2}, "one choice"),
    ({"stop": ["a"] * 5}, "'stop'"),
    ({"tool_choice": "auto"}, "'tools'"),
    ({"messages": [{"role": "user"}]}, "'content'"),
    ({"messages": [USER, {"role": "tool", "tool_call_id": "c", "content": "x"}]}, "preceding message"),
    ({"messages": [USER, {"role": "assistant", "content": "y", "tool_calls": []}]}, "empty array"),
    ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "Supported values"),
    ({"response_format": {"type": "json_schema"}}, "json_schema"),
]


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [("responses", *one) for one in RESPONSES_REFUSED] + [("chat/completions", *one) for one in CHAT_REFUSED],
)
async def test_what_the_real_api_refuses_is_refused(path: str, change: dict[str, Any], message: str) -> None:
    good = {"responses": {"input": "x"}, "chat/completions": {"messages": [USER]}}[path]
    async with posting(says("x")) as http:
        answer = await http.post(f"/v1/{path}", json={"model": GPT, **good, **change})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert message in error["message"]
        assert error.keys() == {"message", "type", "param", "code"}


async def test_a_key_and_a_model_that_is_served_are_needed() -> None:
    from remit.testing.model_server import BillRate

    async with clients(says("x"), rates={"other": BillRate(input=1, output=1)}) as talk:
        with pytest.raises(openai.NotFoundError) as caught:
            await responded(talk, False, input="x")
        assert caught.value.code == "model_not_found"
        answer = await talk.http.post("/v1/responses", json={}, headers={"authorization": ""})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
