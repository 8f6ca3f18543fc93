"""The log: one JSON object a line, made by orjson, in a thread of its own.

Promises: `emit` neither waits nor raises; a line is written whole or not at all, within half a second of its event;
failures have level ERROR, refusals WARNING. Arguments, results and texts are never in it, but for the few
fields that `content` names. Money is a plain decimal number of dollars, so it sorts. Rotation is the
platform's part: the file is opened anew for every write, so it may be moved away at any time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import orjson

from remit.adapters.telemetry import names
from remit.adapters.telemetry.batches import Batches, BatchOptions
from remit.adapters.telemetry.spans import SpanMaker, SpanRecord
from remit.core import audit
from remit.core.money import usd_text
from remit.ports.services import TelemetryEvent, ThresholdCrossed

LogSink: TypeAlias = Literal["stdout", "stderr"] | Path

_EVENT_OF_KIND: Final[Mapping[str, str]] = MappingProxyType(
    {
        "tool": names.LOG_TOOL_CALL,
        "model": names.LOG_LLM_CALL,
        "release": names.LOG_RELEASE,
        "memory_read": names.LOG_MEMORY,
        "memory_write": names.LOG_MEMORY,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """How lines are batched."""

    batches: BatchOptions = field(default_factory=BatchOptions)


class JsonLog:
    """Writes events as JSON lines to `sink`; a `Telemetry` sink.

    `lost(count)` is told of lines that were lost, `notice(text)` why.
    """

    def __init__(
        self,
        sink: LogSink,
        spans: SpanMaker,
        *,
        lost: Callable[[int], None],
        notice: Callable[[str], None],
        options: LogOptions,
    ) -> None:
        self._sink = sink
        self._spans = spans
        self._second = (-1, "")
        self._batches: Batches[SpanRecord | bytes] = Batches(
            "log", self._write, lost=lost, notice=notice, options=options.batches
        )

    def emit(self, event: TelemetryEvent) -> None:
        """Queue `event`; its line is made by the writer's thread."""
        if isinstance(event, ThresholdCrossed):
            self._batches.put(self._alert(event))
        elif (span := self._spans.span_of(event)) is not None:
            self._batches.put(span)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until all lines are written or lost; False where that took too long."""
        return self._batches.flush(timeout_s)

    def close(self) -> None:
        """Write what waits. May be called twice."""
        self._batches.close()

    def _write(self, batch: list[SpanRecord | bytes]) -> None:
        lines = [item if isinstance(item, bytes) else self._line(item) for item in batch]
        data = b"".join(lines)
        if isinstance(self._sink, Path):
            self._sink.parent.mkdir(parents=True, exist_ok=True)
            with self._sink.open("ab", buffering=0) as file:
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
        elif data:
            stream = sys.stdout if self._sink == "stdout" else sys.stderr
            stream.flush()
            stream.buffer.write(data)
            stream.buffer.flush()

    def _line(self, span: SpanRecord) -> bytes:
        if span.kind == "attempt":
            # An attempt that nothing follows is told by the run's own end.
            line = self._retry(span) if span.retry_in_s is not None else None
        elif span.kind == "run":
            line = self._run(span)
        else:
            line = self._effect(span)
        return b"" if line is None else orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

    def _effect(self, span: SpanRecord) -> dict[str, Any]:
        name, level = _EVENT_OF_KIND[span.kind], "INFO"
        if span.state in ("refused", "suspended"):
            name, level = names.LOG_BLOCKED, "WARNING"
        elif span.failed:
            level = "ERROR"
        line = self._head(level, name, span)
        line["model" if span.kind == "model" else "tool"] = span.resource
        line["state"] = span.state
        if span.code:
            line["code"] = span.code
        if name == names.LOG_BLOCKED:
            line |= {"effect": span.effect, "rule": span.rule, "source": span.source}
        line["step"] = span.step
        line["attempt"] = span.attempt
        line["duration_ms"] = (span.duration_us or 0) // 1000
        if name == names.LOG_LLM_CALL:
            line |= _tokens(span)
            line["cost"] = _usd(span.cost_nano_usd)
        elif span.cost_nano_usd:
            line["cost"] = _usd(span.cost_nano_usd)
        if span.replayed:
            line["replayed"] = True
        if span.truncated:
            line["truncated"] = True
        if span.state == "suspended":
            line["approval_id"] = span.approval_id
        return line | span.shown if span.extra else line

    def _run(self, span: SpanRecord) -> dict[str, Any]:
        if span.duration_us is None:
            return self._head("INFO", names.LOG_RUN_STARTED, span)
        if span.state == "suspended":
            line = self._head("INFO", names.LOG_RUN_SUSPENDED, span)
        else:
            level = "INFO" if span.state == "succeeded" else "ERROR"
            line = self._head(level, names.LOG_RUN_ENDED, span)
        line["status"] = span.state
        if span.code:
            line["code"] = span.code
        line["duration_ms"] = span.duration_us // 1000
        line |= _tokens(span)
        line["cost"] = _usd(span.cost_nano_usd)
        return line

    def _retry(self, span: SpanRecord) -> dict[str, Any]:
        line = self._head("WARNING", names.LOG_RETRY, span)
        line["attempt"] = span.attempt
        line["error"] = span.error
        line["retry_in_s"] = span.retry_in_s
        return line

    def _alert(self, event: ThresholdCrossed) -> bytes:
        alert, run = event.alert, event.run
        line = {
            "ts": audit.timestamp(self._spans.now_us()),
            "level": "WARNING",
            "event": names.LOG_ALERT,
            "agent": event.agent,
            "scope": alert.scope,
            "threshold_percent": alert.threshold_percent,
            "spent": _usd(alert.spent_nano_usd),
            "cap": _usd(alert.cap_nano_usd),
        }
        if run is not None:
            line |= {"trace_id": run.trace_id, "run_id": run.id}
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

    def _head(self, level: str, name: str, span: SpanRecord) -> dict[str, Any]:
        return {
            "ts": self._timestamp(span.started_us + (span.duration_us or 0)),
            "level": level,
            "event": name,
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "run_id": span.run_id,
            "agent": span.agent,
        }

    def _timestamp(self, at_us: int) -> str:
        # Writing a date costs more than the rest of the line: the second's is kept.
        second, rest = divmod(at_us, 1_000_000)
        kept, prefix = self._second
        if second != kept:
            prefix = audit.timestamp(second * 1_000_000)[:20]
            self._second = (second, prefix)
        return f"{prefix}{rest:06d}Z"


def _tokens(span: SpanRecord) -> dict[str, int]:
    tokens = {
        "input_tokens": span.input_tokens + span.cache_read_tokens + span.cache_write_tokens,
        "output_tokens": span.output_tokens,
    }
    if span.cache_read_tokens:
        tokens["cache_read_tokens"] = span.cache_read_tokens
    if span.cache_write_tokens:
        tokens["cache_write_tokens"] = span.cache_write_tokens
    return tokens


def _usd(nano_usd: int) -> orjson.Fragment:
    # A fragment keeps the exact decimal: no float, no exponent, no quotes.
    return orjson.Fragment(usd_text(nano_usd))
