"""Events such as the gate and the runner send, built from real parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from remit.core import ids
from remit.core.actions import Action, Place, Principal, TaskSource, model_call, release, tool_call
from remit.core.decisions import Decision
from remit.core.messages import Message, ModelReply, ModelRequest, Text, Usage
from remit.core.outcomes import Done, Outcome, Refused
from remit.core.runs import Run, RunEnd, RunStatus
from remit.ports.journal import Alert
from remit.ports.services import AttemptEnded, EffectEnded, RunStarted, RunStopped, ThresholdCrossed

T0 = 1_790_000_000_000_000
RUN_ID = "01k9zq8x4e5r6t7y8w9vabcdef"
MODEL = "claude-sonnet-4-20250514"
AGENT = "customer-support-v2"
REMIT = "a" * 64
ALLOW = Decision(
    effect="allow",
    code="allowed",
    rule="agent.allowed_tools",
    source="agent-config.yaml:5",
    reason="the tool is granted",
)
DENY = Decision(
    effect="deny",
    code="data.denied",
    rule="data_access.allow_pii",
    source="agent-config.yaml:18",
    reason="PII access is not permitted for this agent",
)


@dataclass(slots=True)
class FixedClock:
    """A clock that stands where it is put."""

    at_us: int = T0

    def now_us(self) -> int:
        return self.at_us

    def monotonic_ns(self) -> int:
        return self.at_us * 1000

    def entropy(self, size: int) -> bytes:
        return bytes(size)


def a_run(run_id: str = RUN_ID, agent: str = AGENT) -> Run:
    principal = Principal(kind="user", id="ada@example.com", roles=("support",))
    return Run(
        id=run_id,
        tenant="default",
        agent=agent,
        remit_digest=REMIT,
        task=TaskSource(principal=principal, text="Where is my order?", digest="b" * 64),
        trace_id=ids.trace_id(run_id),
        created_at_us=T0,
        deadline_us=T0 + 600_000_000,
    )


def place(run: Run, step: int, name: str) -> Place:
    return Place(run_id=run.id, step=step, name=name, principal=run.principal)


def a_tool_call(
    run: Run, step: int = 0, name: str = "t0", tool: str = "search_kb", args: Any = None
) -> Action:
    args = {"query": "refund policy", "top_k": 3} if args is None else args
    return tool_call(place(run, step, name), tool, "toolu_01", args)


def a_model_call(run: Run, step: int = 0, name: str = "m1", text: str = "Where is my order?") -> Action:
    request = ModelRequest(
        model=MODEL,
        system="You help.",
        messages=(Message(role="user", parts=(Text(text=text),)),),
        tools=(),
        max_output_tokens=1024,
    )
    return model_call(place(run, step, name), request, ("c" * 64,))


def a_release(run: Run, step: int = 9, answer: str = "It ships today.") -> Action:
    return release(place(run, step, "answer"), answer)


def reply(text: str = "Let me look.") -> ModelReply:
    usage = Usage(input_tokens=900, output_tokens=40, cache_read_tokens=100)
    return ModelReply(parts=(Text(text=text),), stop="tool_use", usage=usage, model=MODEL)


def model_done(cost: int = 4_113_000) -> Done:
    return Done(value=reply(), usage=reply().usage, cost_nano_usd=cost)


def ended(
    run: Run,
    action: Action,
    outcome: Outcome | None = None,
    *,
    at: int = T0,
    attempt: int = 1,
    took: int = 2_345,
) -> EffectEnded:
    if outcome is None:
        outcome = Done(value={"results": [{"id": 1}, {"id": 2}]})
    decision = outcome.decision if isinstance(outcome, Refused) else ALLOW
    return EffectEnded(
        run=run,
        action=action,
        attempt=attempt,
        decision=decision,
        outcome=outcome,
        started_us=at,
        duration_us=took,
    )


def an_effect(run: Run, *, step: int = 0, place: str = "t0", started_us: int = T0) -> EffectEnded:
    return ended(run, a_tool_call(run, step, place), at=started_us)


def attempt_ended(
    run: Run, attempt: int = 1, error: str = "", retry_in_s: float | None = None
) -> AttemptEnded:
    return AttemptEnded(
        run=run,
        attempt=attempt,
        started_us=T0 + 100,
        duration_us=5_000_000,
        error=error,
        retry_in_s=retry_in_s,
    )


def started(run: Run) -> RunStarted:
    return RunStarted(run=run)


def stopped(run: Run, status: RunStatus = "succeeded", code: str = "", cost: int = 4_113_000) -> RunStopped:
    return RunStopped(
        run=run,
        end=RunEnd(status=status, code=code, answer="It ships today." if status == "succeeded" else ""),
        started_us=T0,
        duration_us=6_000_000,
        usage=Usage(input_tokens=900, output_tokens=40, cache_read_tokens=100),
        cost_nano_usd=cost,
    )


def crossed(run: Run, scope: str = "agent:customer-support-v2:2026-11-22") -> ThresholdCrossed:
    alert = Alert(scope=scope, threshold_percent=80, spent_nano_usd=40_000_000_000, cap_nano_usd=50 * 10**9)
    return ThresholdCrossed(agent=run.agent, alert=alert, run=run)
