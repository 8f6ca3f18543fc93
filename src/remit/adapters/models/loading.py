"""The SDKs are loaded on first need, in a thread; at the top of a module they would cost every command 1 to 2 s."""

from __future__ import annotations

import asyncio
import gc
import importlib


async def load(module: str) -> None:
    """Import `module` without keeping anybody waiting."""
    await asyncio.to_thread(_import, module)


def _import(module: str) -> None:
    """Collecting garbage meanwhile finds none and takes about 15 % of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        importlib.import_module(module)
    finally:
        if was_enabled:
            gc.enable()
