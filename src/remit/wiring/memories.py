"""Which store agents remember in: a file in the home, or the one that REMIT_MEMORY_URL names."""

from __future__ import annotations

from collections.abc import Callable

from remit.adapters.memory.notes import Notes
from remit.adapters.memory.sqlite import SqliteMemory
from remit.core.errors import RemitError
from remit.governance.memories import MemoryGrant
from remit.ports.memory import Memory
from remit.ports.services import Clock
from remit.wiring.deployment import Deployment

MEMORY_FILE = "memory.db"
PURGE_EVERY_S = 3600.0
KEPT_AFTER_US = 86_400_000_000
"""So long after its time a text is still there for runs that began with it, and for no other."""


async def purging(memory: Memory, clock: Clock, notice: Callable[[str], None]) -> None:
    """Every now and then, remove what expired a day ago, until this is cancelled. A run that waits may need it so long."""
    while True:
        try:
            await memory.purge(clock.now_us() - KEPT_AFTER_US)
        except RemitError as error:  # what expired is not shown either way, and the next time it may work
            notice(f"what expired could not be removed from the memory: {error}")
        await clock.sleep(PURGE_EVERY_S)


def note_tools(memory: Memory, grant: MemoryGrant, clock: Clock) -> Notes:
    """The tools `remember` and `recall`, within what is granted."""
    return Notes(
        memory,
        clock,
        grant.note_limits,
        note_bytes_max=grant.note_bytes_max,
        ttl_us=grant.note_ttl_us,
    )


def open_memory(deployment: Deployment) -> Memory:
    """The store, which is reached for once something is wanted of it."""
    return SqliteMemory(deployment.home / MEMORY_FILE)
