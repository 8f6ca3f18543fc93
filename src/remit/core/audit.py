"""An audit record is the exact bytes that are stored (and later hashed).

A record never holds arguments, results or texts: it holds their digests.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, TypeAlias

from remit.core import canonical

AuditKind: TypeAlias = Literal[
    "run.created",
    "run.taken",  # a worker begins a run that another process created or left
    "run.ended",
    "count",  # a provider is asked how many tokens a permitted call has
    "intent",  # an effect was admitted and is about to happen
    "outcome",  # what became of it
    "refusal",
    "approval.requested",
    "approval.decided",
    "effect.resolved",  # a person has found whether an effect happened that nobody knew of
    "alert",
    "overrun",  # a call cost more than was held for it
    "control",  # something was paused or resumed
    "remit",  # a governance file came into force
    "erasure",  # somebody has what an agent remembers erased
]
AUDIT_KINDS: tuple[AuditKind, ...] = (
    "run.created",
    "run.taken",
    "run.ended",
    "count",
    "intent",
    "outcome",
    "refusal",
    "approval.requested",
    "approval.decided",
    "effect.resolved",
    "alert",
    "overrun",
    "control",
    "remit",
    "erasure",
)


Fields: TypeAlias = dict[str, str | int | bool | list[str]]


def record(kind: AuditKind, at_us: int, fields: Fields) -> bytes:
    """The bytes of one record: JSON with sorted keys, no floats. `at` and `kind` are added to `fields`."""
    fields["at"] = timestamp(at_us)
    fields["kind"] = kind
    # copied, because orjson's own result keeps the 4 KB that it was written into, and a record waits for its commit
    return bytes(memoryview(canonical.canonical_own(fields)))


def timestamp(at_us: int) -> str:
    """RFC 3339 in UTC with microseconds, such as `2026-11-22T15:04:05.000123Z`."""
    seconds, micros = divmod(at_us, 1_000_000)
    return f"{_second(seconds)}.{micros:06d}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    # the records of one second share it, and making it is most of a record's cost
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
