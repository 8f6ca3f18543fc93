"""Fakes of the ports: small, strict, without I/O, and honest about what a real part would do."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.messages import ModelReply, ModelRequest, Text, ToolUse, Usage
from remit.core.tools import ToolSpec
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.services import Charge, TelemetryEvent, TextSink

ToolFunction = Callable[[Json, CallContext], Awaitable[Json]]


class FakeClock:
    """A clock that stands until it is moved; `sleep` moves it. Its entropy follows from the seed."""

    def __init__(self, now_us: int = 1_800_000_000_000_000, seed: int = 0) -> None:
        self._now_us = now_us
        self._seed = seed
        self._drawn = 0
        self.slept: list[float] = []

    def now_us(self) -> int:
        return self._now_us

    def monotonic_ns(self) -> int:
        return self._now_us * 1000

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self._now_us += int(seconds * 1_000_000)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    def entropy(self, size: int) -> bytes:
        self._drawn += 1
        return hashlib.sha256(f"{self._seed}/{self._drawn}".encode()).digest()[:size]


class ScriptedModel:
    """A model that gives the replies (or raises the failures) it was given, in order; more is an error."""

    def __init__(self, replies: Sequence[ModelReply | EffectFailed]) -> None:
        self._replies = list(replies)
        self.requests: list[ModelRequest] = []

    async def complete(self, request: ModelRequest, on_text: TextSink | None = None) -> ModelReply:
        self.requests.append(request)
        if not self._replies:
            raise EffectFailed("model.failed", "the script has no further reply")
        reply = self._replies.pop(0)
        if isinstance(reply, EffectFailed):
            raise reply
        if on_text is not None and reply.text:
            on_text(reply.text)
        return reply


def says(text: str, *, usage: Usage | None = None) -> ModelReply:
    """A reply that ends the conversation."""
    return ModelReply(
        parts=(Text(text=text),),
        stop="end",
        usage=usage or Usage(input_tokens=100, output_tokens=10),
        model="m",
    )


def calls(*uses: tuple[str, Json], usage: Usage | None = None) -> ModelReply:
    """A reply that asks for tool calls: (tool, arguments) each."""
    return ModelReply(
        parts=tuple(
            ToolUse(id=f"call-{index}", name=name, args=args) for index, (name, args) in enumerate(uses)
        ),
        stop="tool_use",
        usage=usage or Usage(input_tokens=100, output_tokens=10),
        model="m",
    )


class FunctionTools:
    """A tool host of async functions, each with its declaration. `called` counts what really ran."""

    def __init__(
        self, tools: Mapping[ToolSpec, ToolFunction] | Sequence[tuple[ToolSpec, ToolFunction]]
    ) -> None:
        pairs = list(tools.items()) if isinstance(tools, Mapping) else list(tools)
        self._functions = {spec.name: function for spec, function in pairs}
        self._specs = tuple(spec for spec, _ in pairs)
        self.called: list[tuple[str, Json]] = []

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        return self._specs

    async def call(self, tool: str, args: Json, context: CallContext) -> Json:
        self.called.append((tool, args))
        return await self._functions[tool](args, context)


class FixedPrices:
    """One price for a token of any kind of every listed model, in nano-USD."""

    def __init__(self, per_token: Mapping[str, int]) -> None:
        self._per_token = per_token

    def charge(self, model: str, usage: Usage) -> Charge:
        return Charge(cost_nano_usd=self._price(model) * (usage.prompt_tokens + usage.output_tokens))

    def worst_cost(self, model: str, input_tokens_max: int, output_tokens_max: int) -> int:
        return self._price(model) * (input_tokens_max + output_tokens_max)

    def _price(self, model: str) -> int:
        if model not in self._per_token:
            raise RemitError("price.unknown", f"the price of {model!r} is not known")
        return self._per_token[model]


class RecordingTelemetry:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[TelemetryEvent] = []

    def emit(self, event: TelemetryEvent) -> None:
        self.events.append(event)


class NoTelemetry:
    """Shows nothing."""

    def emit(self, event: TelemetryEvent) -> None:
        """Nothing is shown."""
