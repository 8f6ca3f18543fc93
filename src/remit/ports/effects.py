"""The ports through which effects happen. The gate alone is built with them.

An adapter raises `EffectFailed` where it knows that the effect did not happen (or, for a model, that
there is no answer). Any other exception means: nobody knows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol, TypeAlias

from remit.core.canonical import Json
from remit.core.decisions import Constraints
from remit.core.memory import Seen
from remit.core.messages import ModelReply, ModelRequest, Usage
from remit.core.outcomes import Done, Failed, Outcome, Refused
from remit.core.runs import Ceiling, Run
from remit.core.tools import ToolSpec
from remit.ports.services import TextSink


class EffectFailed(Exception):
    """The effect certainly did not take place, or has no answer.

    `code` is an error code; `message` may be shown to the model and to people, so it holds no secret;
    `retryable`: the same call may succeed later, `retry_after_s` at the earliest; `usage`: what a failed model
    call was billed all the same (None where a model call may have been billed an unknown amount); `output`: what the
    tool printed, for its operator and nobody else: it may hold anything.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        retry_after_s: float | None = None,
        usage: Usage | None = Usage(),
        output: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.usage = usage
        self.output = output


class EffectPending(Exception):
    """The effect was begun and is not over: the same call, made again, finds what became of it.

    The message says what it waits for, and may be shown. `outcome`: that of a call within it, which is not over.
    """

    def __init__(self, message: str, outcome: Outcome | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome


class Caller(NamedTuple):
    """Whose call an agent answers: the run, the call, and what all the runs above may spend, nearest first."""

    run: Run
    action_id: str
    ceilings: tuple[Ceiling, ...]


InnerCall: TypeAlias = Callable[[str, Json], Awaitable[Done | Refused | Failed]]
"""What becomes of a call, by name and arguments, that a tool makes. Raises: EffectPending, to be let through."""


def _untold(_text: str) -> None:
    """There is nobody to be told."""


class CallContext(NamedTuple):
    """What a tool is told beside its arguments. `idempotency_key` is the same at every try of one call.

    `seen`: the labels of what the run has been shown, where it may remember anything. `run_began_us`: when it began.
    `caller`: for a tool behind which an agent stands, and for no other. `begun_before`: this call was begun, and nobody
    knows what became of it: a reconcilable tool looks by the key whether it did it, before it does it. `inner` makes a
    call of another tool within this one; `on_progress` is told how far it is.
    """

    run_id: str
    tenant: str
    agent: str
    idempotency_key: str
    constraints: Constraints
    seen: Seen | None = None
    run_began_us: int = 0
    caller: Caller | None = None
    begun_before: bool = False
    inner: InnerCall | None = None
    on_progress: TextSink = _untold


class Model(Protocol):
    """A model provider."""

    async def complete(self, request: ModelRequest, on_text: TextSink | None = None) -> ModelReply:
        """The reply to `request`, its text told to `on_text` as it comes where that is given.

        Raises: EffectFailed. Makes one attempt, never a retry of its own.
        """
        ...


class ToolHost(Protocol):
    """Where tools live and run."""

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The declarations of all the tools there are, by name."""
        ...

    async def call(self, tool: str, args: Json, context: CallContext) -> Json:
        """What `tool` returns for `args`, which fit its schema. Raises: EffectFailed, EffectPending."""
        ...
