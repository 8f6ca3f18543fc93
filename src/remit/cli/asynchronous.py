"""Runs a command's coroutine on an event loop, and lets signals end it cleanly."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

from remit.core.errors import RemitError

T = TypeVar("T")

DRAIN = "REMIT_DRAIN_S"
GRACE_S = 10.0

grace_option = click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(0, 86_400),
    help=f"Seconds that SIGTERM and Ctrl-C leave a run to finish ({DRAIN}, else {GRACE_S:g}).",
)


class Drain:
    """What SIGTERM and Ctrl-C do to a command that runs agents.

    The first lets runs finish within the grace time and then hands them over: they wait in the journal, with nothing
    lost. The second hands them over at once. The third ends the command, as does the first before an agent is open.
    """

    def __init__(self, grace_s: float | None) -> None:
        self.grace_s = _grace_s() if grace_s is None else grace_s
        self._hand_over: Callable[[], None] | None = None
        self._take_nothing: Callable[[], None] = _nothing
        self._signals = 0

    def opened(self, hand_over: Callable[[], None], take_nothing: Callable[[], None] | None = None) -> None:
        """Now there is something to hand over; `take_nothing`: begin no further run."""
        self._hand_over = hand_over
        self._take_nothing = take_nothing or _nothing

    def signal(self, task: asyncio.Future[Any]) -> None:
        """One more signal has come."""
        self._signals += 1
        if self._hand_over is None or self._signals > 2:
            task.cancel()
            return
        self._take_nothing()
        if self._signals == 2 or self.grace_s == 0:
            self._hand_over()
            return
        print(
            f"remit: runs may finish within {self.grace_s:g} s, then they are handed over; once more to do so now",
            file=sys.stderr,
        )
        asyncio.get_running_loop().call_later(self.grace_s, self._hand_over)


def run_async(work: Coroutine[Any, Any, T], drain: Drain | None = None) -> T:
    """Run `work`; SIGTERM and Ctrl-C cancel it, or drain it, and it cleans up behind itself.

    Raises: KeyboardInterrupt where it was cancelled so.
    """

    async def main() -> T:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            if drain is None:
                loop.add_signal_handler(number, task.cancel)
            else:
                loop.add_signal_handler(number, drain.signal, task)
        return await task

    # a scripted model that is cut off in the middle of a delay is no error to show a stack for
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def _nothing() -> None:
    """There is nothing to be told."""


def _grace_s() -> float:
    """REMIT_DRAIN_S. Raises: RemitError `usage.invalid`."""
    text = os.environ.get(DRAIN)
    try:
        seconds = GRACE_S if not text else float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise RemitError("usage.invalid", f"{DRAIN}={text!r} is no number of seconds", remedy="write 30")
    return seconds
