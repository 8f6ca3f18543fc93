"""The door for webhooks under attack: what it answers, and how long it listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
import pytest

from remit.adapters.hooks.server import HookOptions, hook_server
from remit.core.errors import RemitError

JSON = "content-type: application/json"
PATIENCE_S = 20.0
"""How long a test waits for what must come; only a broken server takes that long."""


class Door:
    """A server, what came through it, and raw requests to it."""

    def __init__(self) -> None:
        self.port = 0
        self.came: list[tuple[str, bytes]] = []
        self.error: RemitError | None = None
        self.let_in = asyncio.Event()
        self.let_in.set()
        self.stop: Any = None

    async def deliver(self, name: str, headers: Mapping[str, str], body: bytes) -> str:
        self.came.append((name, body))
        await self.let_in.wait()
        if self.error is not None:
            raise self.error
        return f"run-of-{headers['webhook-id']}"

    async def raw(self, data: bytes) -> tuple[int, dict[str, str], Any]:
        """The answer to these very bytes: status, headers, JSON; status 0 where the connection was cut."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            answer = await reader.read()
        except ConnectionError:
            answer = b""
        writer.close()
        if not answer:
            return 0, {}, None
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        is_json = headers.get("content-type") == "application/json"
        return int(first.split()[1]), headers, orjson.loads(body) if is_json else body

    async def post(
        self, *headers: str, body: bytes = b"{}", path: str = "/hooks/crm", length: int | None = None
    ) -> Any:
        size = len(body) if length is None else length
        lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {size}", "webhook-id: m", *headers]
        return await self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    async def is_open(self) -> bool:
        try:
            await self.post(JSON)
        except OSError:
            return False
        return True


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    options = HookOptions(host="127.0.0.1", port=0, body_bytes_max=1000, request_s=0.3, connections_max=4)
    async with hook_server(door.deliver, options) as server:
        door.port, door.stop = int(server.url.split(":")[2].split("/")[0]), server.stop
        yield door


async def test_a_message_is_taken_and_answered_with_its_run(door: Door) -> None:
    status, headers, body = await door.post("Content-Type: application/json; charset=utf-8", body=b'{"a": 1}')
    assert (status, body) == (202, {"run_id": "run-of-m"})
    assert headers["connection"] == "close"
    assert "server" not in headers
    assert door.came == [("crm", b'{"a": 1}')]


@pytest.mark.parametrize(
    ("code", "status", "told", "waits"),
    [
        ("webhook.invalid", 401, {"code": "webhook.invalid"}, False),
        ("webhook.unknown", 404, {"code": "webhook.unknown", "message": "why"}, False),
        ("value.invalid", 422, {"code": "value.invalid", "message": "why"}, False),
        ("value.too_large", 413, {"code": "value.too_large", "message": "why"}, False),
        ("queue.full", 429, {"code": "queue.full"}, True),
        ("journal.unavailable", 503, {"code": "journal.unavailable"}, True),
    ],
)
async def test_each_refusal_has_its_answer(
    code: str, status: int, told: dict[str, str], waits: bool, door: Door
) -> None:
    door.error = RemitError(code, "why")
    got, headers, body = await door.post(JSON)
    assert (got, body) == (status, told)
    assert ("retry-after" in headers) == waits


async def test_what_is_refused_unread(door: Door) -> None:
    large = b'{"a": "' + b"x" * 1000 + b'"}'
    chunked = b"POST /hooks/crm HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    assert (await door.post(JSON, body=large))[0] == 413
    assert (await door.post(JSON, length=10**9))[0] == 413
    assert (
        await door.raw(
            chunked + b"200\r\n" + b"x" * 512 + b"\r\n" + b"200\r\n" + b"x" * 512 + b"\r\n0\r\n\r\n"
        )
    )[0] == 413
    for headers in (
        [],
        ["content-type: text/plain"],
        ["content-type: application/x-www-form-urlencoded"],
        [JSON, "content-encoding: gzip"],
    ):
        assert (await door.post(*headers))[0] == 415
    for doubled in (
        "webhook-id: n",
        "Content-Type: application/json",
        "webhook-signature: v1,x\r\nWebhook-Signature: v1,y",
    ):
        assert (await door.post(JSON, doubled))[0] == 400
    assert (await door.post(JSON, "content-length: 7"))[0] == 400
    assert (await door.post(JSON, "x: " + "x" * 1_000_000))[0] in (
        400,
        0,
    )  # told, if it listens while it sends
    assert (await door.raw(b"\x16\x03\x01\x02\x00junk\r\n\r\n"))[0] == 400
    assert (await door.raw(b"GET /hooks/crm HTTP/1.1\r\nhost: x\r\n\r\n"))[0] == 405
    for path in ("/", "/hooks/", "/hooks/a/b", "/docs", "/hooks"):
        assert (await door.post(JSON, path=path))[0] in (404, 405)
    assert door.came == []


async def test_who_is_slow_is_cut_off_and_keeps_nobody_out(door: Door) -> None:
    slow = [
        door.raw(b""),
        door.raw(b"POST /hooks/crm HTT"),
        door.post(JSON, body=b"{", length=2),
    ]
    assert {status for status, _, _ in await asyncio.gather(*slow)} == {0}
    assert door.came == []
    assert (await door.post(JSON))[0] == 202


async def test_no_more_than_so_many_at_once() -> None:
    door = Door()
    options = HookOptions(host="127.0.0.1", port=0, connections_max=4)
    async with hook_server(door.deliver, options) as server, asyncio.timeout(PATIENCE_S):
        door.port = int(server.url.split(":")[2].split("/")[0])
        silent = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(4)]
        while (await door.post(JSON))[0] != 503:
            pass
        for _, writer in silent:
            writer.close()
        while (await door.post(JSON))[0] != 202:
            pass


async def test_a_stop_refuses_what_comes_and_finishes_what_has_come(door: Door) -> None:
    door.let_in.clear()
    under_way = asyncio.create_task(door.post(JSON))
    while not door.came:
        await asyncio.sleep(0)
    door.stop()
    door.let_in.set()
    assert (await under_way)[0] == 202
    async with asyncio.timeout(PATIENCE_S):
        while await door.is_open():
            pass
    assert all(name == "crm" for name, _ in door.came)


async def test_an_address_that_is_taken(door: Door) -> None:
    with pytest.raises(RemitError, match=r"usage\.invalid"):
        async with hook_server(door.deliver, HookOptions(host="127.0.0.1", port=door.port)):
            pass
