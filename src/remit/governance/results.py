"""What an effect returned or raised, as the outcome that is shown and the completion that is recorded.

The bytes that are recorded are enough to show the same outcome again, without doing it again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from remit.core import canonical
from remit.core.actions import Action, ModelCall, ToolCall
from remit.core.canonical import Json
from remit.core.decisions import Constraints, Decision
from remit.core.errors import RemitError
from remit.core.labels import ResultLabel
from remit.core.messages import ModelReply, Text, Usage, reply_from_json, reply_to_json
from remit.core.outcomes import Done, Failed, Outcome, OutcomeState, Suspended, Unknown
from remit.core.tools import ToolSpec
from remit.governance import data
from remit.governance.memories import SessionRead
from remit.ports.effects import EffectFailed
from remit.ports.journal import Recorded
from remit.ports.services import Charge, Prices

NO_USAGE = Usage()


class Attempted(NamedTuple):
    """An effect that was tried: what is shown, and what is recorded of it."""

    state: OutcomeState
    outcome: Outcome
    result: bytes
    usage: Usage = NO_USAGE
    cost_nano_usd: int = 0
    presumed: bool = False
    exposes: bool = False
    saved_nano_usd: int = 0
    assumed: bool = False


def model_done(action: ModelCall, reply: ModelReply, prices: Prices) -> Attempted:
    """A model answered. What it used is spent even where its answer is of no use.

    Raises: RemitError `value.invalid` where its usage is below zero: nobody can know its cost.
    """
    charge = _charge(action, reply.usage, prices)
    try:
        result = canonical.canonical(reply_to_json(reply))
    except RemitError as error:
        shown = Failed(
            code="model.failed", message=f"the reply is not plain JSON: {error.message}", retryable=True
        )
        return _charged(_failure(shown, usage=reply.usage, cost_nano_usd=charge.cost_nano_usd), charge)
    if any(not isinstance(part, Text) for part in reply.parts):
        reply = reply_from_json(orjson.loads(result))  # what is shown is what a run that goes on is shown
    return Attempted(
        state="done",
        outcome=Done(
            value=reply,
            usage=reply.usage,
            cost_nano_usd=charge.cost_nano_usd,
            output_tokens_max=action.request.max_output_tokens,
        ),
        result=result,
        usage=reply.usage,
        cost_nano_usd=charge.cost_nano_usd,
        saved_nano_usd=charge.saved_nano_usd,
        assumed=charge.assumed,
    )


def tool_done(action: ToolCall, value: Json, tool: ToolSpec, constraints: Constraints) -> Attempted:
    """A tool returned. A result that is no JSON is withheld; that the effect took place is still said."""
    cost = tool.price_nano_usd
    try:
        result = data.clean(value, tool, constraints)
        shown = canonical.canonical(result.value)
    except RemitError as error:
        message = f"{tool.name} ran, but its result cannot be used: {error.message}"
        code = error.code if error.code == "data.denied" else "tool.result_invalid"
        return _failure(
            Failed(code=code, message=message, happened=True),
            cost_nano_usd=cost,
        )
    label = ResultLabel(
        call_id=action.call_id,
        tool=tool.name,
        trust=tool.result_trust,
        classes=result.classes,
        digest=canonical.digest(shown),
    )
    return Attempted(
        state="done",
        # parsed from what is recorded, so that a run that goes on is shown the same to the byte
        outcome=Done(value=orjson.loads(shown), cost_nano_usd=cost, label=label, truncated=result.truncated),
        result=_tool_result(shown, label, truncated=result.truncated),
        cost_nano_usd=cost,
        exposes=tool.result_trust == "untrusted",
    )


def session_done(read: SessionRead) -> Attempted:
    """A session was read. What is recorded says which entries it were, and holds none of their texts."""
    return Attempted(
        state="done",
        outcome=Done(value=read.shown, label=read.label),
        result=read.result,
        exposes=read.label.trust == "untrusted",
    )


def kept() -> Attempted:
    """Something was kept."""
    return Attempted(state="done", outcome=Done(value=None), result=b"null")


def release_done(answer: str) -> Attempted:
    """The answer was handed out."""
    return Attempted(state="done", outcome=Done(value=answer), result=orjson.dumps(answer))


def effect_failed(error: EffectFailed, action: Action, tool: ToolSpec | None, prices: Prices) -> Attempted:
    """The port knows that the effect did not take place, or has no answer. Raises: as `model_done`."""
    shown = Failed(
        code=error.code,
        message=_plain(error.message),
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
        output=error.output,
    )
    if not isinstance(action, ModelCall):
        # the message is the tool's own words, which the model sees like any result
        exposes = tool is not None and tool.result_trust == "untrusted"
        return _failure(shown)._replace(exposes=exposes)
    if error.usage is None:
        return _failure(shown, presumed=True)
    if error.usage == NO_USAGE:
        return _failure(shown)
    charge = _charge(action, error.usage, prices)
    return _charged(_failure(shown, usage=error.usage, cost_nano_usd=charge.cost_nano_usd), charge)


def interrupted(
    action: Action,
    tool: ToolSpec | None,
    code: str = "effect.cancelled",
    message: str = "it was cancelled under way",
) -> Attempted:
    """The effect was cut off, or broke in a way that leaves open whether it took place."""
    if isinstance(action, ModelCall):
        return _failure(Failed(code=code, message=message, retryable=True), presumed=True)
    # a key makes a repetition safe, but the model's next try is another call with another key; what an agent has
    # done is on its own run's record
    if tool is None or tool.effect != "write" or tool.agent is not None:
        # it may have been billed, though it may be repeated
        presumed = tool is not None and tool.price_nano_usd > 0
        return _failure(Failed(code=code, message=message, retryable=True), presumed=presumed)
    unknown = Unknown(action_id=action.id, reason=message)
    return Attempted(
        state="unknown",
        outcome=unknown,
        result=orjson.dumps({"reason": message}),
        cost_nano_usd=tool.price_nano_usd,
        presumed=tool.price_nano_usd > 0,
    )


def broken(action: Action, tool: ToolSpec | None, message: str) -> Attempted:
    """The effect broke in a way that leaves open whether it took place."""
    return interrupted(
        action, tool, "model.failed" if isinstance(action, ModelCall) else "tool.failed", message
    )


def pending(decision: Decision, what: str) -> Suspended:
    """The effect was begun and is not over: its intent stays open, and the same call finds what became of it."""
    return Suspended(decision=replace(decision, code="run.waits", reason=what))


def shown(attempted: Attempted, held_nano_usd: int) -> Outcome:
    """The outcome with what it cost, or is presumed to have cost."""
    if attempted.presumed and isinstance(attempted.outcome, Failed | Unknown):
        return replace(attempted.outcome, cost_nano_usd=held_nano_usd)
    return attempted.outcome


def replayed(action: Action, recorded: Recorded) -> Outcome:
    """The outcome as it was recorded before. Raises: RemitError `value.invalid`."""
    value: Any = orjson.loads(recorded.result) if recorded.result else None
    if recorded.state == "unknown":
        return Unknown(action_id=action.id, reason=value["reason"], cost_nano_usd=recorded.cost_nano_usd)
    if recorded.state == "cancelled":
        message = "it was cancelled before it was begun"
        return Failed(code="effect.cancelled", message=message, retryable=True, replayed=True)
    if recorded.state == "failed":
        return Failed(
            code=value["code"],
            message=value["message"],
            retryable=value["retryable"],
            happened=value["happened"],
            cost_nano_usd=recorded.cost_nano_usd,
            replayed=True,
        )
    return _replayed_done(action, recorded, value)


def _replayed_done(action: Action, recorded: Recorded, value: Any) -> Done:
    cost = recorded.cost_nano_usd
    if isinstance(action, ModelCall):
        reply = reply_from_json(value)
        return Done(value=reply, usage=reply.usage, cost_nano_usd=cost, replayed=True)
    if not isinstance(action, ToolCall):
        return Done(value=value, replayed=True)
    label = ResultLabel(
        call_id=action.call_id,
        tool=action.resource,
        trust=value["trust"],
        classes=tuple(value["classes"]),
        digest=value["digest"],
    )
    return Done(
        value=value["value"], cost_nano_usd=cost, label=label, truncated=value["truncated"], replayed=True
    )


def _tool_result(shown: bytes, label: ResultLabel, *, truncated: bool) -> bytes:
    return orjson.dumps(
        {
            "classes": label.classes,
            "digest": label.digest,
            "trust": label.trust,
            "truncated": truncated,
            "value": orjson.Fragment(shown),
        }
    )


def _failure(
    shown: Failed, *, usage: Usage = NO_USAGE, cost_nano_usd: int = 0, presumed: bool = False
) -> Attempted:
    shown = replace(shown, cost_nano_usd=cost_nano_usd)
    result = {
        "code": shown.code,
        "message": shown.message,
        "retryable": shown.retryable,
        "happened": shown.happened,
    }
    return Attempted(
        state="failed",
        outcome=shown,
        result=orjson.dumps(result),
        usage=usage,
        cost_nano_usd=cost_nano_usd,
        presumed=presumed,
    )


def _charge(action: ModelCall, used: Usage, prices: Prices) -> Charge:
    """What a call cost by its usage. Raises: RemitError `value.invalid`, as `model_done` says, `price.unknown`."""
    written = (used.cache_write_1h_tokens, used.cache_write_tokens - used.cache_write_1h_tokens)
    if min(used.input_tokens, used.output_tokens, used.cache_read_tokens, *written) < 0:
        raise RemitError("value.invalid", "the usage of the call is below zero")
    return prices.charge(action.request.model, used)


def _charged(attempted: Attempted, charge: Charge) -> Attempted:
    return attempted._replace(saved_nano_usd=charge.saved_nano_usd, assumed=charge.assumed)


def _plain(message: str) -> str:
    """A foreign message, made safe to store and to show: no lone surrogates, not endless."""
    return message[:2000].encode(errors="replace").decode()
