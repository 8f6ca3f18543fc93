"""What is to be told to the outside, kept until somebody has taken it: at least once, under one id.

A message is written by the very commit that it tells of, so there is exactly one of it however many processes
there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from remit.core import audit, canonical

MessageState: TypeAlias = Literal["waiting", "delivered", "dead"]

BUDGET_ALERTS = "budget.threshold_crossed"
"""The topic of alerts: spending crossed a threshold of its cap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessage:
    """One message. `body` is JSON, `due_at_us` when it may be tried next, `error` why the last try failed.

    `ended_at_us` is when it was delivered or given up (dead); `attempts` counts the tries that were begun.
    """

    id: str
    topic: str
    body: bytes
    created_at_us: int
    due_at_us: int
    state: MessageState = "waiting"
    attempts: int = 0
    ended_at_us: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of one try. `attempt` is the number that the claim gave it; `due_at_us` is the next try's time."""

    id: str
    attempt: int
    state: MessageState
    at_us: int
    due_at_us: int
    error: str = ""


def message_of(topic: str, at_us: int, data: dict[str, str | int]) -> OutboxMessage:
    """The message that at `at_us` something of `topic` happened; `data` says what, under ASCII keys."""
    body = canonical.canonical_own({"type": topic, "timestamp": audit.timestamp(at_us), "data": data})
    return OutboxMessage(
        # the digest of what it says, so that the id needs no chance and stays the same at every try
        id=f"msg_{canonical.digest(body)[:32]}",
        topic=topic,
        body=body,
        created_at_us=at_us,
        due_at_us=at_us,
    )
