"""The model server over HTTP on the loopback: one Starlette application, one uvicorn, one process.

Starlette and uvicorn are imported when a server is made, because start-up of everything else that
imports `remit.testing` need not pay the 0.2 s.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from remit.core.errors import RemitError
from remit.testing.model_server import anthropic_protocol
from remit.testing.model_server.bill import DEFAULT_RATES, Bill, BillRate
from remit.testing.model_server.conversation import BadRequest, Conversation, Failure, Reply
from remit.testing.model_server.engine import Engine
from remit.testing.model_server.scripts import Script, load_scripts

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

BODY_BYTES_MAX = 32_000_000
START_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """`rates`: the bill's, by model (`*`: any other model; without it, others are not found).

    `requests_per_minute` is what the ratelimit headers speak of; nothing is limited.
    """

    rates: Mapping[str, BillRate] = field(default_factory=lambda: DEFAULT_RATES)
    requests_per_minute: int = 4_000


class ModelServer:
    """A scripted model behind a provider's protocol. `app` is the ASGI application."""

    def __init__(self, scripts: Sequence[Script] = (), options: ServerOptions = ServerOptions()) -> None:
        """Raises: RemitError `script.invalid` where the scripts do not go together."""
        self._engine = Engine(scripts)
        self._options = options
        self._requests = 0
        self.bill = Bill(rates=options.rates)
        self.app = _application(self)

    def reset(self) -> None:
        """Begin a new bill and forget which scripted errors have been given."""
        self.bill.reset()
        self._engine.reset()
        self._requests = 0

    async def messages(self, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Answer one POST /v1/messages: status, headers and body."""
        self._requests += 1
        request_id = "req_" + hashlib.sha256(str(self._requests).encode()).hexdigest()[:24]
        try:
            anthropic_protocol.check_headers(headers)
            conversation, max_tokens = anthropic_protocol.read_request(body)
            if not self.bill.knows(conversation.model):
                raise BadRequest(f"model: {conversation.model}", status=404, kind="not_found_error")
            answer = self._engine.answer(conversation)
        except BadRequest as error:
            answer = error.failure
        if isinstance(answer, Failure):
            return await self._fail(answer, request_id, body)
        return await self._reply(answer, conversation, max_tokens, (request_id, body))

    async def _reply(
        self, reply: Reply, conversation: Conversation, max_tokens: int, request: tuple[str, bytes]
    ) -> tuple[int, dict[str, str], bytes]:
        request_id, body = request
        message = anthropic_protocol.render_reply(reply, conversation, max_tokens, len(body))
        usage = message["usage"]
        # Billed before the delay: a client that gives up waiting has been billed all the same.
        self.bill.charge(conversation.model, usage["input_tokens"], usage["output_tokens"])
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        return 200, self._headers(request_id), orjson.dumps(message)

    async def _fail(
        self, failure: Failure, request_id: str, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        answer = anthropic_protocol.render_failure(failure, request_id)
        if failure.status < 400:  # a malformed success: the provider did the work, so it bills it
            conversation, _ = anthropic_protocol.read_request(body)
            self.bill.charge(conversation.model, -(-len(body) // 4), -(-len(answer) // 4))
        if failure.delay_s:
            await asyncio.sleep(failure.delay_s)
        headers = self._headers(request_id)
        if failure.retry_after_s is not None:
            headers["retry-after"] = str(failure.retry_after_s)
        return failure.status, headers, answer

    def _headers(self, request_id: str) -> dict[str, str]:
        limit = self._options.requests_per_minute
        return {
            "content-type": "application/json",
            "request-id": request_id,
            "anthropic-ratelimit-requests-limit": str(limit),
            "anthropic-ratelimit-requests-remaining": str(max(limit - self._requests, 0)),
        }


def _application(server: ModelServer) -> Starlette:
    from starlette.applications import Starlette  # noqa: PLC0415 - see the module's docstring
    from starlette.responses import Response  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    async def messages(request: Request) -> Response:
        body = await _body(request)
        if body is None:
            failure = Failure(
                status=413, type="request_too_large", message="Request exceeds the maximum size"
            )
            return Response(
                anthropic_protocol.render_failure(failure, ""), 413, media_type="application/json"
            )
        status, headers, answer = await server.messages(request.headers, body)
        return Response(answer, status, headers)

    def json(value: Any) -> Response:
        return Response(orjson.dumps(value), media_type="application/json")

    async def bill(request: Request) -> Response:
        return json(server.bill.to_json())

    async def health(request: Request) -> Response:
        return json({"status": "ok"})

    async def reset(request: Request) -> Response:
        server.reset()
        return json({"status": "ok"})

    routes: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("POST", anthropic_protocol.PATH, messages),
        ("GET", "/bill", bill),
        ("GET", "/health", health),
        ("POST", "/reset", reset),
    ]
    return Starlette(routes=[Route(path, endpoint, methods=[method]) for method, path, endpoint in routes])


async def _body(request: Request) -> bytes | None:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server that answers at `base_url`."""

    base_url: str
    model_server: ModelServer

    @property
    def bill(self) -> dict[str, Any]:
        """The bill so far, as GET /bill gives it."""
        return self.model_server.bill.to_json()


@asynccontextmanager
async def serve(
    scripts: Sequence[Script] = (),
    options: ServerOptions = ServerOptions(),
    *,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[RunningServer]:
    """A server in this process, on a free port unless `port` is given, until the block ends.

    Raises: RemitError `script.invalid`; `usage.invalid` where the address cannot be listened on.
    """
    import uvicorn  # noqa: PLC0415 - see the module's docstring

    model_server = ModelServer(scripts, options)
    config = uvicorn.Config(
        model_server.app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    listener = _listen(host, port)
    server = uvicorn.Server(config)
    # serve() would take the process's signal handlers; they belong to whoever embeds us.
    task = asyncio.create_task(server._serve([listener]), name="model-server")
    try:
        await _started(server, task)
        bound_host, bound_port = listener.getsockname()[:2]
        yield RunningServer(base_url=f"http://{bound_host}:{bound_port}", model_server=model_server)
    finally:
        server.should_exit = True
        server.force_exit = True  # a scripted delay must not keep the caller waiting
        await task
        listener.close()


async def run(
    host: str, port: int, scripts_dir: Path | None, on_ready: Callable[[str], None] | None = None
) -> None:
    """Serve the scripts in `scripts_dir` (None: the packaged default alone) until cancelled.

    `on_ready` is told the base URL once the server answers.

    Raises: RemitError `script.invalid`, `usage.invalid`.
    """
    scripts = () if scripts_dir is None else load_scripts(scripts_dir)
    async with serve(scripts, host=host, port=port) as server:
        if on_ready is not None:
            on_ready(server.base_url)
        await asyncio.get_running_loop().create_future()


def _listen(host: str, port: int) -> socket.socket:
    # The protocol is named because asyncio sends at once (TCP_NODELAY) only where it is: 40 ms a call.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, proto=socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise RemitError("usage.invalid", f"cannot listen on {host}:{port}", cause=str(error)) from error
    return listener


async def _started(server: Any, task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while not server.started:
            if task.done():
                await task
                raise RemitError("internal", "the model server ended before it began")
            await asyncio.sleep(0.002)
