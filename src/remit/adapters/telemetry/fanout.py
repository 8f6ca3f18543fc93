"""One event to several sinks.

Promise: `emit` never raises, and a sink that fails takes nothing from the others; its failures are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from remit.ports.services import Telemetry, TelemetryEvent


class Fanout:
    """A `Telemetry` that hands every event to each of `sinks`, which are known by their names."""

    def __init__(self, sinks: Mapping[str, Telemetry], *, failed: Callable[[str], None]) -> None:
        self._sinks = tuple((name, sink.emit) for name, sink in sinks.items())
        self._failed = failed

    def emit(self, event: TelemetryEvent) -> None:
        """Hand `event` to every sink."""
        for name, emit in self._sinks:
            try:
                emit(event)
            except Exception:  # noqa: BLE001 - showing what happened must not undo it; the failure is counted
                self._failed(name)
