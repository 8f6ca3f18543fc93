"""Identifiers sort by the time they were made, and an action's id is fixed by its place in the run.

That an action's id follows from its place is what makes a replay find the record of the first try.
"""

from __future__ import annotations

import hashlib

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, in lower case


def time_ordered(at_us: int, entropy: bytes) -> str:
    """26 characters: 48 bits of milliseconds, then 80 bits of entropy, as base 32.

    Source: the ULID specification, in lower case.
    """
    number = (((at_us // 1000) & (2**48 - 1)) << 80) | int.from_bytes(entropy[:10], "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def derived(source: str) -> str:
    """The identifier, always the same, of what a source outside has named; it does not sort by time."""
    number = int.from_bytes(hashlib.sha256(source.encode()).digest()[:16], "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def moment_us(ordered: str) -> int:
    """When an identifier of `time_ordered` was made, to the millisecond."""
    number = 0
    for character in ordered[:10]:
        number = (number << 5) | _ALPHABET.index(character)
    return number * 1000


def action_id(run_id: str, step: int, place: str) -> str:
    """The id of the action at `place` (`m1` model call try 1, `t0` first tool call, `answer`) of a step."""
    return f"{run_id}.{step}.{place}"


def step_of(action_id: str) -> int:
    """The step of its run at which the action stands."""
    return int(action_id.split(".")[1])


def inner_place(place: str, number: int, tool: str) -> str:
    """The place of the call that `tool`, called at `place`, makes as its first, second, ...: `t0-1@tool`."""
    return f"{place}-{number}@{tool}"


def above(action_id: str) -> str:
    """The id of the call within which the call `action_id` was made; empty where the run itself made it."""
    call, _, within = action_id.partition("@")
    return call.rpartition("-")[0] if within else ""


def child_run_id(action_id: str) -> str:
    """The id of the run that the call `action_id` starts: the same at every performance of it, beside its run's id."""
    number = int.from_bytes(hashlib.sha256(action_id.encode()).digest()[:10], "big")
    return action_id[:10] + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(75, -1, -5))


def trace_id(run_id: str) -> str:
    """The 128-bit trace id of a run, 32 hexadecimal digits."""
    return hashlib.sha256(run_id.encode()).hexdigest()[:32]


def span_id(name: str) -> str:
    """The 64-bit span id of the thing called `name` (an action's id, a run's id), 16 hexadecimal digits."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]
