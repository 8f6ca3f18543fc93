"""What a connector costs beside the bare driver doing the same, in the same moment; and a thousand tools at the load."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import uvicorn

from benchmarks.figures import Measure, Options, Samples, percentile
from remit.adapters.tools.http.specs import declare_http
from remit.adapters.tools.http.toolset import open_http
from remit.adapters.tools.sql.specs import declare_sql
from remit.adapters.tools.sql.toolset import open_sql
from remit.core.decisions import Constraints
from remit.governance.toolsets import HttpToolset, SqlToolset
from remit.ports.effects import CallContext
from remit.runtime.clock import SystemClock
from remit.testing.postgres_server import postgres_server

CONTEXT = CallContext(
    run_id="r",
    tenant="t",
    agent="a",
    idempotency_key="r.1.t0",
    constraints=Constraints(timeout_s=10, output_bytes_max=65_536, records_max=50),
)
TARGET_MS = 0.3
QUERY = "SELECT id, total FROM orders WHERE customer = 'C-7' ORDER BY id"


def measure(options: Options) -> list[Measure]:
    """Each connector beside its driver, one call after another."""
    found = Samples()
    with postgres_server() as server:
        url = server.url()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE orders (id int PRIMARY KEY, customer text, total int)")
            connection.execute(
                "INSERT INTO orders SELECT n, 'C-' || n % 100, n FROM generate_series(1, 1000) n"
            )
            connection.execute("CREATE ROLE reader LOGIN")
            connection.execute("GRANT SELECT ON orders TO reader")
        reader = psycopg.conninfo.make_conninfo(url, user="reader")
        for _ in range(options.pick(3, 7)):
            found.add(**asyncio.run(_sql(reader, options.pick(200, 1_000))))
            found.add(**asyncio.run(_http(options.pick(200, 1_000))))
            found.add(load_ms=_load_ms(options.folder))
    return [
        *(
            _beside(found, key, name)
            for key, name in (("named", "SQL, a named query"), ("http", "HTTP, a read"))
        ),
        _beside(found, "free", "SQL, a new SELECT behind the guard", "sqlglot reads, writes and reads it"),
        _beside(found, "again", "SQL, the same SELECT again"),
        Measure(
            topic="connectors",
            name="an OpenAPI document of 1,000 operations, declared",
            unit="ms",
            samples=found.of("load_ms"),
            target=1_000.0,
            limited_by="checking 1,000 sections and schemas",
        ),
    ]


def _beside(found: Samples, key: str, name: str, why: str = "a thread's turn, and JSON") -> Measure:
    bare, ours = found.of(f"{key}_bare"), found.of(f"{key}_ours")
    return Measure(
        topic="connectors",
        name=f"{name}: more than the bare driver, p50",
        unit="ms",
        samples=tuple(mine - other for mine, other in zip(ours, bare, strict=True)),
        target=TARGET_MS,
        floor=found.median(f"{key}_bare"),
        limited_by=why,
    )


async def _sql(url: str, count: int) -> dict[str, float]:
    section = SqlToolset.model_validate(
        {
            "kind": "sql",
            "url_env": "DB",
            "tables": {"orders": {"id": "public", "customer": "pii", "total": "public"}},
            "free": True,
            "queries": {
                "of": {
                    "description": "d",
                    "sql": "SELECT id, total FROM orders WHERE customer = :c ORDER BY id",
                    "args": {"c": {"type": "string"}},
                }
            },
        }
    )
    tools = open_sql(section, declare_sql("db", section).specs, Path(), {"DB": url}, SystemClock())
    try:
        named = await _p50_ms(lambda: tools.call("of", {"c": "C-7"}, CONTEXT), count)
        number = itertools.count()
        free = await _p50_ms(
            lambda: tools.call("query_db", {"sql": f"{QUERY} LIMIT {next(number) + 100}"}, CONTEXT), count
        )
        again = await _p50_ms(lambda: tools.call("query_db", {"sql": QUERY}, CONTEXT), count)
    finally:
        await tools.close()
    with closing(psycopg.connect(url, autocommit=True, prepare_threshold=None)) as connection:
        bare = _bare_ms(lambda: connection.execute(QUERY.encode()).fetchall(), count)
    return {"named_ours": named, "named_bare": bare, "free_ours": free, "free_bare": bare} | {
        "again_ours": again,
        "again_bare": bare,
    }


async def _http(count: int) -> dict[str, float]:
    server = uvicorn.Server(
        uvicorn.Config(_answer, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    operations = {"get": {"method": "GET", "path": "/x/{id}", "args": {"id": {"type": "string"}}}}
    section = HttpToolset.model_validate(
        {"kind": "http", "url": url, "inner_hosts": ["127.0.0.1"], "operations": operations}
    )
    tools = open_http(section, declare_http("crm", section, Path()), Path(), ({}, SystemClock()))
    try:
        async with httpx2.AsyncClient(trust_env=False) as client:

            async def bare() -> Any:
                return (await client.get(f"{url}/x/7")).json()

            ours = await _p50_ms(lambda: tools.call("get", {"id": "7"}, CONTEXT), count)
            return {"http_ours": ours, "http_bare": await _p50_ms(bare, count)}
    finally:
        await tools.close()
        server.should_exit = True
        await serving


async def _answer(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"9")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"id": 7}'})


def _load_ms(folder: Path) -> float:
    names = [f"get_thing_{number}" for number in range(1_000)]
    parameter = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    paths = {f"/{name}/{{id}}": {"get": {"operationId": name, "parameters": [parameter]}} for name in names}
    (folder / "big.json").write_text(json.dumps({"openapi": "3.1.0", "paths": paths}))
    began = time.perf_counter()
    given = {
        "kind": "http",
        "url": "http://a.test",
        "openapi": "big.json",
        "operations": {name: {} for name in names},
    }
    declare_http("crm", HttpToolset.model_validate(given), folder)
    return (time.perf_counter() - began) * 1e3


async def _p50_ms(call: Callable[[], Awaitable[Any]], count: int) -> float:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        times.append((time.perf_counter() - began) * 1e3)
    return percentile(times, 0.5)


def _bare_ms(call: Callable[[], Any], count: int) -> float:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1e3)
    return percentile(times, 0.5)
