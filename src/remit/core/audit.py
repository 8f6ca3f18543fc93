"""An audit record is the exact bytes that are stored (and later hashed).

A record never holds arguments, results or texts: it holds their digests.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, TypeAlias

import orjson

AuditKind: TypeAlias = Literal[
    "run.created",
    "run.ended",
    "intent",  # an effect was admitted and is about to happen
    "outcome",  # what became of it
    "refusal",
    "approval.requested",
    "approval.decided",
    "alert",
    "control",  # something was paused or resumed
    "remit",  # a governance file came into force
]
AUDIT_KINDS: tuple[AuditKind, ...] = (
    "run.created",
    "run.ended",
    "intent",
    "outcome",
    "refusal",
    "approval.requested",
    "approval.decided",
    "alert",
    "control",
    "remit",
)


def record(kind: AuditKind, at_us: int, fields: dict[str, str | int | bool | list[str]]) -> bytes:
    """The bytes of one record: JSON with sorted keys, empty fields left out, no floats.

    `fields` never carry `at` or `kind`.
    """
    body: dict[str, object] = {key: value for key, value in fields.items() if value != "" and value != []}
    body["at"] = timestamp(at_us)
    body["kind"] = kind
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def timestamp(at_us: int) -> str:
    """RFC 3339 in UTC with microseconds, such as `2026-11-22T15:04:05.000123Z`."""
    seconds, micros = divmod(at_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{micros:06d}Z"
