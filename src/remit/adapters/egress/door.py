"""Sends a request to a host that is permitted, at an address that was looked at.

A name is resolved once for a connection; every address of it must be permitted; the one that was looked at is connected
to, under the name of the host. A redirect is a new request, looked at as the first was, without the credentials unless
it stays where they belong. Proxies of the environment are not used. An answer is taken piece by piece up to a size, and
only uncompressed, so that what is small on the wire is small here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import urljoin

import httpcore2
import httpx2
from httpcore2 import AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream

from remit.adapters.egress.addresses import is_inner, is_metadata
from remit.adapters.egress.urls import BadUrl, Target, read_url

REDIRECTS_MAX = 5
CONNECTIONS_MAX = 20
CONNECT_S = 10.0
IDLE_S = 30.0
_READS = frozenset({"GET", "HEAD"})
_TOKEN = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,100}")
_COMPRESSED = "its answer is compressed, which was not asked for"

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host."""


class Closed(Exception):
    """The request was not sent, because it may not be. The message says why, and is for the model as well."""


class NotSent(Exception):
    """The request certainly was not answered, for it was not sent: nobody could be connected to."""


class NoAnswer(Exception):
    """The request was sent, and nobody knows what became of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Who may be reached. `hosts`: by name, or as `*.example.com`; `ports`: of any of them.

    `inner`: whose addresses need not be of the open internet.
    """

    hosts: tuple[str, ...]
    ports: frozenset[int]
    inner: frozenset[str] = frozenset()

    def permits(self, target: Target) -> bool:
        """Whether a host and port may be reached at all."""
        return target.port in self.ports and any(
            target.host == pattern or (pattern.startswith("*.") and target.host.endswith(pattern[1:]))
            for pattern in self.hosts
        )

    def check(self, host: str, addresses: Sequence[str]) -> None:
        """Return where all addresses of a host may be connected to. Raises: Closed."""
        for text in addresses:
            address = ipaddress.ip_address(text.partition("%")[0])
            if is_metadata(address) or (is_inner(address) and host not in self.inner):
                raise Closed(f"{host} is at an address of no open network")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One request. `credentials` are headers that stay with the origin of the URL."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes = b""
    bytes_max: int = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back. `is_cut`: there was more of it; `is_packed`: it was compressed, and not taken."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    is_cut: bool
    url: str
    is_packed: bool = False


async def system_addresses(host: str, port: int) -> Sequence[str]:
    """What the operating system says."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Door:
    """HTTP under a policy. To be closed."""

    def __init__(
        self, policy: Policy, resolve: Resolve = system_addresses, tls: ssl.SSLContext | None = None
    ) -> None:
        self._policy = policy
        backend = _Pinned(policy, resolve)
        context = ssl.create_default_context() if tls is None else tls
        # what may be done once only goes over a connection of its own: one that was idle may be dead
        self._kept, self._fresh = (
            httpcore2.AsyncConnectionPool(
                ssl_context=context,
                max_connections=CONNECTIONS_MAX,
                max_keepalive_connections=kept,
                keepalive_expiry=IDLE_S,
                network_backend=backend,
            )
            for kept in (CONNECTIONS_MAX, 0)
        )

    async def send(self, sending: Sending, timeout_s: float) -> Answer:
        """The answer to a request, after the redirects of a read. Raises: Closed, NotSent, NoAnswer."""
        is_read = sending.method in _READS
        try:
            async with asyncio.timeout(timeout_s):
                target = self._target(sending.url)
                first = target.origin
                for _ in range(REDIRECTS_MAX + 1):
                    answer = await self._send(
                        sending, target, timeout_s, with_credentials=target.origin == first
                    )
                    place = answer.headers.get("location")
                    if not 300 <= answer.status < 400 or not place or not is_read:
                        return answer
                    onward = self._target(urljoin(str(target), place))
                    if onward.scheme != target.scheme == "https":
                        raise Closed("it redirects from https to http")
                    target = onward
        except TimeoutError as error:
            raise NoAnswer(f"no answer within {timeout_s:g} s") from error
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout, httpcore2.PoolTimeout) as error:
            if isinstance(error, _NotConnected):
                raise error.closed from None
            raise NotSent(f"it cannot be connected to ({type(error).__name__})") from error
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.TimeoutException,
            OSError,
        ) as error:
            raise NoAnswer(f"the connection broke ({type(error).__name__})") from error
        raise Closed(f"it redirects more than {REDIRECTS_MAX} times")

    async def close(self) -> None:
        """Close the connections."""
        await self._kept.aclose()
        await self._fresh.aclose()

    def _target(self, url: str) -> Target:
        try:
            target = read_url(url)
        except BadUrl as error:
            raise Closed(f"the URL is not used: {error}") from error
        if not self._policy.permits(target):
            raise Closed(
                f"{target.authority} is not permitted; permitted: {', '.join(self._policy.hosts)}"
                f" at port {', '.join(map(str, sorted(self._policy.ports)))}"
            )
        return target

    async def _send(
        self, sending: Sending, target: Target, timeout_s: float, *, with_credentials: bool
    ) -> Answer:
        given = {**sending.headers, **(sending.credentials if with_credentials else {})}
        headers = {name.lower(): value for name, value in given.items()}
        headers |= {"host": target.authority, "accept-encoding": "identity"}
        if sending.content or sending.method not in _READS:
            headers["content-length"] = str(len(sending.content))
        pool = self._kept if sending.method in _READS else self._fresh
        url = httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        # a share of the time, so that who cannot be connected to is known to have been sent nothing
        connect_s = min(CONNECT_S, timeout_s / 2)
        async with pool.stream(
            sending.method,
            url,
            headers=_wire(headers),
            content=sending.content,
            extensions={"timeout": {"connect": connect_s, "pool": connect_s}},
        ) as response:
            got = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
            }
            is_packed = _is_compressed(got.get("content-encoding", ""))
            content, is_cut = await _taken(response.aiter_stream(), 0 if is_packed else sending.bytes_max)
            return Answer(
                status=response.status,
                headers=got,
                content=content,
                is_cut=is_cut,
                url=str(target),
                is_packed=is_packed,
            )


def _wire(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    wired = []
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise Closed("the name of a header is none")
        if not value.isascii() or not value.isprintable():
            raise Closed(f"the header {name} holds what no header may")
        wired.append((name.encode(), value.encode()))
    return wired


def _is_compressed(encoding: str) -> bool:
    return encoding.strip().lower() not in ("", "identity")


async def _taken(stream: Any, bytes_max: int) -> tuple[bytes, bool]:
    """The first `bytes_max` bytes, and whether there were more."""
    parts: list[bytes] = []
    size = 0
    async for part in stream:
        parts.append(part[: bytes_max - size])
        size += len(part)
        if size > bytes_max:
            return b"".join(parts), True
    return b"".join(parts), False


class _NotConnected(httpcore2.ConnectError):
    """How the pool is told that an address may not be connected to."""

    def __init__(self, closed: Closed) -> None:
        super().__init__(str(closed))
        self.closed = closed


class _Pinned(AsyncNetworkBackend):
    """Connects to an address that it has looked at, and to no name."""

    def __init__(self, policy: Policy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve
        self._network = AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = list(dict.fromkeys(await self._resolve(host, port)))
            self._policy.check(host, addresses)
        except Closed as error:
            raise _NotConnected(error) from error
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(f"{host} is not found in time") from error
        except (OSError, ValueError) as error:
            raise httpcore2.ConnectError(f"{host} is not found") from error
        failed: httpcore2.ConnectError | httpcore2.ConnectTimeout | None = None
        share_s = None if timeout is None else timeout / max(len(addresses), 1)
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, share_s, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore2.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> AsyncNetworkStream:
        """Never."""
        raise httpcore2.ConnectError("sockets of the file system are not connected to")

    async def sleep(self, seconds: float) -> None:
        """Wait between attempts, of which there is one."""
        await asyncio.sleep(seconds)


def pinned_transport(policy: Policy, resolve: Resolve = system_addresses) -> httpx2.AsyncBaseTransport:
    """For libraries that bring a client of httpx2 along: the same way out, under the same policy."""
    return _Transport(policy, resolve)


class _Transport(httpx2.AsyncBaseTransport):
    def __init__(self, policy: Policy, resolve: Resolve) -> None:
        self._policy = policy
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(), network_backend=_Pinned(policy, resolve)
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer, as it comes. Raises: httpx2.ConnectError and others of its kind."""
        try:
            target = read_url(str(request.url))
        except BadUrl as error:
            raise httpx2.UnsupportedProtocol(f"the URL is not used: {error}") from error
        if not self._policy.permits(target):
            raise httpx2.ConnectError(f"{target.authority} is not permitted")
        url = httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        sent = httpcore2.Request(
            request.method,
            url,
            headers=[
                *((name, value) for name, value in request.headers.raw if name.lower() != b"accept-encoding"),
                (b"accept-encoding", b"identity"),
            ],
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            response = await self._pool.handle_async_request(sent)
        except httpcore2.ConnectError as error:
            raise httpx2.ConnectError(str(error)) from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
            raise httpx2.NetworkError(type(error).__name__) from error
        if any(
            _is_compressed(value.decode("latin-1"))
            for name, value in response.headers
            if name.lower() == b"content-encoding"
        ):
            await response.aclose()
            raise httpx2.DecodingError(_COMPRESSED)
        return httpx2.Response(
            response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._response.aiter_stream():
                yield part
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
            raise httpx2.ReadError(type(error).__name__) from error

    async def aclose(self) -> None:
        await self._response.aclose()
