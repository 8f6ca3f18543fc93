"""A scripted server with the real clients of both providers, which never retry by themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from remit.testing.model_server import ModelServer, RunningServer, Script, ServerOptions, serve

MODEL = "claude-sonnet-4-20260514"
GPT = "gpt-5.1"
LOOKUP = {"type": "object", "properties": {"q": {"type": "string"}}}
ANTHROPIC_TOOLS: list[Any] = [{"name": "lookup", "description": "", "input_schema": LOOKUP}]
RESPONSES_TOOLS: list[Any] = [{"type": "function", "name": "lookup", "parameters": LOOKUP}]
CHAT_TOOLS: list[Any] = [{"type": "function", "function": {"name": "lookup", "parameters": LOOKUP}}]
KEYS = {"x-api-key": "k", "anthropic-version": "2023-06-01", "authorization": "Bearer k"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    server: RunningServer
    anthropic: AsyncAnthropic
    openai: AsyncOpenAI
    http: httpx2.AsyncClient


def script(match: str = ".", **fields: Any) -> Script:
    return Script.model_validate({"name": f"on {match}", "match": match, **fields})


def says(text: str, match: str = ".", **fields: Any) -> Script:
    return script(match, turns=[{"say": text, **fields}])


@asynccontextmanager
async def clients(*scripts: Script, timeout_s: float = 5.0, **options: Any) -> AsyncIterator[Clients]:
    """Over real sockets. Certificates are not read: there are none on the loopback, and it takes 0.1 s."""
    async with (
        serve(scripts, ServerOptions(**options)) as server,
        httpx2.AsyncClient(base_url=server.base_url, headers=KEYS, timeout=timeout_s, verify=False) as http,
        httpx2.AsyncClient(timeout=timeout_s, verify=False) as plain,
    ):
        yield Clients(
            server=server,
            anthropic=AsyncAnthropic(
                api_key="k", base_url=server.base_url, max_retries=0, http_client=plain, timeout=timeout_s
            ),
            openai=AsyncOpenAI(
                api_key="k",
                base_url=f"{server.base_url}/v1",
                max_retries=0,
                http_client=plain,
                timeout=timeout_s,
            ),
            http=http,
        )


@asynccontextmanager
async def posting(*scripts: Script, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """Without sockets: for what needs no more than requests and answers."""
    app = ModelServer(scripts, ServerOptions(**options)).app
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://model", headers=KEYS) as http:
        yield http


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def entry(server: RunningServer) -> Any:
    """The latest request on the bill."""
    return server.model_server.bill.entries[-1]
