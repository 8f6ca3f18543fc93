"""The clients against the scripted model server: whole conversations, and bills that are never above ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from model_wires import AnthropicWire, ChatWire, ResponsesWire

from remit.adapters.prices import PriceBook
from remit.core.messages import (
    Message,
    ModelReply,
    ModelRequest,
    Opaque,
    Text,
    ToolOffer,
    ToolResult,
    ToolUse,
    Usage,
)
from remit.ports.effects import EffectFailed
from remit.runtime.clock import SystemClock
from remit.testing.model_server import Chaos, Script, ServerOptions, load_script, serve
from remit.testing.model_suite import ModelWire

SCRIPT = """
name: weather
match: weather
turns:
  - think: The weather is asked for, so it must be looked up.
    say: Looking it up.
    call:
      - {tool: look, args: {city: Łódź, days: 2}}
      - {tool: look, args: {city: Kraków}}
  - say: It rains in both.
"""
WIRES: dict[str, ModelWire] = {"anthropic": AnthropicWire(), "responses": ResponsesWire(), "chat": ChatWire()}
SINKS: dict[str, Callable[[str], None] | None] = {"whole": None, "streamed": lambda piece: None}


def request_of(wire: ModelWire, *messages: Message, cache: bool = False) -> ModelRequest:
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    return ModelRequest(
        model=wire.model,
        system="Be brief.",
        messages=messages,
        tools=(ToolOffer(name="look", description="Look up the weather", args_schema=schema),),
        max_output_tokens=300,
        cache_prefix=cache,
    )


def user(text: str) -> Message:
    return Message(role="user", parts=(Text(text=text),))


def results_of(reply: ModelReply) -> Message:
    parts = tuple(ToolResult(call_id=use.id, content='{"rain": true}') for use in reply.tool_uses)
    return Message(role="user", parts=parts)


@pytest.mark.parametrize("way", SINKS)
@pytest.mark.parametrize("name", WIRES)
async def test_a_conversation_with_reasoning_and_parallel_calls(name: str, way: str, tmp_path: Path) -> None:
    wire, sink = WIRES[name], SINKS[way]
    path = tmp_path / "weather.yaml"
    path.write_text(SCRIPT, encoding="utf-8")
    async with serve((load_script(path),)) as server:
        model = wire.open(server.base_url + "/v1", None, 10.0)
        first = await model.complete(request_of(wire, user("The weather?")), sink)
        assert (first.text, first.stop) == ("Looking it up.", "tool_use")
        assert [use.args for use in first.tool_uses] == [{"city": "Łódź", "days": 2}, {"city": "Kraków"}]
        # Chat Completions has no place for reasoning
        assert any(isinstance(part, Opaque) for part in first.parts) is (name != "chat")
        history = (user("The weather?"), Message(role="assistant", parts=first.parts), results_of(first))
        second = await model.complete(request_of(wire, *history), sink)
        assert (second.text, second.stop) == ("It rains in both.", "end")
        await model.aclose()
        total = first.usage + second.usage
        assert _billed(server.bill) == (total.prompt_tokens, total.output_tokens)


@pytest.mark.parametrize("name", WIRES)
async def test_a_conversation_can_go_on_with_another_provider(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weather.yaml"
    path.write_text(SCRIPT, encoding="utf-8")
    async with serve((load_script(path),)) as server:
        for other in WIRES:
            one, two = WIRES[name], WIRES[other]
            first_model = one.open(server.base_url + "/v1", None, 10.0)
            second_model = two.open(server.base_url + "/v1", None, 10.0)
            first = await first_model.complete(request_of(one, user("The weather?")))
            assert all(isinstance(use, ToolUse) for use in first.tool_uses)
            history = (user("The weather?"), Message(role="assistant", parts=first.parts), results_of(first))
            second = await second_model.complete(request_of(two, *history))
            assert second.text == "It rains in both."
            await first_model.aclose()
            await second_model.aclose()


async def test_what_the_last_call_wrote_into_the_cache_the_next_one_reads(tmp_path: Path) -> None:
    wire = WIRES["anthropic"]
    path = tmp_path / "weather.yaml"
    path.write_text(SCRIPT, encoding="utf-8")
    async with serve((load_script(path),)) as server:
        model = wire.open(server.base_url + "/v1", None, 10.0)
        asked = user("The weather? " + "It matters. " * 2_000)
        await model.complete(request_of(wire, asked, cache=True))
        first = await model.complete(request_of(wire, asked, cache=True))
        history = (asked, Message(role="assistant", parts=first.parts), results_of(first))
        second = await model.complete(request_of(wire, *history, cache=True))
        third = await model.complete(request_of(wire, *history, cache=True), lambda piece: None)
        assert second.usage.cache_write_tokens > 1_000
        assert third.usage.cache_read_tokens == second.usage.prompt_tokens - second.usage.input_tokens
        await model.aclose()


@pytest.mark.parametrize("way", SINKS)
@pytest.mark.parametrize("name", WIRES)
async def test_whatever_goes_wrong_the_provider_bills_no_more_than_we_say(name: str, way: str) -> None:
    wire, sink = WIRES[name], SINKS[way]
    chaos = Chaos(seed=7, limited=150, failed=150, cut=300, hung=20, slow=50, slow_s=0.01)
    codes: set[str] = set()
    async with serve((), ServerOptions(chaos=chaos)) as server:
        model = wire.open(server.base_url + "/v1", None, 0.4)
        for number in range(60):
            before = _billed(server.bill)
            said: Usage | None
            try:
                reply = await model.complete(request_of(wire, user(f"Hello number {number}")), sink)
                said = reply.usage
                codes.add("reply")
            except EffectFailed as error:
                said = error.usage
                codes.add(error.code if error.retryable else "not retryable")
            after = _billed(server.bill)
            if said is not None:
                assert after[0] - before[0] <= said.prompt_tokens
                assert after[1] - before[1] <= said.output_tokens
        await model.aclose()
    assert {"reply", "model.unavailable"} <= codes <= {"reply", "model.unavailable", "model.timeout"}


def _billed(bill: dict[str, int]) -> tuple[int, int]:
    read = bill["input_tokens"] + bill["cache_read_tokens"] + bill["cache_write_tokens"]
    return read, bill["output_tokens"]


@pytest.mark.parametrize("way", SINKS)
@pytest.mark.parametrize(
    ("name", "model", "served", "dearer"),
    [
        ("anthropic", "claude-haiku-4-5", {"tier": "standard", "geo": "us", "percent": 110}, False),
        ("anthropic", "claude-haiku-4-5", {"tier": "batch", "percent": 50}, False),
        ("responses", "gpt-5.2", {"tier": "priority", "percent": 200}, False),
        ("chat", "gpt-5.2", {"tier": "flex", "percent": 50}, False),
        ("anthropic", "claude-haiku-4-5", {"tier": "secret", "geo": "mars", "percent": 100}, True),
        ("responses", "gpt-5.2", {"tier": "secret", "percent": 100}, True),
    ],
)
async def test_surcharges_are_settled_as_the_server_bills_them_and_unknown_terms_never_below(
    name: str, model: str, served: dict[str, object], dearer: bool, way: str
) -> None:
    wire, sink, prices = WIRES[name], SINKS[way], PriceBook(None, SystemClock())
    script = Script.model_validate(
        {"name": "s", "match": ".", "turns": [{"say": "It is a long story. " * 20, "served": served}]}
    )
    async with serve((script,)) as server:
        client = wire.open(server.base_url + "/v1", None, 10.0)
        request = replace(request_of(wire, user("Tell me. " * 2000), cache=True), model=model)
        reply = await client.complete(request, sink)
        await client.aclose()
        bill = server.bill["cost_nano_usd"]
    charge = prices.charge(model, reply.usage)
    assert charge.assumed is dearer
    assert charge.cost_nano_usd >= bill if dearer else charge.cost_nano_usd == bill
    assert charge.cost_nano_usd <= prices.worst_cost(model, reply.usage.prompt_tokens, 300)
