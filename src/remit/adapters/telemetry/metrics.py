"""Metrics for Prometheus, in a registry of our own.

Promises: no label holds the id of a run, a user or a customer, or anything a model wrote; money is summed in
integers and becomes dollars only on exposition; what an agent can have is there at 0 from `declare` on.

`agent_task_duration_seconds{tool}` is a tool's name for calls of tools, `llm` for model calls and `run` for
whole runs; only effects that were really performed are observed (no refusal, no replay).
`agent_cost_usd_total` is the counter; `agent_cost_total_usd` is the same number once more, because
exposition formats append `_total` to a counter's name, and queries ask for that one.
Money that tools cost has `model="none"`.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server

from remit.adapters.telemetry import names
from remit.adapters.telemetry.collectors import BUCKETS, Costs, Counts, Durations
from remit.core.errors import RemitError
from remit.core.outcomes import Done, Failed, Refused, Suspended, Unknown
from remit.core.quota import Quota
from remit.core.runs import RunStatus
from remit.ports.services import (
    EffectEnded,
    FirstText,
    RunStarted,
    RunStopped,
    TelemetryEvent,
    ThresholdCrossed,
)

# A suspended run has not ended: it is counted when it does.
_TOOL_OF_KIND: Final[Mapping[str, str]] = MappingProxyType(
    {
        "model": names.TOOL_OF_MODEL_CALLS,
        "memory_read": names.TOOL_OF_MEMORY,
        "memory_write": names.TOOL_OF_MEMORY,
    }
)
TASK_STATUS: Final[Mapping[RunStatus, str]] = MappingProxyType(
    {
        "succeeded": "success",
        "failed": "error",
        "timed_out": "timeout",
        "refused": "refused",
        "cancelled": "cancelled",
    }
)
REFUSALS: Final = (
    "policy.denied",
    "tool.not_granted",
    "data.denied",
    "rate.limited",
    "budget.exhausted",
    "agent.paused",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsServer:
    """A running HTTP server of the metrics; `port` is the one it really has."""

    port: int
    _server: WSGIServer
    _thread: threading.Thread

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Metrics:
    """Counts events; a `Telemetry` sink."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._costs = Costs()
        registry.register(self._costs)
        self._tasks = Counter(names.TASKS, "Runs that ended.", ("agent_name", "status"), registry=registry)
        self._durations = Durations(
            names.TASK_DURATION,
            "Duration of performed calls of tools, of model calls (llm) and of whole runs (run).",
            ("agent_name", "tool"),
        )
        registry.register(self._durations)
        self._first_text = Histogram(
            names.FIRST_TEXT,
            "Time from a streamed model call to the first text of its reply.",
            ("agent_name", "model"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._active = Gauge(names.ACTIVE_RUNS, "Runs at work now.", ("agent_name",), registry=registry)
        self._decisions = Counts(names.DECISIONS, "Decisions of the gate.", ("agent_name", "effect", "code"))
        registry.register(self._decisions)
        self._isolated = Counts(
            names.ISOLATED_CALLS, "Calls of tools in a sandbox.", ("agent_name", "tool", "isolation_level")
        )
        registry.register(self._isolated)
        self._alerts = Counter(
            names.ALERTS,
            "Thresholds of spending that were crossed.",
            ("agent_name", "scope", "threshold"),
            registry=registry,
        )
        self._messages = Counter(
            names.MESSAGES,
            "Tries to deliver a message of the outbox, by what became of it.",
            ("topic", "result"),
            registry=registry,
        )
        self._dropped = Counter(
            names.SPANS_DROPPED, "Spans and lines that were lost.", ("sink",), registry=registry
        )
        self._errors = Counter(
            names.TELEMETRY_ERRORS, "Events that a telemetry sink failed on.", ("sink",), registry=registry
        )
        for sink in ("traces", "otlp", "log"):
            self._dropped.labels(sink)
        of = ("provider", "model", "kind")
        said = "as its last response said."
        self._quota_limit = Gauge(names.QUOTA_LIMIT, f"A provider's limit, {said}", of, registry=registry)
        self._quota_remaining = Gauge(
            names.QUOTA_REMAINING, f"What a provider still allows, {said}", of, registry=registry
        )
        self._quota_resets = Gauge(
            names.QUOTA_RESETS, f"When a provider's limit is whole again, {said}", of, registry=registry
        )
        self._running: defaultdict[str, set[str]] = defaultdict(set)

    def declare(self, agent: str, tools: Sequence[str], model: str) -> None:
        """Make the series that `agent` can have, at 0, so that the first event is a rise and not a birth."""
        for status in TASK_STATUS.values():
            self._tasks.labels(agent, status)
        for tool in (*tools, names.TOOL_OF_MODEL_CALLS, names.TOOL_OF_RUNS):
            self._durations.declare((agent, tool))
        self._decisions.add((agent, "allow", "allowed"), 0)
        for code in REFUSALS:
            self._decisions.add((agent, "deny", code), 0)
        self._active.labels(agent)
        self._costs.add((agent, model), 0)

    def emit(self, event: TelemetryEvent) -> None:
        """Count `event`."""
        if isinstance(event, EffectEnded):
            self._effect(event)
        elif isinstance(event, RunStarted):
            running = self._running[event.run.agent]
            running.add(event.run.id)
            self._active.labels(event.run.agent).set(len(running))
        elif isinstance(event, RunStopped):
            self._stopped(event)
        elif isinstance(event, FirstText):
            self._first_text.labels(event.run.agent, event.model).observe(event.after_us / 1_000_000)
        elif isinstance(event, ThresholdCrossed):
            # The scope's kind alone: the rest of it may be a run's id.
            kind = event.alert.scope.split(":", 1)[0]
            self._alerts.labels(event.agent, kind, str(event.alert.threshold_percent)).inc()

    def see_quota(self, quota: Quota) -> None:
        """Take what a provider still allows."""
        labels = (quota.provider, quota.model, quota.kind)
        self._quota_limit.labels(*labels).set(quota.limit)
        self._quota_remaining.labels(*labels).set(quota.remaining)
        if quota.resets_at_us is not None:
            self._quota_resets.labels(*labels).set(quota.resets_at_us / 1_000_000)

    def count_lost(self, sink: str, count: int) -> None:
        """Count what `sink` lost."""
        self._dropped.labels(sink).inc(count)

    def count_message(self, topic: str, result: str) -> None:
        """Count a try to deliver a message of `topic`: delivered, waiting (to be tried again) or dead."""
        self._messages.labels(topic, result).inc()

    def count_error(self, sink: str) -> None:
        """Count an event that `sink` failed on."""
        self._errors.labels(sink).inc()

    def expose(self) -> bytes:
        """All series in Prometheus' text format."""
        return generate_latest(self._registry)

    def serve(self, address: str) -> MetricsServer:
        """Serve the metrics over HTTP at `host:port`; port 0 takes a free one.

        Raises: RemitError `usage.invalid` for an address that is none, or is taken.
        """
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise RemitError(
                "usage.invalid", f"{address!r} is no address for metrics", remedy="give it as HOST:PORT"
            )
        try:
            server, thread = start_http_server(int(port), host.strip("[]"), self._registry)
        except (OSError, OverflowError) as error:
            raise RemitError(
                "usage.invalid",
                f"metrics cannot be served at {address}",
                cause=str(error),
                remedy="give another address, or stop what has this one",
            ) from error
        return MetricsServer(port=server.server_port, _server=server, _thread=thread)

    def _effect(self, event: EffectEnded) -> None:
        outcome, agent, action = event.outcome, event.run.agent, event.action
        decision = outcome.decision if isinstance(outcome, (Refused, Suspended)) else event.decision
        replayed = isinstance(outcome, (Done, Failed)) and outcome.replayed
        if not replayed:
            self._decisions.add((agent, decision.effect, decision.code), 1)
        if replayed or not isinstance(outcome, (Done, Failed, Unknown)):
            return
        if action.kind != "release":
            tool = action.resource if action.kind == "tool" else _TOOL_OF_KIND[action.kind]
            self._durations.observe((agent, tool), event.duration_us)
        if event.isolation != "none":
            self._isolated.add((agent, action.resource, event.isolation), 1)
        if not isinstance(outcome, Unknown) and outcome.cost_nano_usd:
            model = action.resource if action.kind == "model" else names.MODEL_OF_TOOL_COSTS
            self._costs.add((agent, model), outcome.cost_nano_usd)

    def _stopped(self, event: RunStopped) -> None:
        agent = event.run.agent
        running = self._running[agent]
        running.discard(event.run.id)
        self._active.labels(agent).set(len(running))
        status = TASK_STATUS.get(event.end.status)
        if status is not None:
            self._tasks.labels(agent, status).inc()
            self._durations.observe((agent, names.TOOL_OF_RUNS), event.duration_us)
