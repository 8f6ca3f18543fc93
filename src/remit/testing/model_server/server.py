"""The model server over HTTP on the loopback: one Starlette application, one uvicorn, one process.

Starlette is imported when a server is made, because start-up of everything else that
imports `remit.testing` need not pay the 0.2 s.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from remit.adapters.listening import ServingOptions, listen, served
from remit.ports.services import Clock
from remit.runtime.clock import SystemClock
from remit.testing.model_server.anthropic_wire import COUNT_PATH, AnthropicWire
from remit.testing.model_server.bill import DEFAULT_RATES, Bill, BillRate, Entry
from remit.testing.model_server.chaos import Chaos, Mischief
from remit.testing.model_server.conversation import BadRequest, Failure, Reply
from remit.testing.model_server.delivery import Delivery, resettable
from remit.testing.model_server.engine import Engine
from remit.testing.model_server.limits import Limits, Meter
from remit.testing.model_server.openai_chat import ChatWire
from remit.testing.model_server.openai_responses import ResponsesWire
from remit.testing.model_server.prompt import PrefixCache, compose
from remit.testing.model_server.scripts import Script, load_scripts
from remit.testing.model_server.wire import Answer, Asked, Event, Tokens, Wire

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

BODY_BYTES_MAX = 32_000_000
JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """`rates`: the bill's, by model (`*`: any other model; without it, others are not found).

    `limits` is what the ratelimit headers speak of; nothing is limited unless it is enforced. `chaos`: faults
    by chance beside the scripted ones. `clock` dates the bill and ages the cache.
    """

    rates: Mapping[str, BillRate] = field(default_factory=lambda: DEFAULT_RATES)
    limits: Limits = field(default_factory=Limits)
    chaos: Chaos | None = None
    clock: Clock = field(default_factory=SystemClock)


class ModelServer:
    """A scripted model behind its providers' protocols. `app` is the ASGI application."""

    def __init__(self, scripts: Sequence[Script] = (), options: ServerOptions = ServerOptions()) -> None:
        """Raises: RemitError `script.invalid` where the scripts do not go together."""
        self._engine = Engine(scripts)
        self._clock = options.clock
        self._mischief = None if options.chaos is None else Mischief(options.chaos)
        self._cache = PrefixCache(options.clock)
        self._meter = Meter(options.limits, options.clock)
        self._enforced = options.limits.enforced
        self._requests = 0
        self.bill = Bill(rates=options.rates)
        self.app = _application(self)

    def reset(self) -> None:
        """Begin a new bill, and forget which faults were given, what was cached and what was used."""
        self.bill.reset()
        self._engine.reset()
        self._cache.clear()
        self._meter.reset()
        if self._mischief is not None:
            self._mischief.reset()
        self._requests = 0

    def answer(self, wire: Wire, headers: Mapping[str, str], body: bytes) -> Delivery:
        """Answer one request in the protocol of `wire`. What is processed is on the bill from now on."""
        self._requests += 1
        self._meter.use(requests=1)
        request_id = "req_" + hashlib.sha256(str(self._requests).encode()).hexdigest()[:24]
        asked: Asked | None = None
        try:
            wire.check_headers(headers)
            asked = wire.read(body)
            answer = self._decide(wire, asked)
        except BadRequest as error:
            answer = error.failure
        entry = Entry(
            request_id=request_id,
            at_us=self._clock.now_us(),
            path=wire.path,
            model="" if asked is None else asked.conversation.model,
            digest=hashlib.sha256(body).hexdigest(),
            stream=asked is not None and asked.stream,
            billed=False,
            tokens=Tokens(),
            cost_nano_usd=0,
        )
        if isinstance(answer, Failure) or asked is None:
            return self._fail(wire, answer, asked, entry)
        try:
            return self._reply(wire, answer, asked, entry)
        except orjson.JSONEncodeError as error:
            failure = Failure(status=500, message=f"the scripted answer cannot be said in JSON: {error}")
            return self._fail(wire, failure, None, entry)

    def count(self, wire: AnthropicWire, headers: Mapping[str, str], body: bytes) -> Delivery:
        """Count the tokens of a prompt. Not billed."""
        try:
            wire.check_headers(headers)
            status, data = 200, wire.count(body)
        except BadRequest as error:
            status, data = error.failure.status, wire.failure(error.failure, "")
        headers = {"content-type": JSON}
        return Delivery(status=status, headers=headers, events=(Event(data),), clock=self._clock)

    def _decide(self, wire: Wire, asked: Asked) -> Reply | Failure:
        model = asked.conversation.model
        if not self.bill.knows(model):
            return wire.unknown_model(model)
        if self._enforced and self._meter.left().is_used_up:
            wait_s = -(-self._meter.left().reset_in_us // 1_000_000)
            return Failure(status=429, message="the limit of this minute is used up", retry_after_s=wait_s)
        answer = self._engine.answer(asked.conversation)
        if self._mischief is not None and isinstance(answer, Reply) and answer.fault is None:
            return self._mischief.meddle(answer, asked.conversation.digest)
        return answer

    def _reply(self, wire: Wire, reply: Reply, asked: Asked, entry: Entry) -> Delivery:
        model = asked.conversation.model
        tells_writes = self.bill.rate(model).cache_write is not None
        prompt = self._cache.count(asked, tells_writes=tells_writes)
        answer = compose(reply, asked, prompt, entry.at_us // 1_000_000)
        fault, entry.served = reply.fault, reply.served
        if fault is not None and fault.failure is not None and not asked.stream:
            data = wire.failure(fault.failure, entry.request_id)
            self._charge(entry, answer.tokens)
            headers = self._headers(wire, entry, fault.failure)
            return self._deliver(fault.failure.status, headers, (Event(data),), entry, reply)
        events = self._events(wire, answer)
        self._charge(entry, answer.tokens)
        headers = self._headers(wire, entry)
        if asked.stream:
            headers |= {"content-type": EVENTS, "cache-control": "no-cache"}
        delivery = self._deliver(200, headers, events, entry, reply)
        if fault is None:
            return delivery
        failure, request_id = fault.failure or Failure(status=500, message=""), entry.request_id
        return replace(
            delivery,
            fault=fault,
            fault_event=lambda number: wire.stream_failure(failure, request_id, number),
        )

    def _events(self, wire: Wire, answer: Answer) -> Iterable[Event]:
        if answer.asked.stream:
            return list(wire.events(answer))
        data = orjson.dumps(wire.message(answer))
        half = len(data) // 2
        return (Event(data[:half]), Event(data[half:], delta=True))

    def _fail(self, wire: Wire, failure: Reply | Failure, asked: Asked | None, entry: Entry) -> Delivery:
        assert isinstance(failure, Failure)
        data = wire.failure(failure, entry.request_id)
        if failure.status < 400 and asked is not None:
            # a malformed success: the provider did the work, so it bills it
            output = min(-(-len(data) // 4), asked.output_tokens_max)
            self._charge(entry, Tokens(input=asked.prompt_tokens, output=output))
        else:
            self.bill.add(entry)
        entry.outcome = "failed"
        headers = self._headers(wire, entry, failure)
        reply = Reply(text="", calls=(), delay_s=failure.delay_s)
        return self._deliver(failure.status, headers, (Event(data),), None, reply)

    def _charge(self, entry: Entry, tokens: Tokens) -> None:
        # Billed before anything is sent: a client that gives up waiting has been billed all the same.
        entry.billed, entry.tokens = True, tokens
        self.bill.add(entry)
        self._meter.use(input_tokens=tokens.input + tokens.cache_write, output_tokens=tokens.output)

    def _deliver(
        self, status: int, headers: dict[str, str], events: Iterable[Event], entry: Entry | None, reply: Reply
    ) -> Delivery:
        return Delivery(
            status=status,
            headers=headers,
            events=events,
            clock=self._clock,
            entry=entry,
            delay_s=reply.delay_s,
            drip_s=reply.drip_s,
        )

    def _headers(self, wire: Wire, entry: Entry, failure: Failure | None = None) -> dict[str, str]:
        headers = {"content-type": JSON, **wire.headers(entry.request_id, self._meter.left())}
        if failure is not None and failure.retry_after_s is not None:
            headers["retry-after"] = str(failure.retry_after_s)
            if failure.retry_after_date:
                at_s = self._clock.now_us() // 1_000_000 + failure.retry_after_s
                headers["retry-after"] = formatdate(at_s, usegmt=True)
        return headers


def _application(server: ModelServer) -> Starlette:
    from starlette.applications import Starlette  # noqa: PLC0415 - see the module's docstring
    from starlette.requests import ClientDisconnect  # noqa: PLC0415
    from starlette.responses import Response  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    def json(value: Any) -> Response:
        return Response(orjson.dumps(value), media_type=JSON)

    def speak(wire: Wire, answer: Callable[[Any, Mapping[str, str], bytes], Delivery]) -> Any:
        async def endpoint(request: Request) -> Any:
            try:
                body = await _body(request)
            except ClientDisconnect:  # a client that was killed while it asked: there is nobody to answer
                return Response(status_code=400)
            if body is None:
                failure = Failure(status=413, message="Request exceeds the maximum size")
                return Response(wire.failure(failure, ""), 413, media_type=JSON)
            return answer(wire, request.headers, body)

        return endpoint

    async def bill(request: Request) -> Response:
        return json(server.bill.to_json(entries=request.query_params.get("entries") == "1"))

    async def bill_csv(request: Request) -> Response:
        return Response(server.bill.to_csv(), media_type="text/csv")

    async def health(request: Request) -> Response:
        return json({"status": "ok"})

    async def reset(request: Request) -> Response:
        server.reset()
        return json({"status": "ok"})

    messages = AnthropicWire()
    routes: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        *(
            ("POST", wire.path, speak(wire, server.answer))
            for wire in (messages, ResponsesWire(), ChatWire())
        ),
        ("POST", COUNT_PATH, speak(messages, server.count)),
        ("GET", "/bill", bill),
        ("GET", "/bill.csv", bill_csv),
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
    model_server = ModelServer(scripts, options)
    listener = listen(host, port)
    # a scripted delay must not keep the caller waiting: what is under way at the end is cut off
    async with served(model_server.app, listener, ServingOptions(drain_s=0, protocol=resettable)):
        bound_host, bound_port = listener.getsockname()[:2]
        yield RunningServer(base_url=f"http://{bound_host}:{bound_port}", model_server=model_server)


async def run(
    host: str,
    port: int,
    scripts_dir: Path | None,
    on_ready: Callable[[str], None] | None = None,
    options: ServerOptions = ServerOptions(),
) -> None:
    """Serve the scripts in `scripts_dir` (None: the packaged default alone) until cancelled.

    `on_ready` is told the base URL once the server answers.

    Raises: RemitError `script.invalid`, `usage.invalid`.
    """
    scripts = () if scripts_dir is None else load_scripts(scripts_dir)
    async with serve(scripts, options, host=host, port=port) as server:
        if on_ready is not None:
            on_ready(server.base_url)
        await asyncio.get_running_loop().create_future()
