"""A run's spans put together as a tree of nodes, with what each cost by itself and with all below it.

Promise: pure, and complete: every span given and every call without an outcome is in the tree once.
A run's direct cost is money booked on it that no span accounts for (presumed spent, or its spans were lost).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from remit.core import ids
from remit.core.money import format_usd
from remit.core.runs import FINAL
from remit.ports.journal import CallRecord


class TraceSpan(Protocol):
    """What a tree needs of a span; see `adapters.telemetry.spans.SpanRecord`."""

    @property
    def kind(self) -> str: ...
    @property
    def span_id(self) -> str: ...
    @property
    def parent_id(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    @property
    def resource(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def started_us(self) -> int: ...
    @property
    def duration_us(self) -> int | None: ...
    @property
    def state(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def effect(self) -> str: ...
    @property
    def rule(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def cache_read_tokens(self) -> int: ...
    @property
    def cache_write_tokens(self) -> int: ...
    @property
    def cost_nano_usd(self) -> int: ...
    @property
    def truncated(self) -> bool: ...
    @property
    def replayed(self) -> bool: ...
    @property
    def shown(self) -> Mapping[str, str | int | bool]: ...
    @property
    def error(self) -> str: ...
    @property
    def retry_in_s(self) -> float | None: ...
    @property
    def approval_id(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceView:
    """One run: its spans, the calls the journal has no outcome of, its status, and the time it is now.

    `below`: the runs that its calls have started; `parent`: the call that has started it.
    """

    run_id: str
    agent: str
    status: str
    spans: Sequence[TraceSpan]
    calls: Sequence[CallRecord] = ()
    code: str = ""
    message: str = ""
    now_us: int | None = None
    below: Sequence[TraceView] = ()
    parent: str | None = None


@dataclass(slots=True, kw_only=True)
class Node:
    """One line of the tree: a run, an attempt, an effect, or a call without an outcome. `action_id`: of the last two."""

    kind: str
    label: str
    state: str
    started_us: int
    duration_us: int | None
    span: TraceSpan | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    direct_nano_usd: int = 0
    total_nano_usd: int = 0
    notes: tuple[str, ...] = ()
    action_id: str = ""
    children: list[Node] = field(default_factory=list)


def build(view: TraceView) -> Node:
    """The run's node, with all others below it."""
    run, attempts, effects = _sorted_out(view)
    numbers = sorted(attempts.keys() | effects.keys())
    known = {
        f"{span.run_id}.{span.place}" for group in effects.values() for span in group if not span.replayed
    }
    pending = [call for call in view.calls if call.state == "started" and call.action_id not in known]
    if pending and not numbers:
        numbers = [1]
    children = []
    for number in numbers:
        calls = pending if number == numbers[-1] else []
        children.append(_attempt(view, number, attempts.get(number), (effects[number], calls)))
    first = min((child.started_us for child in children), default=view.now_us or 0)
    root = Node(
        kind="run",
        label=f"run {view.agent}",
        state=view.status,
        started_us=run.started_us if run else first,
        duration_us=run.duration_us if run else None,
        span=run,
        children=children,
        notes=(f"{view.status.upper()} {view.code}",) if view.code else (),
    )
    if root.duration_us is None and view.now_us is not None and view.status not in FINAL:
        root.duration_us = max(0, view.now_us - root.started_us)
    _sum_up(root)
    booked = run.cost_nano_usd if run else 0
    root.direct_nano_usd = max(0, booked - root.total_nano_usd)
    root.total_nano_usd += root.direct_nano_usd
    for below in view.below:
        _hang_below(root, build(below), below.parent)
    return root


def _hang_below(root: Node, run: Node, parent: str | None) -> None:
    """Put a run below the last performance of the call that started it; all above cost what it cost as well."""
    effects = ((attempt, effect) for attempt in reversed(root.children) for effect in attempt.children[::-1])
    path = [root, *next((pair for pair in effects if pair[1].action_id == parent), ())]
    path[-1].children.append(run)
    for node in path:
        node.input_tokens += run.input_tokens
        node.output_tokens += run.output_tokens
        node.total_nano_usd += run.total_nano_usd


def _sorted_out(
    view: TraceView,
) -> tuple[TraceSpan | None, dict[int, TraceSpan], defaultdict[int, list[TraceSpan]]]:
    run: TraceSpan | None = None
    attempts: dict[int, TraceSpan] = {}
    effects: defaultdict[int, list[TraceSpan]] = defaultdict(list)
    for span in sorted(view.spans, key=lambda span: span.started_us):
        if span.kind == "run":
            run = span
        elif span.kind == "attempt":
            attempts[span.attempt] = span
        else:
            effects[span.attempt].append(span)
    return run, attempts, effects


def _attempt(
    view: TraceView,
    number: int,
    span: TraceSpan | None,
    below: tuple[Iterable[TraceSpan], Iterable[CallRecord]],
) -> Node:
    effects, calls = below
    children = [_effect(effect) for effect in effects] + [_call(view, call) for call in calls]
    children.sort(key=lambda child: child.started_us)
    children = _nested(children)
    notes: tuple[str, ...] = ()
    if span is not None and span.error:
        wait = "" if span.retry_in_s is None else f"RETRY in {span.retry_in_s:g} s"
        notes = tuple(note for note in (wait, span.error) if note)
    first = children[0].started_us if children else view.now_us or 0
    going = "unknown" if view.status in FINAL else view.status
    node = Node(
        kind="attempt",
        label=f"attempt {number}",
        state=span.state if span else going,
        started_us=span.started_us if span else first,
        duration_us=span.duration_us if span else None,
        span=span,
        notes=notes,
        children=children,
    )
    if span is None and going == "running" and view.now_us is not None:
        node.duration_us = max(0, view.now_us - node.started_us)
    _sum_up(node)
    return node


def _nested(effects: Sequence[Node]) -> list[Node]:
    """The effects in their order, each call that a tool made below the performance of that tool's own call."""
    top: list[Node] = []
    performed: dict[str, Node] = {}
    for node in effects:
        performed[node.action_id] = node
        above = performed.get(ids.above(node.action_id))
        (top if above is None else above.children).append(node)
    for node in effects:
        node.total_nano_usd += sum(child.total_nano_usd for child in node.children)
    return top


def _effect(span: TraceSpan) -> Node:
    label = {
        "model": f"chat {span.resource}",
        "release": "release answer",
        "memory_read": f"read {span.resource}",
        "memory_write": f"write {span.resource}",
    }.get(span.kind, span.resource)
    shown = [f"{name}={value}" for name, value in span.shown.items()]
    flags = [word for word, on in (("truncated", span.truncated), ("replayed", span.replayed)) if on]
    cost = 0 if span.replayed else span.cost_nano_usd
    read = span.input_tokens + span.cache_read_tokens + span.cache_write_tokens
    return Node(
        kind=span.kind,
        label=" ".join([label, *shown, *flags]),
        state=span.state,
        started_us=span.started_us,
        duration_us=span.duration_us,
        span=span,
        input_tokens=0 if span.replayed else read,
        output_tokens=0 if span.replayed else span.output_tokens,
        direct_nano_usd=cost,
        total_nano_usd=cost,
        notes=_notes(span),
        action_id=f"{span.run_id}.{span.place}",
    )


def _notes(span: TraceSpan) -> tuple[str, ...]:
    decided = (f"rule {span.rule}" if span.rule else "", span.source)
    if span.state == "refused":
        notes: tuple[str, ...] = (f"BLOCKED {span.code}", *decided)
    elif span.state == "suspended":
        waits = f"approval {span.approval_id}" if span.approval_id else "what it has started"
        notes = (f"WAITS for {waits}", *decided)
    elif span.state == "failed":
        notes = (f"FAILED {span.code}",)
    elif span.state == "unknown":
        notes = ("UNKNOWN: it may have happened; a person decides",)
    else:
        notes = ()
    return tuple(note for note in notes if note)


def _call(view: TraceView, call: CallRecord) -> Node:
    over = view.status in FINAL
    lasting = None if over or view.now_us is None else max(0, view.now_us - call.started_at_us)
    held = f"{format_usd(call.held_nano_usd)} held" if call.held_nano_usd else ""
    note = "NO OUTCOME: it may have happened" if over else "RUNNING: no outcome yet"
    return Node(
        kind=call.kind,
        label=f"chat {call.resource}" if call.kind == "model" else call.resource,
        state="unknown" if over else "running",
        started_us=call.started_at_us,
        duration_us=lasting,
        notes=tuple(part for part in (note, held) if part),
        action_id=call.action_id,
    )


def _sum_up(node: Node) -> None:
    node.input_tokens = sum(child.input_tokens for child in node.children)
    node.output_tokens = sum(child.output_tokens for child in node.children)
    node.total_nano_usd = sum(child.total_nano_usd for child in node.children)


def node_json(node: Node) -> dict[str, Any]:
    """`node` and all below it as plain JSON: microseconds, nano-USD."""
    span = node.span
    found: dict[str, Any] = {
        "kind": node.kind,
        "name": span.resource if span and span.kind != "attempt" else node.label,
        "state": node.state,
        "started_us": node.started_us,
        "duration_us": node.duration_us,
        "input_tokens": node.input_tokens,
        "output_tokens": node.output_tokens,
        "cost_direct_nano_usd": node.direct_nano_usd,
        "cost_inclusive_nano_usd": node.total_nano_usd,
    }
    if span is not None:
        found |= {"span_id": span.span_id, "parent_id": span.parent_id, "attempt": span.attempt}
        optional = {
            "code": span.code,
            "effect": span.effect,
            "rule": span.rule,
            "source": span.source,
            "approval_id": span.approval_id,
            "error": span.error,
            "truncated": span.truncated,
            "replayed": span.replayed,
        }
        found |= {name: value for name, value in optional.items() if value} | dict(span.shown)
    found["children"] = [node_json(child) for child in node.children]
    return found
