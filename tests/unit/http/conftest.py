"""The example service, in this event loop, on loopback."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from remit.adapters.tools.http.specs import declare_http
from remit.adapters.tools.http.toolset import HttpTools, open_http
from remit.core.decisions import Constraints
from remit.governance.toolsets import HttpToolset
from remit.ports.effects import CallContext
from remit.runtime.clock import SystemClock

EXAMPLE = Path(__file__).parents[3] / "examples" / "crm"


def _example() -> Any:
    found = importlib.util.spec_from_file_location("crm_service", EXAMPLE / "service.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["crm_service"] = module
    found.loader.exec_module(module)
    return module


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:
            await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


class Crm:
    """The service and what it holds."""

    def __init__(self, url: str, state: Any) -> None:
        self.url = url
        self.state = state


@pytest.fixture
async def crm() -> AsyncIterator[Crm]:
    state = _example().new_crm("k3y")
    async with serving(state.app()) as url:
        yield Crm(url, state)


Open = Callable[..., HttpTools]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        def make(url: str, operations: dict[str, Any], **keys: Any) -> HttpTools:
            given = {
                "kind": "http",
                "url_env": "URL",
                "openapi": "openapi.json",
                "inner_hosts": ["127.0.0.1"],
                "auth": {"header": "X-Api-Key", "header_env": "KEY"},
                "operations": operations,
            } | keys
            section = HttpToolset.model_validate(
                {key: value for key, value in given.items() if value is not None}
            )
            declared = declare_http("crm", section, EXAMPLE)
            environment = {"URL": url, "KEY": "k3y"}
            tools = open_http(section, declared, EXAMPLE, (environment, SystemClock()))
            stack.push_async_callback(tools.close)
            return tools

        yield make


def context(*, timeout_s: float = 10.0, records_max: int | None = None, key: str = "r.1.t0") -> CallContext:
    return CallContext(
        run_id="r",
        tenant="t",
        agent="a",
        idempotency_key=key,
        constraints=Constraints(timeout_s=timeout_s, output_bytes_max=65_536, records_max=records_max),
    )
