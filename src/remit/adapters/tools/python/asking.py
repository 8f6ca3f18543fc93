"""Asks modules in a sandbox what tools they declare."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from remit.adapters.sandbox.pool import Request, SandboxPool, nothing_granted
from remit.adapters.sandbox.settings import SandboxSettings
from remit.core.errors import RemitError
from remit.ports.effects import EffectFailed
from remit.ports.services import Clock

DECLARE_S = 30.0
BYTES_MAX = 4_000_000


def ask_declarations(settings: SandboxSettings, clock: Clock) -> Any:
    """What the modules say, unchecked. Blocks. Raises: RemitError `config.invalid`, `sandbox.unavailable`."""
    # the caller may be on an event loop already
    with ThreadPoolExecutor(1, "remit-declare") as one:
        return one.submit(asyncio.run, _ask(settings, clock)).result()


async def _ask(settings: SandboxSettings, clock: Clock) -> Any:
    pool = SandboxPool(replace(settings, warm=0, processes_max=1), clock)
    try:
        await pool.start()
        request = Request(
            message={"declare": True}, timeout_s=DECLARE_S, bytes_max=BYTES_MAX, answer=nothing_granted
        )
        return await pool.ask(request)
    except EffectFailed as error:
        raise RemitError(
            "config.invalid", error.message, cause="its declarations could not be read"
        ) from error
    finally:
        await pool.close()
