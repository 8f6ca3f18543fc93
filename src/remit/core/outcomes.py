"""What became of an action: done, refused, suspended, failed or unknown. Never an exception."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from remit.core.canonical import Json
from remit.core.decisions import Decision
from remit.core.labels import ResultLabel
from remit.core.messages import ModelReply, Usage

OutcomeState: TypeAlias = Literal["done", "failed", "unknown", "cancelled"]
"""The states a started call can end in. `cancelled`: recorded, and then certainly not performed."""


class Done(NamedTuple):
    """It happened. `value` is a `ModelReply` for a model call, JSON for a tool, text for a release.

    `output_tokens_max`: how long a model's reply was allowed to be, where that is known. `note`: what the model is to
    know beside the value.
    """

    value: ModelReply | Json
    usage: Usage | None = None
    cost_nano_usd: int = 0
    label: ResultLabel | None = None
    truncated: bool = False
    replayed: bool = False
    output_tokens_max: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """It did not happen, because a rule said no."""

    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """It has not happened, or is not over: `decision.code` says what it waits for.

    `approval_id`: what a person has to decide first, empty where nobody has to decide anything.
    """

    decision: Decision
    approval_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """It was tried and went wrong, or had no usable result. `happened`: the effect took place all the same.

    `retry_after_s`: the provider asks to wait so long. `output`: the end of what the tool printed, which may hold
    anything: for who operates it, never for the model, and kept on no record.
    """

    code: str
    message: str
    retryable: bool = False
    happened: bool = False
    cost_nano_usd: int = 0
    retry_after_s: float | None = None
    replayed: bool = False
    output: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Nobody can know whether it happened. It is never repeated by itself; a person decides.

    `cost_nano_usd` is what it may have cost, which counts as spent.
    """

    action_id: str
    reason: str
    cost_nano_usd: int = 0


Outcome: TypeAlias = Done | Refused | Suspended | Failed | Unknown
