"""The two commits of an effect, for all the calls that share a transaction.

`admit_all` checks everything of an admission and takes everything, or takes nothing; each admission sees what
those before it have taken. `complete_all` finds the rows of the intents and deletes them, in one transaction:
whoever deletes a call's row is the only one who completes it. What a batch needs is read at once and
written at once, so that a statement serves many calls; with a batch of one it is the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import orjson

from remit.adapters.journal import money, runs, waiting
from remit.adapters.journal.sql import ANSWERED, Sql
from remit.adapters.journal.windows import Windows
from remit.core.errors import RemitError
from remit.core.messages import Usage
from remit.ports.journal import Admission, Admitted, Completion, Misfit, Recorded, Settled

Verdict: TypeAlias = Admitted | Recorded | Misfit | RemitError

Numbers: TypeAlias = Callable[[Sql, int], Iterable[int]]
"""Gives so many places in the log to the records of as many intents."""

# what a batch must know of the world: its runs, its actions that were begun before, and all that is paused
FACTS = """
SELECT 0, id, CASE WHEN status = 'running' AND worker <> ? THEN 'running elsewhere' ELSE status END FROM run WHERE id IN (SELECT value FROM json_each(?))
UNION ALL SELECT 1, id, seq FROM call WHERE id IN (SELECT value FROM json_each(?))
UNION ALL SELECT 2, scope, reason FROM control
"""
_RECORDED = """
SELECT call.digest, done.state, done.result, done.input_tokens, done.output_tokens,
       done.cache_read_tokens, done.cache_write_tokens, done.cost
FROM call LEFT JOIN done USING (seq) WHERE call.seq = ?
"""
APPROVAL = """
SELECT coalesce(edited_digest, action_digest), remit_digest, verdict, expires_at, used_at, run_id FROM approval WHERE id = ?
"""
_USE_APPROVAL = "UPDATE approval SET used_at = ? WHERE id = ?"
_LAST_RECORD = "SELECT coalesce(max(seq), 0) FROM audit"
_INTENT_RECORD = "INSERT INTO audit (seq, body) VALUES (?, ?)"
_CALL = "INSERT INTO call VALUES (?, ?, ?, ?, ?, ?, ?)"
_INFLIGHT = "INSERT INTO inflight (seq, held, scopes, presumed, expires_at) VALUES (?, ?, ?, 0, ?)"

INTENTS = """
SELECT call.id, seq, held, presumed, scopes FROM call JOIN inflight USING (seq)
WHERE call.id IN (SELECT value FROM json_each(?))
"""
_RESOLVE = """
UPDATE done SET state = ?, result = ?
WHERE seq = (SELECT seq FROM call WHERE id = ?) AND state = 'unknown'
"""
_ANSWERED = f"SELECT 1 FROM call WHERE id = ? AND {ANSWERED}"


@dataclass(slots=True)
class _Facts:
    """What was true when the transaction began."""

    status: dict[str, str]
    begun: dict[str, int]
    paused: dict[str, str]


def next_numbers(connection: Sql, count: int) -> Iterable[int]:
    """The numbers after the last record's: right where there is one writer at a time."""
    (last,) = connection.execute(_LAST_RECORD).fetchone()
    return range(last + 1, last + 1 + count)


def admit_all(
    connection: Sql,
    admissions: Sequence[Admission],
    now_us: int,
    worker: str,
    numbers: Numbers = next_numbers,
) -> list[Verdict]:
    """Record each intent and take what it needs, if everything of it holds; otherwise nothing of it.

    `worker`: who asks. A run that another has by now admits nothing of its.
    """
    if len({admission.action_id for admission in admissions}) < len(admissions):
        # the same action twice at once: the second must see what became of the first
        return [admit_all(connection, [admission], now_us, worker, numbers)[0] for admission in admissions]
    facts = _facts(connection, admissions, worker)
    ledger = money.Ledger(
        connection, {hold.scope for admission in admissions for hold in admission.holds}, now_us
    )
    windows = Windows(connection, now_us)
    verdicts: list[Verdict] = []
    taken: list[tuple[Admission, str]] = []
    for admission in admissions:
        verdict = _verdict(connection, admission, facts, (ledger, windows, now_us))
        verdicts.append(verdict)
        if isinstance(verdict, Admitted) and admission.action_id in facts.begun:
            connection.execute(runs.APPEND, (admission.intent,))  # what it takes is taken
        elif isinstance(verdict, Admitted):
            windows.take(admission.windows)
            taken.append((admission, ledger.take(admission)))
            if admission.approval_id is not None:
                connection.execute(_USE_APPROVAL, (now_us, admission.approval_id))
    if taken:
        _write(connection, taken, numbers(connection, len(taken)))
        ledger.write()
        windows.write()
    return verdicts


def _facts(connection: Sql, admissions: Sequence[Admission], worker: str) -> _Facts:
    run_ids = list({admission.run_id for admission in admissions})
    action_ids = [admission.action_id for admission in admissions]
    found: tuple[dict[str, str], dict[str, int], dict[str, str]] = ({}, {}, {})
    asked = (worker, orjson.dumps(run_ids).decode(), orjson.dumps(action_ids).decode())
    for kind, key, value in connection.execute(FACTS, asked):
        found[kind][key] = value
    return _Facts(*found)


def _verdict(
    connection: Sql,
    admission: Admission,
    facts: _Facts,
    taking: tuple[money.Ledger, Windows, int],
) -> Verdict:
    ledger, windows, now_us = taking
    status = facts.status.get(admission.run_id)
    known = facts.begun.get(admission.action_id)
    if known is not None:
        recorded = _known(connection, known, admission, status)
        if not isinstance(recorded, Admitted):
            return recorded
    if status != "running":
        return Misfit(kind="run", detail=f"the run is {status or 'unknown'}")
    if facts.paused:
        for scope in admission.control_scopes:
            if scope in facts.paused:
                return Misfit(kind="paused", detail=f"paused, {scope}: {facts.paused[scope]}")
    if known is not None:
        return Admitted()
    if admission.amount_nano_usd < 0:
        return RemitError("value.invalid", "an amount to hold is below zero")
    return (
        _approval_misfit(connection, admission, now_us)
        or windows.misfit(admission.windows)
        or ledger.misfit(admission)
        or Admitted()
    )


def _known(
    connection: Sql, seq: int, admission: Admission, status: str | None
) -> Recorded | Misfit | Admitted:
    """What is on record of an action that was begun; Admitted where it may be begun again."""
    digest, state, result, read, written, cache_read, cache_write, cost = connection.execute(
        _RECORDED, (seq,)
    ).fetchone()
    if digest.hex() != admission.action_digest:
        return Misfit(kind="conflict", detail="another action has this id")
    if state is None and status == "running" and admission.again:
        return Admitted()
    if state is None and status == "running":
        return Misfit(kind="in_flight", detail="this action was begun and has no outcome yet")
    if state is None:
        reason = "it was begun, and its run ended before its outcome was known"
        return Recorded(
            state="unknown", result=orjson.dumps({"reason": reason}), usage=Usage(), cost_nano_usd=0
        )
    usage = Usage(
        input_tokens=read, output_tokens=written, cache_read_tokens=cache_read, cache_write_tokens=cache_write
    )
    return Recorded(state=state, result=result, usage=usage, cost_nano_usd=cost)


def _approval_misfit(connection: Sql, admission: Admission, now_us: int) -> Misfit | None:
    if admission.approval_id is None:
        return None
    row = connection.execute(APPROVAL, (admission.approval_id,)).fetchone()
    if row is None:
        return Misfit(kind="approval", detail="there is no such approval")
    digest, remit_digest, verdict, expires_at, used_at, run_id = row
    if digest != admission.action_digest or run_id != admission.run_id:
        return Misfit(kind="approval", detail="the approval is for another action")
    if remit_digest != admission.remit_digest:
        return Misfit(kind="approval", detail="the approval was given under another remit")
    if verdict != "approved":
        return Misfit(kind="approval", detail=f"the approval is {verdict}")
    if used_at is not None:
        return Misfit(kind="approval", detail="the approval has been used")
    if expires_at <= now_us:
        return Misfit(kind="approval", detail="the approval has expired")
    return None


def _write(connection: Sql, taken: list[tuple[Admission, str]], numbers: Iterable[int]) -> None:
    audit, calls, inflight = [], [], []
    for seq, (admission, scopes) in zip(numbers, taken, strict=True):
        audit.append((seq, admission.intent))
        calls.append(
            (
                seq,
                admission.action_id,
                admission.kind,
                admission.resource,
                bytes.fromhex(admission.action_digest),
                admission.at_us,
                bytes.fromhex(admission.content),
            )
        )
        inflight.append((seq, admission.amount_nano_usd, scopes, admission.expires_at_us))
    connection.executemany(_INTENT_RECORD, audit)
    connection.executemany(_CALL, calls)
    connection.executemany(_INFLIGHT, inflight)


def complete_all(
    connection: Sql, completions: Sequence[Completion], worker: str | None = None
) -> list[Settled | RemitError]:
    """Record each outcome, settle the money, notice what thresholds were crossed.

    The result of a call that was not begun, or has its outcome already, is RemitError `action.conflict`. A run that
    another than `worker` has by now is not ended.
    """
    asked = orjson.dumps([completion.action_id for completion in completions]).decode()
    intents = {row[0]: row[1:] for row in connection.execute(INTENTS, (asked,))}
    scopes = {scope for intent in intents.values() for scope in money.scopes_of(intent[3])}
    ledger = money.Ledger(connection, scopes, 0)
    results: list[Settled | RemitError] = []
    done, closed = [], []
    records: list[tuple[bytes]] = []
    for completion in completions:
        # taken out, so that a second completion of the same call in this batch finds nothing
        intent = intents.pop(completion.action_id, None)
        if intent is None:
            message = "the call was never begun, or has its outcome already"
            results.append(RemitError("action.conflict", message))
            continue
        seq, held, presumed, scopes_json = intent
        open_ = money.Open(seq, held, presumed, scopes_json)
        cost, alerts = ledger.settle(open_, completion, records)
        usage = completion.usage
        done.append(
            (
                seq,
                completion.state,
                completion.at_us,
                usage.input_tokens,
                usage.output_tokens,
                usage.cache_read_tokens,
                usage.cache_write_tokens,
                cost,
                completion.exposes,
                completion.result,
                completion.saved_nano_usd,
                cost if completion.presumed else 0,
                completion.assumed,
            )
        )
        closed.append((seq,))
        records.append((completion.outcome,))
        results.append(Settled(alerts=alerts))
    connection.executemany(runs.NO_LONGER, closed)
    connection.executemany(runs.DONE, done)
    connection.executemany(runs.APPEND, records)
    ledger.write()
    return [
        _ended(connection, completion, result, worker)
        for completion, result in zip(completions, results, strict=True)
    ]


def resolve(connection: Sql, completion: Completion) -> bool:
    """Give a call that nobody knows the outcome of the one that a person has found; False where there is none such."""
    run_id = completion.action_id.partition(".")[0]
    if connection.execute(_ANSWERED, (completion.action_id,)).fetchone() is not None:
        return False  # a run answers it, or the calls within it
    found = connection.execute(_RESOLVE, (completion.state, completion.result, completion.action_id)).rowcount
    if found:
        connection.execute(runs.APPEND, (completion.outcome,))
    else:
        status = connection.execute(runs.ENDING, (run_id,)).fetchone()
        if status is None or status[0] == "running":
            return False  # it may be under way
        if isinstance(complete_all(connection, [completion])[0], RemitError):
            return False
    waiting.set_ready(connection, run_id, completion.at_us)
    return True


def _ended(
    connection: Sql, completion: Completion, result: Settled | RemitError, worker: str | None
) -> Settled | RemitError:
    """The result, after the run was ended that ends with this completion."""
    if completion.ending is None or isinstance(result, RemitError):
        return result
    run_id = completion.action_id.partition(".")[0]
    ended = runs.end(connection, run_id, completion.ending, completion.at_us, worker)
    return Settled(alerts=result.alerts, run_ended=ended)
