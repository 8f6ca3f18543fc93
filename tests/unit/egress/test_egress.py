"""The way out: no URL and no name leads to an address that is out of bounds. A witness on loopback sees no connection."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import json
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.adapters.egress.addresses import is_inner, is_metadata
from remit.adapters.egress.door import Answer, Closed, Door, NoAnswer, NotSent, Policy, Sending
from remit.adapters.egress.urls import BadUrl, Target, read_url

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Witness:
    """A server on loopback that answers what it is told, and notes each request it gets."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[str] = []
        self.answers: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            writer.write(self.answers.pop(0) if self.answers else answer(b"{}"))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def answer(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    given = {"content-length": str(len(body)), "connection": "close"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


class Names:
    """Answers for names; each time it is asked, with the next answer of a name's, and the last for good."""

    def __init__(self, **names: list[list[str]]) -> None:
        self.names = {name.replace("_", "."): answers for name, answers in names.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        try:
            ipaddress.ip_address(host)
        except ValueError:
            answers = self.names[host]
            return answers.pop(0) if len(answers) > 1 else answers[0]
        return [host]


class Place:
    def __init__(self, witness: Witness, stack: AsyncExitStack) -> None:
        self.witness = witness
        self.ports: tuple[int, ...] = ()
        self.tls: ssl.SSLContext | None = None
        self._stack = stack

    def door(
        self, names: Names | None = None, hosts: tuple[str, ...] = ("*.test",), inner: tuple[str, ...] = ()
    ) -> Door:
        ports = frozenset({80, self.witness.port, *self.ports})
        door = Door(Policy(hosts=hosts, ports=ports, inner=frozenset(inner)), names or Names(), self.tls)
        self._stack.push_async_callback(door.close)
        return door

    def url(self, host: str, path: str = "/") -> str:
        return f"http://{host}:{self.witness.port}{path}"


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    witness = Witness()
    async with AsyncExitStack() as stack:
        witness.port = await stack.enter_async_context(serving(witness.serve))
        yield Place(witness, stack)


async def get(door: Door, url: str, **keys: Any) -> Answer:
    return await door.send(Sending(method="GET", url=url, **keys), 5.0)


async def test_no_public_payload_reaches_the_witness(place: Place, shared_data: Path) -> None:
    """Every host is permitted here, and every name leads to loopback: the addresses alone keep the door."""
    suite = json.loads(gzip.decompress((shared_data / "payloads" / "patt_payloads.json.gz").read_bytes()))
    payloads = [entry["u"] for entry in suite["ssrf"]]

    async def everything_is_here(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    class Anyone(Policy):
        def permits(self, target: Target) -> bool:
            return True

    door = Door(Anyone(hosts=(), ports=frozenset()), everything_is_here)
    port = place.witness.port
    for payload in payloads:
        bare = payload.split("://")[-1]
        for url in (payload, f"http://{bare}", f"http://{bare.split('/')[0].split(':')[0]}:{port}/"):
            with pytest.raises((Closed, NotSent)):
                await door.send(Sending(method="GET", url=url), 2.0)
    assert place.witness.connections == 0
    await door.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://user@api.test/",
        "http://evil.test\\@api.test/",
        "http://api.test\\.evil.test/",
        "http://api.test%2eevil.test/",
        "http://api.test:0/",
        "http://api.test:65536/",
        "http://api.test:80a/",
        "http://api.test:/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://1.2.3.0x4/",
        "http://[::1/",
        "http://[::1%25lo]/",
        "http://a b.test/",
        "http://api.test/\r\nhost: evil",
        "http:///etc/passwd",
        "http:/api.test/",
        "//api.test/",
        "file:///etc/passwd",
        "gopher://api.test/",
        "http://.test/",
        "http://a..test/",
        "http://-a.test/",
        "http://\u2028.test/",
        "http://api.test/\u00e4",
        "http://" + "a" * 9000,
        "",
    ],
)
def test_a_url_that_two_readers_could_read_in_two_ways_is_no_url(url: str) -> None:
    with pytest.raises(BadUrl):
        read_url(url)


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("HTTP://API.Test", "http://api.test/"),
        ("https://api.test.:443/a?b=c#d", "https://api.test/a?b=c"),
        ("http://api.test:8080", "http://api.test:8080/"),
        ("http://b\u00fccher.test/", "http://xn--bcher-kva.test/"),
        ("http://\u24d0pi.test/", "http://api.test/"),
        ("http://[2001:DB8::1]:81/x", "http://[2001:db8::1]:81/x"),
        ("http://8.8.8.8/", "http://8.8.8.8/"),
    ],
)
def test_a_url_is_read_in_one_way(url: str, read: str) -> None:
    target = read_url(url)
    assert str(target) == read
    assert read_url(str(target)) == target


@given(st.text(max_size=60))
def test_whatever_is_read_is_read_again_as_the_same(text: str) -> None:
    try:
        target = read_url(f"http://{text}")
    except BadUrl:
        return
    assert read_url(str(target)) == target
    assert target.host == target.host.lower()
    assert not set(target.host) & set("@\\%/?# ")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "192.0.0.8",
        "198.18.0.1",
        "203.0.113.5",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::1",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "100::1",
        "5f00::1",
    ],
)
def test_addresses_out_of_bounds(address: str) -> None:
    assert is_inner(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2a00:1450::1"]
)
def test_addresses_of_the_internet(address: str) -> None:
    assert not is_inner(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_nothing_that_python_calls_private_is_open(address: Any) -> None:
    if not address.is_global or address.is_multicast:
        assert is_inner(address)
    mapped = ipaddress.IPv6Address(f"::ffff:{address}")
    assert is_inner(mapped)
    assert is_metadata(mapped) == is_metadata(address)


async def test_a_host_that_is_opened_is_reached_by_name_and_credentials_go_with_it(place: Place) -> None:
    names = Names(api_test=[["127.0.0.1"]])
    place.witness.answers.append(answer(b'{"a": 1}', content_type="application/json"))
    found = await get(
        place.door(names, inner=("api.test",)),
        place.url("api.test", "/x?y=1"),
        credentials={"Authorization": "Bearer k"},
    )
    assert (found.status, found.content, found.is_cut) == (200, b'{"a": 1}', False)
    (request,) = place.witness.requests
    assert request.startswith("GET /x?y=1 HTTP/1.1\r\n")
    assert f"host: api.test:{place.witness.port}\r\n" in request
    assert "authorization: Bearer k\r\n" in request


@pytest.mark.parametrize(
    "answers", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::1"], ["fe80::1%lo"], ["10.0.0.1"]]
)
async def test_a_name_of_which_any_address_is_inner_is_not_reached(place: Place, answers: list[str]) -> None:
    with pytest.raises(Closed, match=r"api\.test is at an address of no open network"):
        await get(place.door(Names(api_test=[answers])), place.url("api.test"))
    assert place.witness.connections == 0


async def test_a_name_that_is_bound_anew_is_looked_at_anew_and_asked_once_a_connection(place: Place) -> None:
    """First it leads to the internet, then to loopback: what was looked at is what is connected to."""
    names = Names(api_test=[["192.0.2.1"], ["127.0.0.1"]])
    for _ in range(2):
        with pytest.raises(Closed):
            await get(place.door(names), place.url("api.test"))
    assert names.asked == ["api.test", "api.test"]
    # and where it is opened, one connection asks once: there is no second answer to connect to
    names = Names(api_test=[["127.0.0.1"], ["192.0.2.1"]])
    await get(place.door(names, inner=("api.test",)), place.url("api.test"))
    assert names.asked == ["api.test"]


METADATA = (
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "2001:0:1:2:3:4:5601:5601",
    "fe80::a9fe:a9fe",
    "fd00:ec2::254",
    "fd20:ce::254",
)


async def test_metadata_is_not_reached_even_where_a_host_is_opened(place: Place) -> None:
    for address in METADATA:
        door = place.door(Names(api_test=[[address]]), inner=("api.test",))
        with pytest.raises(Closed):
            await get(door, place.url("api.test"))


@pytest.mark.parametrize("host", ["evil.example", "test", "api.test.evil.example", "xtest"])
async def test_a_host_that_is_not_listed_is_not_even_asked_for(place: Place, host: str) -> None:
    names = Names()
    with pytest.raises(Closed, match="is not permitted"):
        await get(place.door(names), place.url(host))
    assert names.asked == []


@pytest.mark.parametrize(
    "place_of",
    [
        "http://api.test:22/",
        "http://127.0.0.1:{port}/",
        "http://inner.test:{port}/",
        "file:///etc/passwd",
        "//evil.example/",
        "http://u@api.test/",
    ],
)
async def test_a_redirect_is_looked_at_like_any_url(place: Place, place_of: str) -> None:
    names = Names(api_test=[["127.0.0.1"]], inner_test=[["127.0.0.1"]])
    place.witness.answers.append(answer(b"", "302 Found", location=place_of.format(port=place.witness.port)))
    with pytest.raises(Closed):
        await get(place.door(names, inner=("api.test",)), place.url("api.test"))
    assert len(place.witness.requests) == 1


async def test_credentials_do_not_follow_a_redirect_to_another_host(place: Place) -> None:
    names = Names(api_test=[["127.0.0.1"]], other_test=[["127.0.0.1"]])
    port = place.witness.port
    place.witness.answers += [
        answer(b"", "302 Found", location="/second"),
        answer(b"", "302 Found", location=f"http://other.test:{port}/third"),
    ]
    door = place.door(names, inner=("api.test", "other.test"))
    await get(door, place.url("api.test"), credentials={"x-key": "secret"})
    assert ["x-key: secret" in request for request in place.witness.requests] == [True, True, False]


async def test_redirects_end(place: Place) -> None:
    place.witness.answers += [answer(b"", "302 Found", location="/")] * 9
    with pytest.raises(Closed, match="redirects more than 5 times"):
        await get(place.door(Names(api_test=[["127.0.0.1"]]), inner=("api.test",)), place.url("api.test"))


async def test_a_write_follows_no_redirect(place: Place) -> None:
    place.witness.answers.append(answer(b"", "307 Temporary Redirect", location="/again"))
    door = place.door(Names(api_test=[["127.0.0.1"]]), inner=("api.test",))
    found = await door.send(Sending(method="POST", url=place.url("api.test"), content=b"{}"), 5.0)
    assert found.status == 307
    assert len(place.witness.requests) == 1


async def test_an_endless_answer_is_cut_and_a_compressed_one_is_not_taken(place: Place) -> None:
    door = place.door(Names(api_test=[["127.0.0.1"]]), inner=("api.test",))
    place.witness.answers.append(answer(b"x" * 3_000_000))
    found = await get(door, place.url("api.test"), bytes_max=10_000)
    assert (len(found.content), found.is_cut) == (10_000, True)
    bomb = zlib.compress(b"\0" * 10_000_000)
    place.witness.answers.append(answer(bomb, content_encoding="deflate"))
    packed = await get(door, place.url("api.test"))
    assert (packed.content, packed.is_packed) == (b"", True)
    assert "accept-encoding: identity" in place.witness.requests[0]


async def test_an_answer_that_comes_drop_by_drop_ends_at_the_deadline(place: Place) -> None:
    gone = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.02)
        writer.close()
        gone.set()

    async with serving(drip) as port:
        place.ports = (port,)
        door = place.door(Names(api_test=[["127.0.0.1"]]), inner=("api.test",))
        with pytest.raises(NoAnswer, match="no answer within"):
            await door.send(Sending(method="GET", url=f"http://api.test:{port}/"), 0.3)
        async with asyncio.timeout(20):
            await gone.wait()


async def test_nothing_of_an_argument_becomes_a_header_of_its_own(place: Place) -> None:
    door = place.door(Names(api_test=[["127.0.0.1"]]), inner=("api.test",))
    for value in ("a\r\nx: y", "a\nb", "\u00e4", "a\0"):
        with pytest.raises(Closed, match="the header x-name"):
            await get(door, place.url("api.test"), headers={"x-name": value})
    assert place.witness.connections == 0


async def test_proxies_of_the_environment_are_not_used(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    door = place.door(Names(api_test=[["127.0.0.1"]]), inner=("api.test",))
    assert (await get(door, place.url("api.test"))).status == 200


async def test_who_cannot_be_connected_to_was_not_sent_anything(place: Place) -> None:
    place.ports = (1,)
    door = place.door(Names(api_test=[["127.0.0.1"]]), inner=("api.test",))
    with pytest.raises(NotSent):
        await get(door, "http://api.test:1/")


async def test_a_name_that_nobody_answers_for_in_time_was_not_sent_anything(place: Place) -> None:
    """A share of the deadline is for connecting: what ends in it was certainly not done."""

    async def silent(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    door = Door(Policy(hosts=("api.test",), ports=frozenset({80})), silent)
    with pytest.raises(NotSent):
        await door.send(Sending(method="POST", url="http://api.test/"), 0.2)
    await door.close()


async def test_the_next_address_is_tried_where_nobody_listens_at_the_first(place: Place) -> None:
    names = Names(api_test=[["127.99.0.1", "127.0.0.1"]])
    assert (await get(place.door(names, inner=("api.test",)), place.url("api.test"))).status == 200
    assert names.asked == ["api.test"]


async def test_the_name_of_a_header_is_looked_at(place: Place) -> None:
    door = place.door(Names(api_test=[["127.0.0.1"]]), inner=("api.test",))
    for name in ("", "x y", "x\r\ny", "x:", "\u00e4"):
        with pytest.raises(Closed, match="the name of a header"):
            await get(door, place.url("api.test"), headers={name: "v"})
    assert place.witness.connections == 0


async def test_an_answer_that_breaks_off_is_none(place: Place) -> None:
    place.witness.answers.append(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
    door = place.door(Names(api_test=[["127.0.0.1"]]), inner=("api.test",))
    with pytest.raises(NoAnswer):
        await get(door, place.url("api.test"))


def test_credentials_are_in_no_repr() -> None:
    assert "secret" not in repr(Sending(method="GET", url="http://a.test", credentials={"k": "secret"}))
