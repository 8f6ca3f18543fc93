"""On what terms a call was served: what the providers report of tier and place, however the reply comes."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from model_wires import AnthropicWire, ChatWire, ResponsesWire

from remit.adapters.models import OpenAIModel
from remit.core.messages import Usage, reply_from_json, reply_to_json
from remit.ports.effects import EffectFailed
from remit.testing.model_suite import KEY, Said, Server, answered, ask, request_of


def with_term(data: bytes, name: str, value: Any) -> bytes:
    """The events or the body in `data`, each response in them with one more field."""
    shown = json.dumps(value)
    return data.replace(b'"model":', f'"{name}": {shown}, "model":'.encode())


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ("priority", "priority"),
        ("default", "default"),
        (None, ""),
        ("Robert'); DROP", "unknown"),
        (7, "unknown"),
        ("x" * 99, "unknown"),
    ],
)
@pytest.mark.parametrize("wire", [ResponsesWire(), ChatWire()], ids=["responses", "chat"])
@pytest.mark.parametrize("streams", [False, True])
async def test_openai_s_service_tier_is_read_of_the_response(
    wire: Any, streams: bool, told: Any, read: str
) -> None:
    said = Said(text="Hi")
    pieces = [with_term(one, "service_tier", told) for one in wire.events(said)] if streams else []
    server = (
        Server(*pieces, stream=True) if streams else Server(with_term(wire.body(said), "service_tier", told))
    )
    reply = answered(await ask(wire, server, request_of(wire), (lambda piece: None) if streams else None))
    assert (reply.usage.service_tier, reply.usage.inference_geo) == (read, "")


@pytest.mark.parametrize("streams", [False, True])
async def test_anthropic_s_tier_place_and_one_hour_cache_are_read(streams: bool) -> None:
    wire, said = AnthropicWire(), Said(text="Hi")
    more = b'"usage": {"service_tier": "batch", "inference_geo": "us", "cache_creation": '
    more += b'{"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 5}, '

    def told(data: bytes) -> bytes:
        return data.replace(b'"usage": {', more)

    server = Server(*map(told, wire.events(said)), stream=True) if streams else Server(told(wire.body(said)))
    reply = answered(await ask(wire, server, request_of(wire), (lambda piece: None) if streams else None))
    usage = reply.usage
    assert (usage.service_tier, usage.inference_geo, usage.cache_write_1h_tokens) == ("batch", "us", 5)
    assert usage.cache_write_tokens >= 5
    assert reply_from_json(json.loads(json.dumps(reply_to_json(reply)))) == reply


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("https://eu.api.openai.com/v1", "eu"),
        ("https://api.openai.com/v1", ""),
        ("https://api.openai.com.example.net/v1", ""),
        ("http://vllm.internal/v1", ""),
    ],
)
async def test_the_address_says_in_which_region_openai_serves(address: str, place: str) -> None:
    wire = ResponsesWire()
    for body, fails in ((wire.body(Said(text="Hi")), False), (b'{"status": "failed", "usage": ', True)):
        if fails:
            usage = {"input_tokens": 3, "output_tokens": 4}
            body = json.dumps({"status": "failed", "error": {"message": "no"}, "usage": usage}).encode()
        transport = httpx2.MockTransport(lambda sent, body=body: httpx2.Response(200, content=body))
        model = OpenAIModel(KEY, base_url=address, http_client=httpx2.AsyncClient(transport=transport))
        usages: list[Usage | None] = []
        try:
            usages.append((await model.complete(request_of(wire))).usage)
        except EffectFailed as error:
            assert fails
            usages.append(error.usage)
        await model.aclose()
        assert [one.inference_geo for one in usages if one is not None] == [place]


def test_a_reply_that_was_recorded_before_there_were_terms_is_read() -> None:
    old = {"model": "m", "parts": [], "stop": "end", "usage": [1, 2, 3, 4]}
    assert reply_from_json(old).usage == Usage(
        input_tokens=1, output_tokens=2, cache_read_tokens=3, cache_write_tokens=4
    )
