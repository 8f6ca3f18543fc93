"""An action is one effect an agent wants, canonicalised once.

Decision, approval, record and execution share the action's digest; what is executed is parsed from
the very bytes that were digested.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import orjson

from remit.core import canonical, ids
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.messages import Message, ModelRequest, ToolOffer, message_to_json

ARGS_BYTES_MAX = 1024 * 1024
SESSION = "session"
"""The resource of what is read from a session and kept in it; which session it is stands in the arguments."""

ActionKind: TypeAlias = Literal["model", "tool", "release", "memory_read", "memory_write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks. `roles` and `tenant` come from authentication, never from a model."""

    kind: Literal["user", "service", "agent"]
    id: str
    tenant: str = "default"
    roles: tuple[str, ...] = ()
    on_behalf_of: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"

    @property
    def strangers(self) -> tuple[str, ...]:
        """Through whom strangers have a say in what this principal asks for: a webhook's own id."""
        return (self.id,) if self.kind == "service" and self.id.startswith("webhook:") else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSource:
    """The task as the authenticated principal gave it, and its digest."""

    principal: Principal
    text: str
    digest: str


class Place(NamedTuple):
    """Where in a run an action stands, and for whom: with the arguments, all that its digest covers."""

    run_id: str
    step: int
    name: str
    principal: Principal

    @property
    def action_id(self) -> str:
        """The id that every try of the action at this place has."""
        return ids.action_id(self.run_id, self.step, self.name)

    def inner(self, number: int, tool: str) -> Place:
        """The place of a call that `tool` makes within its own call at this place: its first, second, ..."""
        return self._replace(name=ids.inner_place(self.name, number, tool))

    @property
    def within(self) -> str:
        """The tool that makes the call at this place; empty where the run itself does."""
        return self.name.partition("@")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One effect at one place of one run. Build it with `model_call`, `tool_call` or `release`.

    `args` are canonical JSON bytes; `fault` says why the arguments could not be made canonical, and makes the
    gate refuse. The rest follows from these, and nobody can give it otherwise: `id` from the place, `content`
    (the SHA-256 of the arguments), and `digest`, the SHA-256 of RFC 8785 JSON over everything but the fault.
    """

    kind: ClassVar[ActionKind]
    place: Place
    resource: str
    args: bytes
    fault: str | None = None
    id: str = field(init=False)
    content: str = field(init=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        place = self.place
        action_id = place.action_id
        content = canonical.digest(self.args)
        covered = {
            "args": content,
            "id": action_id,
            "kind": self.kind,
            "principal": str(place.principal),
            "resource": self.resource,
            "tenant": place.principal.tenant,
        }
        derive = object.__setattr__
        derive(self, "id", action_id)
        derive(self, "content", content)
        derive(self, "digest", canonical.digest(canonical.canonical_own(covered)))

    def args_value(self) -> Json:
        """A fresh copy of the arguments, parsed from the bytes that were digested."""
        return orjson.loads(self.args)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall(Action):
    """Ask a model. `args` hold one digest over those of the messages, so each message is hashed once in its life.

    They do not hold `max_output_tokens`, which the gate may lower to fit the money that is left.
    """

    kind: ClassVar[ActionKind] = "model"
    request: ModelRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall(Action):
    """Call a tool. `call_id` is the model's own name of the call."""

    kind: ClassVar[ActionKind] = "tool"
    call_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Action):
    """Hand the final answer out."""

    kind: ClassVar[ActionKind] = "release"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRead(Action):
    """Read the conversation of the runs before this one. `resource` is always `session`."""

    kind: ClassVar[ActionKind] = "memory_read"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryWrite(Action):
    """Keep a turn of the conversation, or what it comes to in short. `resource` is always `session`."""

    kind: ClassVar[ActionKind] = "memory_write"


def model_call(
    place: Place, request: ModelRequest, message_digests: tuple[str, ...], offered: str | None = None
) -> ModelCall:
    """The action of asking `request.model`.

    `message_digests` are those of the request's messages, `offered` that of its tools, where they are known.
    """
    answer_schema = None if request.answer_schema is None else dict(request.answer_schema)
    args = canonical.canonical(
        {
            "messages": canonical.digest("".join(message_digests).encode()),
            "system": canonical.digest(request.system.encode()),
            "answer_schema": canonical.digest(orjson.dumps(answer_schema, option=orjson.OPT_SORT_KEYS)),
            "tools": offers_digest(request.tools) if offered is None else offered,
        }
    )
    return ModelCall(place=place, resource=request.model, args=args, request=request)


def tool_call(place: Place, tool: str, call_id: str, raw_args: Json) -> ToolCall:
    """The action of calling `tool` with what the model sent; never raises: a fault is refused later."""
    # a name is compared with names of ours, so a lone surrogate in it may become any other stranger
    tool = tool.encode(errors="replace").decode()
    fault = None
    try:
        args = canonical.canonical(raw_args)
    except RemitError as error:
        args, fault = b"{}", error.message
    if len(args) > ARGS_BYTES_MAX:
        args, fault = b"{}", f"the arguments are larger than {ARGS_BYTES_MAX} bytes"
    return ToolCall(place=place, resource=tool, args=args, fault=fault, call_id=call_id)


def release(place: Place, answer: str) -> Release:
    """The action of giving `answer` to the principal."""
    return Release(place=place, resource="answer", args=canonical.canonical({"answer": answer}))


def memory_read(place: Place, session: str) -> MemoryRead:
    """The action of reading what is kept of `session`."""
    return MemoryRead(place=place, resource=SESSION, args=canonical.canonical({"session": session}))


def turn_write(place: Place, session: str, task: str, answer: str) -> MemoryWrite:
    """The action of keeping a task and the answer to it as the newest turn of `session`."""
    args = canonical.canonical({"session": session, "task": task, "answer": answer})
    return MemoryWrite(place=place, resource=SESSION, args=args)


def summary_write(place: Place, session: str, summary: str, covers: int) -> MemoryWrite:
    """The action of keeping `summary` in the place of what `session` has up to the number `covers`."""
    args = canonical.canonical({"session": session, "summary": summary, "covers": covers})
    return MemoryWrite(place=place, resource=SESSION, args=args)


def offers_digest(offers: tuple[ToolOffer, ...]) -> str:
    """The SHA-256 of what a model is told of its tools."""
    told = [(offer.name, offer.description, dict(offer.args_schema)) for offer in offers]
    return canonical.digest(orjson.dumps(told, option=orjson.OPT_SORT_KEYS))


def message_digest(message: Message) -> str:
    """The SHA-256 of a message's JSON with sorted keys."""
    return canonical.digest(orjson.dumps(message_to_json(message), option=orjson.OPT_SORT_KEYS))
