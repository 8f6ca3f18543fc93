"""A span is one immutable row, made once from an event, after the fact.

Promise: making it costs a few microseconds and keeps no reference to arguments, results or texts (unless
content capture is on). Ids are not stored: they follow from the run's id and the action's place in it.

One id stands for one span: an action's own id belongs to its performance. What did not perform it (a wait
for an approval, a replay of the record in a later attempt) has an id of its own, and the same parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from remit.adapters.telemetry import content, names
from remit.core import ids
from remit.core.actions import ActionKind
from remit.core.messages import ModelReply, Usage
from remit.core.outcomes import Done, Failed, Refused, Suspended
from remit.core.runs import Run
from remit.ports.services import (
    AttemptEnded,
    Clock,
    EffectEnded,
    RunStarted,
    RunStopped,
    TelemetryEvent,
)

SpanKind: TypeAlias = Literal["run", "attempt"] | ActionKind
NO_USAGE: Final = Usage()
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
ERROR_CHARS_MAX: Final = 500


class SpanRecord(NamedTuple):
    """One span: a run, an attempt, or an effect (`model`, `tool`, `release`).

    `resource` is the agent, model or tool; `place` the action's place in the run (`3.t0`). Times are wall
    microseconds, `duration_us` is None while it lasts. `state` is a run's status, or `done`, `refused`,
    `suspended`, `failed`, `unknown`. `code` says why it is not done; `effect`, `decision_code`, `rule` and
    `source` are the decision's. `extra` holds what few spans have, by attribute name.
    """

    # A named tuple and not a dataclass: a frozen dataclass of this size costs three times as much to make.
    kind: SpanKind
    trace_id: str
    run_id: str
    tenant: str
    agent: str
    remit_digest: str
    resource: str
    place: str
    attempt: int
    step: int
    started_us: int
    duration_us: int | None
    state: str
    code: str = ""
    effect: str = ""
    decision_code: str = ""
    rule: str = ""
    source: str = ""
    digest: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_nano_usd: int = 0
    truncated: bool = False
    replayed: bool = False
    extra: Mapping[str, Any] = NOTHING

    @property
    def span_id(self) -> str:
        """The span's id, 16 hexadecimal digits."""
        if self.kind == "run":
            return ids.span_id(self.run_id)
        if self.kind == "attempt":
            return attempt_span_id(self.run_id, self.attempt)
        action_id = f"{self.run_id}.{self.place}"
        own = self.state != "suspended" and not self.replayed
        if own and (self.state != "refused" or self.attempt <= 1):
            return ids.span_id(action_id)
        return ids.span_id(f"{action_id}/attempt/{self.attempt}/{self.state}")

    @property
    def parent_id(self) -> str:
        """The id of the span above, empty for a run that no other has started."""
        if self.kind == "run":
            parent = self.extra.get(names.PARENT_CALL)
            return ids.span_id(parent) if parent else ""
        if self.kind == "attempt":
            return ids.span_id(self.run_id)
        above = ids.above(self.place)
        return ids.span_id(f"{self.run_id}.{above}") if above else attempt_span_id(self.run_id, self.attempt)

    @property
    def failed(self) -> bool:
        """Whether its status is ERROR: refused, failed, unknown, or a run that ended in any such way."""
        return self.state in ("refused", "failed", "unknown", "timed_out", "cancelled")

    @property
    def shown(self) -> dict[str, str | int | bool]:
        """The fields of the call that may be shown, by their names."""
        return {name: self.extra[name] for name in names.SHOWN if name in self.extra}

    @property
    def error(self) -> str:
        """What an attempt failed with."""
        return str(self.extra.get(names.RETRY_ERROR, ""))

    @property
    def retry_in_s(self) -> float | None:
        """How long after a failed attempt the next one follows, None where none does."""
        wait: float | None = self.extra.get(names.RETRY_IN_S)
        return wait

    @property
    def approval_id(self) -> str:
        """The approval that a suspended effect waits for."""
        return str(self.extra.get(names.APPROVAL_ID, ""))


class SpanMaker:
    """Makes the span of an event once, for however many sinks ask for it one after the other.

    `capture_content` puts arguments, texts and results on spans.
    """

    def __init__(self, clock: Clock, *, capture_content: bool = False) -> None:
        self._clock = clock
        self._capture = capture_content
        self._last: tuple[TelemetryEvent | None, SpanRecord | None] = (None, None)

    def span_of(self, event: TelemetryEvent) -> SpanRecord | None:
        """The span of `event`; None for a threshold."""
        last, span = self._last
        if last is event:
            return span
        if isinstance(event, EffectEnded):
            span = effect_span(event, capture=self._capture)
        elif isinstance(event, AttemptEnded):
            span = attempt_span(event)
        elif isinstance(event, RunStarted):
            span = started_span(event, self._clock.now_us())
        elif isinstance(event, RunStopped):
            span = stopped_span(event, capture=self._capture)
        else:
            span = None
        self._last = (event, span)
        return span

    def now_us(self) -> int:
        """The clock's time, for events that have none."""
        return self._clock.now_us()


def attempt_span_id(run_id: str, attempt: int) -> str:
    """The id of the span of one attempt of a run."""
    return ids.span_id(f"{run_id}/attempt/{attempt}")


def effect_span(event: EffectEnded, *, capture: bool) -> SpanRecord:
    """The span of one effect; `capture` puts its content on it."""
    run, action, outcome, decision = event.run, event.action, event.outcome, event.decision
    state, code, usage, cost = "unknown", "effect.unknown", NO_USAGE, 0
    truncated = replayed = False
    extra: dict[str, Any] | None = None
    if isinstance(outcome, Done):
        state, code, cost = "done", "", outcome.cost_nano_usd
        usage = outcome.usage or NO_USAGE
        truncated, replayed = outcome.truncated, outcome.replayed
        if isinstance(outcome.value, ModelReply):
            extra = {names.FINISH_REASONS: outcome.value.stop}
            if outcome.value.model != action.resource:
                extra[names.RESPONSE_MODEL] = outcome.value.model
    elif isinstance(outcome, (Refused, Suspended)):
        decision = outcome.decision
        state, code = "refused", decision.code
        if isinstance(outcome, Suspended):
            state = "suspended"
            extra = {names.APPROVAL_ID: outcome.approval_id} if outcome.approval_id else None
    elif isinstance(outcome, Failed):
        state, code, cost = "failed", outcome.code, outcome.cost_nano_usd
    if action.kind == "tool":
        extra = content.shown_fields(action, outcome, capture=capture) | (extra or {})
        if event.isolation != "none":
            extra = {**extra, names.ISOLATION: event.isolation}
    if capture:
        extra = content.content_of(action, outcome) | (extra or {})
    # By position, in the order of the fields: this is the hot path, and keywords double the cost.
    return SpanRecord(
        action.kind,
        run.trace_id,
        run.id,
        run.tenant,
        run.agent,
        run.remit_digest,
        action.resource,
        action.id[len(run.id) + 1 :],
        event.attempt,
        action.place.step,
        event.started_us,
        event.duration_us,
        state,
        code,
        decision.effect,
        decision.code,
        decision.rule,
        decision.source,
        action.digest,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        cost,
        truncated,
        replayed,
        extra or NOTHING,
    )


def attempt_span(event: AttemptEnded) -> SpanRecord:
    """The span of one attempt; its error and the wait before the next stand in `extra`."""
    run = event.run
    extra: dict[str, Any] = {}
    if event.error:
        extra[names.RETRY_ERROR] = content.cut(event.error, ERROR_CHARS_MAX)
    if event.retry_in_s is not None:
        extra[names.RETRY_IN_S] = event.retry_in_s
    return SpanRecord(
        kind="attempt",
        trace_id=run.trace_id,
        run_id=run.id,
        tenant=run.tenant,
        agent=run.agent,
        remit_digest=run.remit_digest,
        resource=str(event.attempt),
        place="",
        attempt=event.attempt,
        step=0,
        started_us=event.started_us,
        duration_us=event.duration_us,
        state="failed" if event.error else "done",
        extra=extra or NOTHING,
    )


def started_span(event: RunStarted, at_us: int) -> SpanRecord:
    """The span of a run that was taken up at `at_us` and has not ended."""
    run = event.run
    return SpanRecord(
        kind="run",
        trace_id=run.trace_id,
        run_id=run.id,
        tenant=run.tenant,
        agent=run.agent,
        remit_digest=run.remit_digest,
        resource=run.agent,
        place="",
        attempt=0,
        step=0,
        started_us=at_us,
        duration_us=None,
        state="running",
        extra=_extra_of(run),
    )


def _extra_of(run: Run) -> dict[str, Any]:
    extra: dict[str, Any] = {names.USER_ID: run.principal.id}
    if run.parent is not None:
        extra[names.PARENT_CALL] = run.parent
    return extra


def stopped_span(event: RunStopped, *, capture: bool) -> SpanRecord:
    """The span of a run that ended, or that waits for a person (state `suspended`)."""
    usage, end = event.usage, event.end
    extra = _extra_of(event.run)
    if capture and end.answer:
        extra[names.ANSWER] = content.cut(end.answer)
    if capture and end.message:
        extra[names.ERROR_MESSAGE] = content.cut(end.message)
    return started_span(RunStarted(run=event.run), event.started_us)._replace(
        duration_us=event.duration_us,
        state=end.status,
        code=end.code,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cost_nano_usd=event.cost_nano_usd,
        extra=extra,
    )
