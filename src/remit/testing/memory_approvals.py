"""Approvals and controls of the journal in memory, and which of its waiting runs may go on."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from remit.core.approvals import (
    APPROVAL_ESCALATED,
    APPROVAL_REMINDER,
    APPROVAL_REQUESTED,
    Approval,
    Vote,
    voted,
)
from remit.core.controls import Control
from remit.core.outbox import OutboxMessage
from remit.core.runs import Run
from remit.testing.memory_store import MemoryReads

_WAITING_CODES = ("approval.required", "effect.unknown", "run.waits")
_LEFT_CODES = ("run.handed_over", "run.interrupted")


class MemoryApprovals(MemoryReads):
    """The part of `MemoryJournal` that is about people."""

    def _submit(self, operation: Callable[[], Any]) -> Future[Any]:
        raise NotImplementedError

    def request_approval(self, approval: Approval, audit: bytes) -> Future[Approval]:
        def operation() -> Approval:
            if approval.action_digest not in self.store.approvals:
                self.store.approvals[approval.action_digest] = approval
                self.store.audit.append(audit)
                self._put(approval.message(APPROVAL_REQUESTED, approval.requested_at_us))
            return self.store.approvals[approval.action_digest]

        return self._submit(operation)

    def decide_approval(self, vote: Vote, audit: bytes) -> Future[Approval | None]:
        def operation() -> Approval | None:
            found = [one for one in self.store.approvals.values() if one.id == vote.approval_id]
            after = voted(found[0], vote) if found else None
            if after is not None:
                self.store.approvals[after.action_digest] = after
                self.store.audit.append(audit)
                self._set_ready(after.run_id, vote.at_us)
            return after

        return self._submit(operation)

    def tell_due_approvals(self, at_us: int) -> Future[int]:
        def operation() -> int:
            told = 0
            for digest, one in list(self.store.approvals.items()):
                if not one.is_pending(at_us):
                    continue
                after = one
                if one.remind_at_us is not None and one.remind_at_us <= at_us:
                    after = replace(after, remind_at_us=None)
                    self._put(one.message(APPROVAL_REMINDER, at_us))
                    told += 1
                if one.escalate_at_us is not None and one.escalate_at_us <= at_us:
                    roles = one.roles and tuple(dict.fromkeys(one.roles + one.escalate_to))
                    after = replace(after, escalate_at_us=None, roles=roles)
                    self._put(one.message(APPROVAL_ESCALATED, at_us))
                    told += 1
                self.store.approvals[digest] = after
            return told

        return self._submit(operation)

    def set_control(self, scope: str, paused: bool, reason: str, at_us: int, audit: bytes) -> Future[None]:
        def operation() -> None:
            if paused:
                since = self.store.controls[scope].at_us if scope in self.store.controls else at_us
                self.store.controls[scope] = Control(scope=scope, reason=reason, at_us=since)
            else:
                self.store.controls.pop(scope, None)
                for stored in self.store.runs.values():
                    if stored.status == "suspended" and stored.end and stored.end.code == "agent.paused":
                        stored.ready_at_us = at_us
                for stored in self.store.runs.values():
                    if stored.ready_at_us is not None:
                        self._set_caller_ready(stored.run, at_us)
            self.store.audit.append(audit)

        return self._submit(operation)

    def _set_ready(self, run_id: str, at_us: int) -> None:
        stored = self.store.runs.get(run_id)
        if stored is None or stored.status != "suspended" or stored.end is None:
            return
        doubtful = ("unknown",) if stored.end.code in _LEFT_CODES else (None, "unknown")
        unknown = any(
            call.admission.kind == "tool" and call.state in doubtful and not self._is_answered(call)
            for call in self._calls_of(run_id)
        )
        waits = [
            one.expires_at_us
            for one in self.store.approvals.values()
            if one.run_id == run_id and one.verdict == "pending"
        ]
        for below in self._below(run_id):
            unknown = unknown or below.status == "running"
            if below.status == "suspended":
                unknown = unknown or below.ready_at_us is None
                waits.append(below.ready_at_us or 0)
        if stored.end.code in _WAITING_CODES + _LEFT_CODES:
            stored.ready_at_us = None if unknown else max(waits, default=at_us)
        elif stored.end.code == "agent.paused" and stored.ready_at_us is None and not self.store.controls:
            stored.ready_at_us = at_us
        self._set_caller_ready(stored.run, at_us)

    def _set_caller_ready(self, run: Run, at_us: int) -> None:
        if run.caller_id is not None:
            self._set_ready(run.caller_id, at_us)

    def _put(self, message: OutboxMessage) -> None:
        if message.topic in self.store.topics:
            self.store.outbox.setdefault(message.id, message)
