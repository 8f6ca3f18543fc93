"""Webhooks over HTTP: `POST /hooks/NAME`, and nothing else.

Every request is small and short: what is too large is not read on, and a connection has one request and a few
seconds, whatever it does with them. Starlette is imported when a server is made, because a worker without webhooks
need not pay for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from remit.adapters.listening import ServingOptions, listen, served
from remit.core.errors import RemitError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

RETRY_AFTER_S = 10
DRAIN_S = 5
_SIGNED = ("webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "content-length")

Deliver: TypeAlias = Callable[[str, Mapping[str, str], bytes], Awaitable[str]]
"""Takes the message of a hook: its headers, its body; the id of the run. Raises: RemitError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookOptions:
    """Where to listen, and how much a sender may ask of us. `request_s`: the life of a connection."""

    host: str
    port: int
    body_bytes_max: int = 256 * 1024
    request_s: float = 10.0
    connections_max: int = 64


@dataclass(frozen=True, slots=True)
class HookServer:
    """A server that takes messages at `url`, until `stop` or the end of its block."""

    url: str
    stop: Callable[[], None]


@asynccontextmanager
async def hook_server(deliver: Deliver, options: HookOptions) -> AsyncIterator[HookServer]:
    """Take messages until the block ends; those that are being taken then are finished.

    Raises: RemitError `usage.invalid` where the address cannot be listened on.
    """
    listener = listen(options.host, options.port)
    serving = ServingOptions(
        drain_s=DRAIN_S,
        connections_max=options.connections_max,
        protocol=partial(_impatient, seconds=options.request_s),
        head_bytes_max=16 * 1024,
    )
    async with served(_application(deliver, options.body_bytes_max), listener, serving) as stop:
        host, port = listener.getsockname()[:2]
        yield HookServer(f"http://{f'[{host}]' if ':' in host else host}:{port}/hooks/", stop)


def _application(deliver: Deliver, body_bytes_max: int) -> Starlette:
    from starlette.applications import Starlette  # noqa: PLC0415 - see the module's docstring
    from starlette.requests import ClientDisconnect  # noqa: PLC0415
    from starlette.responses import Response  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    def answer(status: int, value: Mapping[str, str], retry_after_s: int | None = None) -> Response:
        headers = {"connection": "close", "cache-control": "no-store"}
        if retry_after_s is not None:
            headers["retry-after"] = str(retry_after_s)
        return Response(orjson.dumps(value), status, headers, "application/json")

    def refuse(error: RemitError) -> Response:
        told = {"code": error.code}
        if error.kind.exit == 2:  # the sender's own mistake, who has signed it
            told["message"] = error.message
        return answer(error.kind.http, told, RETRY_AFTER_S if error.kind.retryable else None)

    async def endpoint(request: Request) -> Response:
        status = _refusal(request, body_bytes_max)
        if status:
            return answer(status, {})
        try:
            body = await _body(request, body_bytes_max)
            if body is None:
                return answer(413, {})
            run_id = await deliver(request.path_params["name"], request.headers, body)
        except ClientDisconnect:  # there is nobody to answer
            return answer(400, {})
        except RemitError as error:
            return refuse(error)
        return answer(202, {"run_id": run_id})

    return Starlette(routes=[Route("/hooks/{name}", endpoint, methods=["POST"])])


def _refusal(request: Request, body_bytes_max: int) -> int:
    """The status by which a request is refused for its headers alone; 0 where it is not."""
    headers = request.headers
    counts = Counter(name.lower() for name in headers)
    if any(counts[name] > 1 for name in _SIGNED):
        return 400  # who reads the first and who reads the last would read different messages
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" or headers.get("content-encoding", "identity") != "identity":
        return 415
    length = headers.get("content-length", "0")
    return 413 if len(length) > 12 or (length.isdecimal() and int(length) > body_bytes_max) else 0


async def _body(request: Request, bytes_max: int) -> bytes | None:
    """The body, or None where it is longer than it may be: no more of it is read then."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > bytes_max:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _impatient(protocol: type[Any], seconds: float) -> type[Any]:
    """uvicorn's `protocol`, whose connections end after so long, however slowly anybody writes or reads."""

    class Impatient(protocol):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._patience = self.loop.call_later(seconds, transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            self._patience.cancel()
            super().connection_lost(exc)

    return Impatient
