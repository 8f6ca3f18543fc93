"""A journal that refuses, fails, dies or has its caller cancelled at a named point; else the one inside.

The points are exact, so that a simulation can visit every moment at which a real process can be hit.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from remit.core.approvals import Approval
from remit.core.errors import RemitError
from remit.ports.journal import Admission, Admitted, Completion, Journal, Misfit, Recorded, Settled

Fault: TypeAlias = Literal[
    "none",
    "policy_raises",
    "policy_times_out",
    "admit_raises",
    "admit_fails",
    "complete_raises",
    "complete_fails",
    "cancel_before",
    "cancel_at_approval",
    "cancel_at_admit_sent",
    "cancel_at_admit_known",
    "cancel_in_effect",
    "cancel_at_complete_sent",
    "cancel_at_complete_known",
    "crash_at_admit_known",
    "crash_in_effect",
]
FAULTS: tuple[Fault, ...] = Fault.__args__  # type: ignore[attr-defined]


class WrappedJournal:
    """Everything is the journal inside, but for what a subclass overrides."""

    def __init__(self, inner: Journal) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class FaultyJournal(WrappedJournal):
    """Strikes `task` by `fault` at the fault's point. Once `dead`, nothing can be written any more."""

    def __init__(self, inner: Journal, after_commit: Callable[[], None]) -> None:
        super().__init__(inner)
        self.fault: Fault = "none"
        self.task: asyncio.Task[Any] | None = None
        self.dead = False
        self._after_commit = after_commit

    def admit(self, admission: Admission) -> Future[Admitted | Recorded | Misfit]:
        return self._struck("admit", lambda: self.inner.admit(admission))

    def complete(self, completion: Completion) -> Future[Settled]:
        return self._struck("complete", lambda: self.inner.complete(completion))

    def record(self, audit: bytes) -> Future[None]:
        return self._struck("record", lambda: self.inner.record(audit))

    def refuse(self, action_id: str, decision: bytes, audit: bytes) -> Future[None]:
        return self._struck("record", lambda: self.inner.refuse(action_id, decision, audit))

    def request_approval(self, approval: Approval, audit: bytes) -> Future[Approval]:
        return self._struck("request_approval", lambda: self.inner.request_approval(approval, audit))

    async def approval_for(self, action_digest: str) -> Approval | None:
        if self.fault == "cancel_at_approval":
            self.strike()
            await asyncio.sleep(0)
        return await self.inner.approval_for(action_digest)

    def strike(self) -> None:
        """Cancel the task that is under test."""
        if self.task is not None:
            self.task.cancel()

    def _struck(self, name: str, operation: Callable[[], Future[Any]]) -> Future[Any]:
        if self.dead:
            raise RemitError("journal.unavailable", "the process is dead")
        if self.fault == f"{name}_raises":
            raise RemitError("journal.unavailable", "the journal was made to refuse")
        if self.fault == f"{name}_fails":
            future: Future[Any] = asyncio.get_running_loop().create_future()
            future.set_exception(RemitError("journal.unavailable", "the commit was made to fail"))
            return future
        future = operation()
        future.add_done_callback(lambda _: self._after_commit())
        if self.fault == f"cancel_at_{name}_sent":
            self.strike()
        if self.fault in (f"cancel_at_{name}_known", f"crash_at_{name}_known"):
            future.add_done_callback(lambda _: self._known())
        return future

    def _known(self) -> None:
        self.dead = self.fault.startswith("crash")
        self.strike()
