"""The way out over TLS: an address is connected to, and the name of the host is what is asked for and certified."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from remit.adapters.egress.door import Closed, Door, NotSent, Policy, Sending, pinned_transport


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for api.test, signed by itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: no certificate can be made")
    folder = tmp_path_factory.mktemp("tls")
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=api.test"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(
        [openssl, *make.split(), "-addext", "subjectAltName=DNS:api.test", *files],
        check=True,
        capture_output=True,
    )
    return folder / "cert.pem", folder / "key.pem"


class Secure:
    """A server over TLS that notes the names it is asked for, and the requests."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.names: list[str | None] = []
        self.requests: list[str] = []

    @asynccontextmanager
    async def serving(self, certificate: tuple[Path, Path]) -> AsyncIterator[int]:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*certificate)
        tls.sni_callback = lambda _socket, name, _context: self.names.append(name)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self.answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"


async def here(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


def door_to(port: int, certificate: tuple[Path, Path]) -> Door:
    policy = Policy(
        hosts=("*.test",), ports=frozenset({port, 80}), inner=frozenset({"api.test", "other.test"})
    )
    return Door(policy, here, ssl.create_default_context(cafile=str(certificate[0])))


async def test_the_name_is_asked_for_and_certified(certificate: tuple[Path, Path]) -> None:
    secure = Secure(OK)
    async with secure.serving(certificate) as port:
        door = door_to(port, certificate)
        answer = await door.send(Sending(method="GET", url=f"https://api.test:{port}/x"), 5.0)
        assert (answer.status, secure.names) == (200, ["api.test"])
        assert f"host: api.test:{port}\r\n" in secure.requests[0]
        # another name at the same address: the certificate is not its own, and nothing is sent
        with pytest.raises(NotSent):
            await door.send(Sending(method="POST", url=f"https://other.test:{port}/x"), 5.0)
        assert len(secure.requests) == 1
        await door.close()


async def test_a_stranger_s_certificate_is_not_taken(certificate: tuple[Path, Path]) -> None:
    secure = Secure(OK)
    async with secure.serving(certificate) as port:
        door = Door(Policy(hosts=("api.test",), ports=frozenset({port}), inner=frozenset({"api.test"})), here)
        with pytest.raises(NotSent):
            await door.send(Sending(method="GET", url=f"https://api.test:{port}/x"), 5.0)
        assert secure.requests == []
        await door.close()


async def test_a_redirect_leaves_tls_for_nobody(certificate: tuple[Path, Path]) -> None:
    secure = Secure(b"HTTP/1.1 302 Found\r\nlocation: http://api.test/\r\ncontent-length: 0\r\n\r\n")
    async with secure.serving(certificate) as port:
        door = door_to(port, certificate)
        with pytest.raises(Closed, match="from https to http"):
            await door.send(Sending(method="GET", url=f"https://api.test:{port}/x"), 5.0)
        await door.close()


async def test_what_libraries_send_goes_the_same_way(certificate: tuple[Path, Path]) -> None:
    """A client of httpx2 on the pinned transport: other hosts, ports, inner addresses and compressed answers are refused."""
    packed = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx"
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(packed if len(asked) > 1 else OK)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    policy = Policy(hosts=("*.test",), ports=frozenset({port}), inner=frozenset({"api.test"}))
    async with httpx2.AsyncClient(transport=pinned_transport(policy, here), trust_env=False) as client:
        assert (await client.get(f"http://api.test:{port}/")).status_code == 200
        for url in ("http://evil.example/", "http://api.test:1/", f"http://inner.test:{port}/"):
            with pytest.raises(httpx2.ConnectError):
                await client.get(url)
        with pytest.raises(httpx2.UnsupportedProtocol):
            await client.get(f"http://user@api.test:{port}/")
        with pytest.raises(httpx2.DecodingError):
            await client.get(f"http://api.test:{port}/")
    assert [request.count("accept-encoding: identity") for request in asked] == [1, 1]
    server.close()
    await server.wait_closed()
