"""The `Journal` port in memory: what the port promises, in plain Python, for tests without a disk.

A `MemoryStore` outlives the journals that are opened on it, as a file outlives processes. Windows are
exact at every limit. It passes the same conformance suite as the real journals.
"""

from __future__ import annotations

import asyncio
import json
from asyncio import Future
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from remit.adapters.journal.writer import CommitFuture
from remit.core import audit as records
from remit.core.errors import RemitError
from remit.core.messages import Usage
from remit.core.outbox import Delivery, OutboxMessage
from remit.ports.journal import Admission, Admitted, Alert, Balance, Completion, Misfit, Recorded, Settled
from remit.ports.services import Clock
from remit.testing.memory_runs import MemoryRuns
from remit.testing.memory_store import MemoryStore, StoredCall


class MemoryJournal(MemoryRuns):
    """The `Journal` port on a `MemoryStore`. Belongs to the event loop it is used in."""

    def __init__(self, clock: Clock, store: MemoryStore | None = None, worker: str = "") -> None:
        super().__init__(store if store is not None else MemoryStore())
        self._clock = clock
        self._worker = worker
        self._accepted = 0
        self._closed = False

    # the two commits of an effect

    def admit(self, admission: Admission) -> Future[Admitted | Recorded | Misfit]:
        return self._submit(lambda: self._admit(admission))

    def _admit(self, admission: Admission) -> Admitted | Recorded | Misfit:
        store, now_us = self.store, self._clock.now_us()
        run = store.runs.get(admission.run_id)
        status: str | None = None if run is None else run.status
        if run is not None and status == "running" and run.worker != self._worker:
            status = "running elsewhere"
        known = store.calls.get(admission.action_id)
        if known is not None:
            recorded = _known(known, admission, status)
            if not isinstance(recorded, Admitted):
                return recorded
        if status != "running":
            return Misfit(kind="run", detail=f"the run is {status or 'unknown'}")
        for scope in admission.control_scopes:
            if scope in store.controls:
                return Misfit(kind="paused", detail=f"paused, {scope}: {store.controls[scope].reason}")
        if known is not None:
            store.audit.append(admission.intent)
            return Admitted()
        if admission.amount_nano_usd < 0:
            raise RemitError("value.invalid", "an amount to hold is below zero")
        misfit = self._approval_misfit(admission, now_us) or self._room_misfit(admission, now_us)
        if misfit is not None:
            return misfit
        store.audit.append(admission.intent)
        store.calls[admission.action_id] = StoredCall(
            seq=len(store.audit), admission=admission, held=admission.amount_nano_usd
        )
        for hold in admission.holds:
            self._move(hold.scope, held=admission.amount_nano_usd)
        for window in admission.windows:
            store.events.setdefault(window.key, []).append(now_us)
        if admission.approval_id is not None:
            approval = next(one for one in store.approvals.values() if one.id == admission.approval_id)
            store.approvals[approval.action_digest] = replace(approval, used_at_us=now_us)
        return Admitted()

    def _approval_misfit(self, admission: Admission, now_us: int) -> Misfit | None:
        if admission.approval_id is None:
            return None
        found = [one for one in self.store.approvals.values() if one.id == admission.approval_id]
        if not found:
            return Misfit(kind="approval", detail="there is no such approval")
        approval = found[0]
        wrong = {
            "it is for another action": approval.digest != admission.action_digest
            or approval.run_id != admission.run_id,
            "it was given under another remit": approval.remit_digest != admission.remit_digest,
            f"it is {approval.verdict}": approval.verdict != "approved",
            "it has been used": approval.used_at_us is not None,
            "it has expired": approval.expires_at_us <= now_us,
        }
        detail = next((reason for reason, holds in wrong.items() if holds), None)
        return None if detail is None else Misfit(kind="approval", detail=detail)

    def _room_misfit(self, admission: Admission, now_us: int) -> Misfit | None:
        for window in admission.windows:
            oldest = now_us - window.span_s * 1_000_000
            live = [at for at in self.store.events.get(window.key, []) if at > oldest]
            if len(live) >= window.limit:
                wait_us = min(live) - oldest if live else window.span_s * 1_000_000
                return Misfit(
                    kind="rate",
                    detail=f"{len(live)} of {window.limit} in the last {window.span_s} s",
                    rule=window.rule,
                    retry_after_s=max(1, -(-wait_us // 1_000_000)),
                )
        rooms = [hold.cap_nano_usd - self._taken(hold.scope) for hold in admission.holds]
        if not rooms or admission.amount_nano_usd <= min(rooms):
            return None
        hold = admission.holds[rooms.index(min(rooms))]
        return Misfit(
            kind="budget",
            detail=f"{min(rooms)} of {hold.cap_nano_usd} left ({hold.scope})",
            rule=hold.rule,
            retry_after_s=hold.resets_in_s(now_us),
            left_nano_usd=min(rooms),
        )

    def _taken(self, scope: str) -> int:
        balance = self.store.balances.get(scope)
        return 0 if balance is None else balance.spent_nano_usd + balance.held_nano_usd

    def complete(self, completion: Completion) -> Future[Settled]:
        return self._submit(lambda: self._complete(completion))

    def _complete(self, completion: Completion) -> Settled:
        store = self.store
        call = store.calls.get(completion.action_id)
        if call is None or call.completion is not None:
            raise RemitError("action.conflict", "the call was never begun, or has its outcome already")
        bound = call.held + call.presumed
        call.completion = completion
        call.cost = bound if completion.presumed else completion.cost_nano_usd
        store.audit.append(completion.outcome)
        if call.admission.holds and call.cost > bound:
            over: records.Fields = {"run": call.admission.run_id}
            store.audit.append(records.record("overrun", completion.at_us, over))
        alerts = self._settle(call, bound if completion.presumed else 0, completion.at_us)
        ended = False
        if completion.ending is not None:
            ended = self._end(call.admission.run_id, completion.ending, completion.at_us, self._worker)
        return Settled(alerts=tuple(alerts), run_ended=ended)

    def resolve(self, completion: Completion) -> Future[bool]:
        def operation() -> bool:
            call = self.store.calls.get(completion.action_id)
            if call is None or call.state not in (None, "unknown") or self._is_answered(call):
                return False
            run_id = call.admission.run_id
            if call.completion is not None:
                call.completion = call.completion._replace(state=completion.state, result=completion.result)
                self.store.audit.append(completion.outcome)
            elif self.store.runs[run_id].status == "running":
                return False
            else:
                self._complete(completion)
            self._set_ready(run_id, completion.at_us)
            return True

        return self._submit(operation)

    def _settle(self, call: StoredCall, presumed: int, at_us: int) -> list[Alert]:
        """Move what the call holds, or is presumed to have spent, to what it cost; the alerts crossed."""
        held, was = call.held, call.presumed
        call.held, call.presumed = 0, presumed
        alerts = []
        for hold in call.admission.holds:
            spent = self._move(hold.scope, held=-held, spent=call.cost - was, presumed=presumed - was)
            percent = hold.alert_percent
            if percent is None or spent * 100 < hold.cap_nano_usd * percent:
                continue
            if (hold.scope, percent) not in self.store.alerts:
                self.store.alerts.add((hold.scope, percent))
                alert = Alert(
                    scope=hold.scope,
                    threshold_percent=percent,
                    spent_nano_usd=spent,
                    cap_nano_usd=hold.cap_nano_usd,
                )
                alerts.append(alert)
                self._put(alert.message(at_us))
                fields: records.Fields = {"scope": hold.scope}
                self.store.audit.append(records.record("alert", at_us, fields))
        return alerts

    def _presume(self, is_lost: Callable[[Admission], bool], at_us: int) -> Settled:
        alerts = []
        for call in self.store.calls.values():
            if call.completion is None and call.held and is_lost(call.admission):
                call.cost = call.held
                alerts += self._settle(call, call.held, at_us)
        return Settled(alerts=tuple(alerts))

    def expire_holds(self, at_us: int) -> Future[Settled]:
        return self._submit(lambda: self._presume(lambda one: one.expires_at_us <= at_us, at_us))

    def _move(self, scope: str, *, held: int = 0, spent: int = 0, presumed: int = 0) -> int:
        old = self.store.balances.get(scope) or Balance(
            scope=scope, spent_nano_usd=0, held_nano_usd=0, presumed_nano_usd=0
        )
        self.store.balances[scope] = Balance(
            scope=scope,
            spent_nano_usd=old.spent_nano_usd + spent,
            held_nano_usd=old.held_nano_usd + held,
            presumed_nano_usd=old.presumed_nano_usd + presumed,
        )
        return old.spent_nano_usd + spent

    def record(self, audit: bytes) -> Future[None]:
        return self._submit(lambda: self.store.audit.append(audit))

    def refuse(self, action_id: str, decision: bytes, audit: bytes) -> Future[None]:
        def operation() -> None:
            self.store.refusals.setdefault(action_id, decision)
            self.store.audit.append(audit)

        return self._submit(operation)

    # remits

    def register_remit(self, agent: str, digest: str, at_us: int, audit: bytes) -> Future[bool]:
        def operation() -> bool:
            if self.store.remits.get(agent) == digest:
                return False
            self.store.remits[agent] = digest
            self.store.audit.append(audit)
            return True

        return self._submit(operation)

    # the outbox

    def subscribe(self, topics: frozenset[str]) -> Future[None]:
        def operation() -> None:
            self.store.topics = topics

        return self._submit(operation)

    def claim_messages(self, at_us: int, lease_us: int, limit: int) -> Future[tuple[OutboxMessage, ...]]:
        def operation() -> tuple[OutboxMessage, ...]:
            waiting = [one for one in self.store.outbox.values() if one.state == "waiting"]
            due = sorted((one for one in waiting if one.due_at_us <= at_us), key=lambda one: one.due_at_us)
            claimed = [
                replace(one, attempts=one.attempts + 1, due_at_us=at_us + lease_us) for one in due[:limit]
            ]
            self.store.outbox |= {one.id: one for one in claimed}
            return tuple(claimed)

        return self._submit(operation)

    def settle_delivery(self, delivery: Delivery) -> Future[bool]:
        def operation() -> bool:
            kept = self.store.outbox.get(delivery.id)
            if kept is None or kept.state != "waiting":
                return False
            if delivery.state != "delivered" and kept.attempts != delivery.attempt:
                return False
            self.store.outbox[kept.id] = replace(
                kept,
                state=delivery.state,
                due_at_us=delivery.due_at_us,
                ended_at_us=None if delivery.state == "waiting" else delivery.at_us,
                error=delivery.error,
            )
            return True

        return self._submit(operation)

    async def close(self) -> None:
        self._closed = True
        while self._accepted:  # noqa: ASYNC110  a commit takes one turn of the loop
            await asyncio.sleep(0)

    def _submit(self, operation: Callable[[], Any]) -> Future[Any]:
        if self._closed:
            raise RemitError("journal.unavailable", "the journal is closed")
        loop = asyncio.get_running_loop()
        future = CommitFuture(loop=loop)
        self._accepted += 1
        loop.call_soon(self._commit, operation, future)
        return future

    def _commit(self, operation: Callable[[], Any], future: Future[Any]) -> None:
        self._accepted -= 1
        try:
            future.set_result(operation())
        except RemitError as error:
            future.set_exception(error)


def _known(call: StoredCall, admission: Admission, status: str | None) -> Recorded | Misfit | Admitted:
    if call.admission.action_digest != admission.action_digest:
        return Misfit(kind="conflict", detail="another action has this id")
    completion = call.completion
    if completion is None:
        if status == "running" and admission.again:
            return Admitted()
        if status == "running":
            return Misfit(kind="in_flight", detail="this action was begun and has no outcome yet")
        reason = json.dumps({"reason": "it was begun, and its run ended before its outcome was known"})
        return Recorded(state="unknown", result=reason.encode(), usage=Usage(), cost_nano_usd=0)
    return Recorded(
        state=completion.state, result=completion.result, usage=completion.usage, cost_nano_usd=call.cost
    )
