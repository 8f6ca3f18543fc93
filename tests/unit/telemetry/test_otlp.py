from __future__ import annotations

import gzip
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from telemetry_samples import (
    AGENT,
    DENY,
    RUN_ID,
    T0,
    FixedClock,
    a_model_call,
    a_release,
    a_run,
    a_tool_call,
    attempt_ended,
    crossed,
    ended,
    model_done,
    started,
    stopped,
)

from remit.adapters.telemetry.otlp import OtlpOptions, OtlpSpans, options_of
from remit.adapters.telemetry.spans import SpanMaker
from remit.core import ids
from remit.core.errors import RemitError
from remit.core.outcomes import Done, Refused

RUN = a_run()


class Collector:
    """A real HTTP receiver on the loopback, which decodes what it gets."""

    def __init__(self, status: int = 200) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: list[str] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.paths.append(self.path)
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def resource(self) -> dict[str, Any]:
        return plain(self.requests[0].resource_spans[0].resource.attributes)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def plain(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def sent(collector: Collector, *events: Any, capture: bool = False) -> list[Any]:
    options = options_of({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert options is not None
    lost: list[int] = []
    sender = OtlpSpans(options, SpanMaker(FixedClock(), capture_content=capture), lost=lost.append)
    for event in events:
        sender.emit(event)
    assert sender.flush()
    sender.close()
    assert lost == []
    return collector.spans


def test_a_collector_gets_one_tree(collector: Collector) -> None:
    spans = sent(
        collector,
        started(RUN),
        ended(RUN, a_model_call(RUN), model_done(), took=900),
        ended(RUN, a_tool_call(RUN)),
        ended(RUN, a_tool_call(RUN, 1, tool="get_customer", args={}), Refused(decision=DENY)),
        ended(RUN, a_release(RUN), Done(value="text")),
        attempt_ended(RUN, 1, "model.unavailable", 1.5),
        crossed(RUN),
        stopped(RUN),
    )
    assert set(collector.paths) == {"/v1/traces"}
    by_name = {span.name: span for span in spans}
    assert len(by_name) == len(spans) == 6
    root, attempt = by_name[f"invoke_agent {AGENT}"], by_name["agent.attempt"]
    assert root.parent_span_id == b""
    assert attempt.parent_span_id == root.span_id == bytes.fromhex(ids.span_id(RUN_ID))
    effects = [span for span in spans if span not in (root, attempt)]
    assert {span.parent_span_id for span in effects} == {attempt.span_id}
    assert {span.trace_id for span in spans} == {bytes.fromhex(RUN.trace_id)}

    chat = by_name["chat claude-sonnet-4-20250514"]
    assert chat.kind == chat.SPAN_KIND_CLIENT
    assert (chat.start_time_unix_nano, chat.end_time_unix_nano) == (T0 * 1000, (T0 + 900) * 1000)
    assert plain(chat.attributes)["gen_ai.usage.input_tokens"] == 1000

    blocked = by_name["execute_tool get_customer"]
    assert blocked.status.code == blocked.status.STATUS_CODE_ERROR
    assert blocked.status.message == "data.denied"
    assert plain(blocked.attributes)["remit.decision.source"] == "agent-config.yaml:18"
    assert root.status.code == root.status.STATUS_CODE_OK

    (retry,) = attempt.events
    assert retry.name == "retry"
    assert plain(retry.attributes) == {
        "agent.attempt.number": 1,
        "retry.error": "model.unavailable",
        "retry.in_s": 1.5,
    }


def test_content_is_sent_only_where_it_is_asked_for(collector: Collector) -> None:
    event = ended(RUN, a_tool_call(RUN, args={"query": "secret"}))
    assert "secret" not in str(sent(collector, event))
    collector.requests.clear()
    assert "secret" in str(sent(collector, event, capture=True))


def test_a_waiting_run_is_sent_when_it_has_ended(collector: Collector) -> None:
    spans = sent(collector, stopped(RUN, "suspended"), stopped(RUN))
    assert [plain(span.attributes)["remit.run.status"] for span in spans] == ["succeeded"]


def test_the_service_is_named(collector: Collector) -> None:
    sent(collector, stopped(RUN))
    assert collector.resource["service.name"] == "remit"
    assert collector.resource["service.version"]


def test_the_operators_service_name_is_honoured(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "support-desk")
    sent(collector, stopped(RUN))
    assert collector.resource["service.name"] == "support-desk"


def test_what_the_collector_refuses_is_counted() -> None:
    collector = Collector(status=400)
    lost: list[int] = []
    sender = OtlpSpans(
        OtlpOptions(endpoint=f"{collector.url}/v1/traces"), SpanMaker(FixedClock()), lost=lost.append
    )
    sender.emit(ended(RUN, a_tool_call(RUN)))
    sender.emit(stopped(RUN))
    sender.flush()
    sender.close()
    collector.close()
    assert sum(lost) == 2


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/x/"}, "http://c:4318/x/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/here"}, "http://c/here"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, None),
    ],
)
def test_the_standard_variables(environ: dict[str, str], endpoint: str | None) -> None:
    options = options_of(environ)
    assert (options.endpoint if options else None) == endpoint


def test_another_protocol_is_told() -> None:
    with pytest.raises(RemitError) as error:
        options_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert error.value.code == "config.invalid"


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules is what Python itself has for a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(RemitError) as error:
        OtlpSpans(OtlpOptions(endpoint="http://c"), SpanMaker(FixedClock()), lost=print)
    assert "remit[otlp]" in error.value.remedy
