"""What is on record of a run that goes on: what was decided and begun before is not decided or begun again.

The model went on from what it was told then. A refused call stays refused, whatever the windows say now; a call that
was begun and whose outcome nobody recorded is unknown; and what is on no record is not done afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from remit.core.actions import Action, ToolCall
from remit.core.decisions import Decision
from remit.core.outcomes import Outcome, Refused, Unknown
from remit.core.tools import ToolSpec
from remit.governance import denials
from remit.ports.journal import CallRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The calls of a run as the journal has them.

    `replies`: attempt and model of the reply of each step. `attempt`: of the next model call that is new. `begun`,
    `open`: all else, tools and the answer; the open have no outcome. `withdrawn`: answers that were begun and not given.
    """

    replies: Mapping[int, tuple[int, str]]
    attempt: int
    begun: frozenset[str]
    open: frozenset[str]
    refused: Mapping[str, Decision]
    withdrawn: frozenset[str] = frozenset()

    def outcome_of(self, action: Action, tools: Mapping[str, ToolSpec]) -> Outcome | None:
        """The outcome of a tool call that no admission may have any more; None where the journal is to say."""
        if not isinstance(action, ToolCall):
            return None
        if action.id in self.refused and action.id not in self.begun:
            return Refused(decision=self.refused[action.id])
        if action.id in self.open and not may_be_repeated(tools.get(action.resource)):
            return Unknown(action_id=action.id, reason="it was begun, and its outcome is not on record")
        if action.id not in self.begun and action.place.step + 1 in self.replies:
            reason = "the model went on from this call, and what became of it is not on record"
            return Refused(decision=denials.of_code("action.conflict", reason))
        return None


def history_of(calls: Sequence[CallRecord], refusals: Mapping[str, bytes]) -> History:
    """The history in the records of a run's calls, in the order of their admission, and of its refusals."""
    replies: dict[int, tuple[int, str]] = {}
    attempt = 1
    for call in calls:
        if call.kind == "model":
            step, tried = _model_place(call.action_id)
            attempt = tried if call.state == "done" else tried + 1
            if call.state == "done":
                replies[step] = (tried, call.resource)
    tools = [call for call in calls if call.kind != "model"]
    return History(
        replies=replies,
        attempt=attempt,
        begun=frozenset(call.action_id for call in tools),
        open=frozenset(call.action_id for call in tools if call.state == "started"),
        refused={action_id: decision_from(body) for action_id, body in refusals.items()},
        withdrawn=frozenset(
            call.action_id
            for call in calls
            if call.kind == "release" and call.state in ("failed", "cancelled")
        ),
    )


def may_be_repeated(tool: ToolSpec | None) -> bool:
    """Whether a call that was begun, and of which nobody knows the outcome, may be made again: it reads,
    takes the same key twice, finds by its key what it did (`CallContext.begun_before`), or acts by calls alone."""
    if tool is None:
        return False
    return tool.effect != "write" or tool.idempotency != "at_most_once" or tool.acts_by_calls


def is_doubtful(history: History | None, action: Action, tool: ToolSpec | None, code: str) -> bool:
    """Whether a try that failed with `code` leaves open what the one before it did: only who looks can say."""
    if history is None or action.id not in history.open or tool is None:
        return False
    if code == "worker.fenced":
        return True
    return tool.idempotency != "reconcilable" and not tool.acts_by_calls  # whose calls are all on record


def is_kept(action: Action, decision: Decision) -> bool:
    """Whether a refusal is said again when the run goes on: one of a call, and not of the run's own state."""
    return isinstance(action, ToolCall) and decision.code not in ("run.not_running", "action.in_flight")


def decision_bytes(decision: Decision) -> bytes:
    """A denial as it is kept; `decision_from` is its inverse."""
    return orjson.dumps(
        {
            "code": decision.code,
            "rule": decision.rule,
            "source": decision.source,
            "reason": decision.reason,
            "remedy": decision.remedy,
        }
    )


def decision_from(body: bytes) -> Decision:
    """The denial that `decision_bytes` made `body` from."""
    return Decision(effect="deny", **orjson.loads(body))


def _model_place(action_id: str) -> tuple[int, int]:
    """Step and attempt of the model call `{run}.{step}.m{attempt}`."""
    _, step, name = action_id.rsplit(".", 2)
    return int(step), int(name[1:])
