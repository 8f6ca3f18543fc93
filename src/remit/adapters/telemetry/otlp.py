"""Spans over OTLP (HTTP, protobuf), where the operator names an endpoint, and only then.

Promises: spans are built after the fact, by the batch processor's thread, so nothing of the SDK stands on the
hot path but one append to its queue; queue, batches, retries and time-outs are the SDK's own, with its own `OTEL_BSP_*`
and `OTEL_EXPORTER_OTLP_*` variables. What the collector did not take is counted.

A run that waits for a person has not ended, so its span is sent when it has. The SDK is imported when the
first sender is made: it costs 0.2 s, which no other command pays.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from remit.adapters.telemetry import content, names
from remit.adapters.telemetry.spans import SpanMaker, SpanRecord
from remit.core.errors import RemitError
from remit.core.models import provider_of
from remit.ports.services import RunStarted, RunStopped, TelemetryEvent

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpOptions:
    """Where to send: `endpoint` is the full URL, ending in `/v1/traces` as a rule."""

    endpoint: str


def options_of(environ: Mapping[str, str]) -> OtlpOptions | None:
    """What the standard variables ask for; None where they name no endpoint or switch it off.

    Raises: RemitError `config.invalid` for a protocol other than `http/protobuf`.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "none":
        return None
    endpoint = environ.get(_TRACES_ENDPOINT, "").strip()
    base = environ.get(_ENDPOINT, "").strip()
    if not endpoint and not base:
        return None
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        raise RemitError(
            "config.invalid",
            f"OTLP over {protocol!r} is not spoken",
            remedy="set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf and the collector's HTTP port (4318)",
        )
    return OtlpOptions(endpoint=endpoint or base.rstrip("/") + "/v1/traces")


class OtlpSpans:
    """Sends spans to a collector; a `Telemetry` sink. `lost(count)` is told what was not taken.

    Raises: RemitError `toolset.unavailable` where the extra `remit[otlp]` is not installed.
    """

    def __init__(self, options: OtlpOptions, spans: SpanMaker, *, lost: Callable[[int], None]) -> None:
        # Start-up time: the SDK is wanted only where an endpoint is set.
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
                OTLPSpanExporter,
            )
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        except ImportError as error:
            raise RemitError(
                "toolset.unavailable",
                "an OTLP endpoint is set, but the OTLP exporter is not installed",
                cause=str(error),
                remedy="install remit[otlp], or unset OTEL_EXPORTER_OTLP_ENDPOINT",
            ) from error
        self._span_of = spans.span_of
        exporter, self._waiting = _sender(OTLPSpanExporter(endpoint=options.endpoint), lost)
        self._processor = BatchSpanProcessor(exporter)

    def emit(self, event: TelemetryEvent) -> None:
        """Queue the span of `event`; starts, waits and thresholds have none."""
        if isinstance(event, RunStarted) or (
            isinstance(event, RunStopped) and event.end.status == "suspended"
        ):
            return
        span = self._span_of(event)
        if span is not None:
            self._processor.on_end(self._waiting(span))

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Send what waits; False where that took too long."""
        return bool(self._processor.force_flush(int(timeout_s * 1000)))

    def close(self) -> None:
        """Send what waits and end the sender's thread."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]


class SpanBuilder:
    """Makes the SDK's spans from ours."""

    def __init__(self) -> None:
        # Start-up time: see the module.
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.sdk import trace as sdk  # noqa: PLC0415
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

        self._trace = trace
        self._sdk = sdk
        self._scope = InstrumentationScope(names.SCOPE, _version())
        self._resource = _resource()
        self._flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        self._ok = trace.Status(trace.StatusCode.OK)

    def __call__(self, span: SpanRecord) -> ReadableSpan:
        """The SDK's span of `span`, ended."""
        trace = self._trace
        trace_id = int(span.trace_id, 16)
        parent_id = span.parent_id
        ended_us = span.started_us + (span.duration_us or 0)
        events: tuple[Any, ...] = ()
        if span.kind == "attempt" and span.failed:
            retry = {names.ATTEMPT_NUMBER: span.attempt, **span.extra}
            events = (self._sdk.Event(names.RETRY_EVENT, retry, timestamp=ended_us * 1000),)
        return self._sdk.ReadableSpan(
            name=span_name(span),
            context=trace.SpanContext(trace_id, int(span.span_id, 16), False, self._flags),
            parent=trace.SpanContext(trace_id, int(parent_id, 16), False, self._flags) if parent_id else None,
            resource=self._resource,
            attributes=attributes(span),
            events=events,
            kind=trace.SpanKind.CLIENT if span.kind == "model" else trace.SpanKind.INTERNAL,
            status=self._status(span),
            start_time=span.started_us * 1000,
            end_time=ended_us * 1000,
            instrumentation_scope=self._scope,
        )

    def _status(self, span: SpanRecord) -> Any:
        if span.failed:
            code = span.code or span.extra.get(names.RETRY_ERROR) or span.state
            return self._trace.Status(self._trace.StatusCode.ERROR, str(code))
        return self._ok


_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "attempt": names.ATTEMPT,
        "release": names.RELEASE,
        "memory_read": names.MEMORY_READ,
        "memory_write": names.MEMORY_WRITE,
    }
)


def span_name(span: SpanRecord) -> str:
    """The span's name by the conventions; of low cardinality but for what a model may have made up."""
    if span.kind == "run":
        return f"{names.INVOKE_AGENT} {span.agent}"
    if span.kind == "tool":
        return f"{names.EXECUTE_TOOL} {content.cut(span.resource, content.SHOWN_CHARS_MAX)}"
    if span.kind == "model":
        return f"{names.CHAT} {span.resource}"
    return _NAMES[span.kind]


def attributes(span: SpanRecord) -> dict[str, Any]:
    """The span's attributes by the conventions and ours; what is empty is left out."""
    found: dict[str, Any] = {
        names.RUN_ID: span.run_id,
        names.TENANT: span.tenant,
        names.AGENT_NAME: span.agent,
        names.REMIT_DIGEST: span.remit_digest,
    }
    if span.kind == "run":
        found |= {names.AGENT_SPAN: "agent.run", names.OPERATION: names.INVOKE_AGENT}
        found |= {names.RUN_STATUS: span.state} | _usage(span)
    elif span.kind == "attempt":
        found |= {names.AGENT_SPAN: f"agent.attempt.{span.attempt}", names.ATTEMPT_NUMBER: span.attempt}
        return found
    else:
        found |= _effect(span)
    if span.failed:
        found[names.ERROR_TYPE] = span.code or span.state
    for name, value in span.extra.items():
        found[name] = [value] if name == names.FINISH_REASONS else value
    return found


def _effect(span: SpanRecord) -> dict[str, Any]:
    found: dict[str, Any] = {
        names.STATE: span.state,
        names.EFFECT: span.effect,
        names.DECISION_CODE: span.decision_code,
        names.RULE: span.rule,
        names.SOURCE: span.source,
        names.ACTION_DIGEST: span.digest,
        names.STEP: span.step,
        names.ATTEMPT_NUMBER: span.attempt,
    }
    if span.kind == "model":
        found |= {names.AGENT_SPAN: "llm.call", names.OPERATION: names.CHAT}
        found |= {names.PROVIDER: provider_of(span.resource), names.REQUEST_MODEL: span.resource}
        found |= _usage(span)
    elif span.kind == "tool":
        found |= {names.AGENT_SPAN: f"tool.{span.resource}", names.OPERATION: names.EXECUTE_TOOL}
        found[names.TOOL_NAME] = span.resource
        if span.cost_nano_usd:
            found[names.COST_NANO_USD] = span.cost_nano_usd
    else:
        found[names.AGENT_SPAN] = f"agent.{span.kind}"
    if span.truncated:
        found[names.TRUNCATED] = True
    if span.replayed:
        found[names.REPLAYED] = True
    return found


def _usage(span: SpanRecord) -> dict[str, int]:
    return {
        names.INPUT_TOKENS: span.input_tokens + span.cache_read_tokens + span.cache_write_tokens,
        names.OUTPUT_TOKENS: span.output_tokens,
        names.CACHE_READ_TOKENS: span.cache_read_tokens,
        names.CACHE_WRITE_TOKENS: span.cache_write_tokens,
        names.COST_NANO_USD: span.cost_nano_usd,
    }


def _sender(
    exporter: SpanExporter, lost: Callable[[int], None]
) -> tuple[SpanExporter, Callable[[SpanRecord], ReadableSpan]]:
    """`exporter`, which builds what waits and counts what it cannot deliver; and what makes a span wait."""
    # Start-up time: see the module.
    from opentelemetry import trace  # noqa: PLC0415
    from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult  # noqa: PLC0415

    build = SpanBuilder()
    sampled = trace.SpanContext(1, 1, False, trace.TraceFlags(trace.TraceFlags.SAMPLED))

    class Waiting(ReadableSpan):
        """A span in the processor's queue, which reads no more of it than that it is sampled.

        The rest costs 13 us to build, and is built by the processor's thread.
        """

        def __init__(self, record: SpanRecord) -> None:
            self._context = sampled
            self.record = record

    class Sender(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            built = [build(span.record) if isinstance(span, Waiting) else span for span in spans]
            result = exporter.export(built)
            if result is not SpanExportResult.SUCCESS:
                lost(len(spans))
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return exporter.force_flush(timeout_millis)

    return Sender(), Waiting


def _resource() -> Resource:
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource  # noqa: PLC0415 - see the module

    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are in it already; ours fills what they leave open.
    given = Resource.create({SERVICE_VERSION: _version()})
    if str(given.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        return given.merge(Resource({SERVICE_NAME: names.SERVICE_NAME}))
    return given


def _version() -> str:
    try:
        return importlib.metadata.version("remit")
    except importlib.metadata.PackageNotFoundError:
        return "0"
