"""A run's replies shown while they are made: each piece with its attempt, a reset where an attempt is void.

Nothing here is recorded or decided on: what counts is the reply that the gate returns.
"""

from __future__ import annotations

from remit.core.runs import Run
from remit.ports.services import Clock, FirstText, Stream, Telemetry, TextSink


class Streaming:
    """What was shown of one run. `sink` None shows nothing, and asks no model to stream."""

    def __init__(self, run: Run, sink: Stream | None, clock: Clock, telemetry: Telemetry) -> None:
        self._run = run
        self._sink = sink
        self._clock = clock
        self._telemetry = telemetry
        self._model = ""
        self._began_ns = 0
        self._waiting = False
        self._shown_in = 0

    @property
    def has_shown(self) -> bool:
        """Whether any text of the run was shown."""
        return self._shown_in > 0

    def begin(self, model: str) -> None:
        """A model is about to be called."""
        self._model = model
        self._began_ns = self._clock.monotonic_ns()
        self._waiting = True

    def text_sink(self, attempt: int) -> TextSink | None:
        """What to tell the pieces of an attempt's replies to."""
        sink = self._sink
        if sink is None:
            return None

        def tell(text: str) -> None:
            if self._waiting:
                self._waiting = False
                after_us = (self._clock.monotonic_ns() - self._began_ns) // 1000
                self._telemetry.emit(FirstText(run=self._run, model=self._model, after_us=after_us))
            self._shown_in = attempt
            sink.text(attempt, text)

        return tell

    def void(self, attempt: int) -> None:
        """An attempt failed: what was shown of it does not count."""
        if self._sink is not None and self._shown_in == attempt:
            self._sink.reset(attempt)
