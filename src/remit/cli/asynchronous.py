"""Runs a command's work in an event loop, and lets signals end it cleanly."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run `work`; SIGTERM and Ctrl-C cancel it, and it cleans up behind itself.

    Raises: KeyboardInterrupt where it was cancelled so.
    """

    async def main() -> T:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        return await task

    # a scripted model that is cut off in the middle of a delay is no error to show a stack for
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
