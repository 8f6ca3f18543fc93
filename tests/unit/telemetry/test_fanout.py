from __future__ import annotations

from telemetry_samples import a_run, started

from remit.adapters.telemetry.fanout import Fanout
from remit.adapters.telemetry.metrics import Metrics
from remit.ports.services import TelemetryEvent


class Kept:
    def __init__(self) -> None:
        self.events: list[TelemetryEvent] = []

    def emit(self, event: TelemetryEvent) -> None:
        self.events.append(event)


class Broken:
    def emit(self, event: TelemetryEvent) -> None:
        raise RuntimeError("the sink is broken")


def test_a_sink_that_raises_takes_nothing_from_the_others_and_is_counted() -> None:
    metrics, before, after = Metrics(), Kept(), Kept()
    fanout = Fanout({"before": before, "broken": Broken(), "after": after}, failed=metrics.count_error)
    event = started(a_run())
    fanout.emit(event)
    fanout.emit(event)
    assert before.events == after.events == [event, event]
    assert b'remit_telemetry_errors_total{sink="broken"} 2.0' in metrics.expose()


def test_no_sinks_is_nothing_to_do() -> None:
    failed: list[str] = []
    Fanout({}, failed=failed.append).emit(started(a_run()))
    assert failed == []
