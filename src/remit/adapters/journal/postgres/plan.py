"""What a batch asks of the database, added up: one row for each scope and window, whatever shares them.

A plan is for what fits. Where something of a batch can only be decided one by one (an approval is used, one action
comes twice), there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from remit.adapters.journal import money, windows
from remit.core.runs import TRANSITIONS
from remit.ports.journal import Admission, Completion, Window
from remit.ports.runs import RunEnding


class Plan(NamedTuple):
    """The values of `commit_batch`: JSON, and beside it the bytes that are stored as they are."""

    text: bytes
    outcomes: list[bytes]
    results: list[bytes]
    endings: list[bytes]
    intents: list[bytes]


def plan_of(completions: Sequence[Completion], admissions: Sequence[Admission], worker: str) -> Plan | None:
    """The plan of a batch of `worker` in which everything is as usual; None where it has to be decided one by one."""
    endings = [(place, one, one.ending) for place, one in enumerate(completions, 1) if one.ending is not None]
    if (
        len({one.action_id for one in completions}) < len(completions)
        or len({_run_of(one) for _, one, _ in endings}) < len(endings)
        or len({one.action_id for one in admissions}) < len(admissions)
        or any(one.again or one.approval_id is not None or one.amount_nano_usd < 0 for one in admissions)
    ):
        return None
    counted = _windows(admissions)
    balances = _balances(admissions)
    if counted is None or balances is None:
        return None
    text = orjson.dumps(
        {
            "worker": worker,
            "completions": [_completion(place, one) for place, one in enumerate(completions, 1)],
            "endings": [_ending(number, one, ending) for number, (_, one, ending) in enumerate(endings, 1)],
            "admissions": [_admission(place, one) for place, one in enumerate(admissions, 1)],
            "balances": balances,
            "windows": counted,
            "runs": list({one.run_id for one in admissions}),
            "controls": list({scope for one in admissions for scope in one.control_scopes}),
        }
    )
    if b"\\u0000" in text:
        return None  # no text of PostgreSQL's; one by one it is stored otherwise
    return Plan(
        text,
        [one.outcome for one in completions],
        [one.result for one in completions],
        [ending.audit for _, _, ending in endings],
        [one.intent for one in admissions],
    )


def _run_of(completion: Completion) -> str:
    return completion.action_id.partition(".")[0]


def _completion(place: int, one: Completion) -> dict[str, Any]:
    usage = one.usage
    return {
        "place": place,
        "id": one.action_id,
        "state": one.state,
        "at": one.at_us,
        "read": usage.input_tokens,
        "written": usage.output_tokens,
        "cache_read": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens,
        "cost": one.cost_nano_usd,
        "presumed": one.presumed,
        "exposes": one.exposes,
        "saved": one.saved_nano_usd,
        "assumed": one.assumed,
    }


def _ending(place: int, completion: Completion, ending: RunEnding) -> dict[str, Any]:
    end = ending.end
    return {
        "place": place,
        "id": _run_of(completion),
        "status": end.status,
        "before": [status for status, after in TRANSITIONS.items() if end.status in after],
        "ended_at": None if end.status == "suspended" else completion.at_us,
        "answer": end.answer,
        "code": end.code,
        "message": end.message,
    }


def _admission(place: int, one: Admission) -> dict[str, Any]:
    return {
        "place": place,
        "id": one.action_id,
        "kind": one.kind,
        "resource": one.resource,
        "digest": one.action_digest,
        "at": one.at_us,
        "content": one.content,
        "held": one.amount_nano_usd,
        "scopes": money.listed(one.holds),
        "expires_at": one.expires_at_us,
    }


def _balances(admissions: Sequence[Admission]) -> list[dict[str, Any]] | None:
    """For each scope what is held in all, and what `spent + held` may be afterwards: room for each in its turn."""
    held: dict[str, int] = {}
    room: dict[str, int] = {}
    for one in admissions:
        if len({hold.scope for hold in one.holds}) < len(one.holds):
            return None
        for hold in one.holds:
            held[hold.scope] = held.get(hold.scope, 0) + one.amount_nano_usd
            left = hold.cap_nano_usd - held[hold.scope]
            room[hold.scope] = min(left, room.get(hold.scope, left))
    return [{"scope": scope, "held": total, "room": room[scope] + total} for scope, total in held.items()]


def _windows(admissions: Sequence[Admission]) -> list[dict[str, Any]] | None:
    """For each window what is added, and how many may be in it before: none of its events may be one too many."""
    shape: dict[str, Window] = {}
    added: dict[str, int] = {}
    spare: dict[str, int] = {}
    for one in admissions:
        if len({window.key for window in one.windows}) < len(one.windows):
            return None
        for window in one.windows:
            if (window.limit, window.span_s) != (
                shape.setdefault(window.key, window).limit,
                shape[window.key].span_s,
            ):
                return None
            before = added.get(window.key, 0)
            left = window.limit - 1 - before
            spare[window.key] = min(left, spare.get(window.key, left))
            added[window.key] = before + 1
    found = []
    for key, window in shape.items():
        width, span = windows.width_us(window), window.span_s * 1_000_000
        found.append(
            {
                "key": key,
                "added": added[key],
                "spare": spare[key],
                "width": width,
                "span": span,
                "reach": span + width - 1,
            }
        )
    return found
