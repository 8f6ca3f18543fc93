"""Which store agents remember in: the one that REMIT_MEMORY_URL names, else where the journal is.

That is the journal's PostgreSQL, or a file in the home.
"""

from __future__ import annotations

from collections.abc import Callable

from remit.adapters.memory.notes import Notes
from remit.adapters.memory.sqlite import SqliteMemory
from remit.core.errors import RemitError
from remit.governance.memories import MemoryGrant
from remit.ports.memory import Memory
from remit.ports.services import Clock
from remit.wiring.deployment import Deployment

MEMORY_URL = "REMIT_MEMORY_URL"
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
    """The store, which is reached for once something is wanted of it. Raises: RemitError `usage.invalid`."""
    url = deployment.environment.get(MEMORY_URL) or deployment.postgres
    if not url:
        return SqliteMemory(deployment.home / MEMORY_FILE)
    scheme = url.partition("://")[0]
    try:
        # extras, which most deployments have no use for
        if scheme in ("redis", "rediss", "unix"):
            from remit.adapters.memory.redis import RedisMemory  # noqa: PLC0415

            return RedisMemory(url)
        if scheme in ("postgresql", "postgres") or url == deployment.postgres:
            from remit.adapters.memory.postgres import PostgresMemory  # noqa: PLC0415

            return PostgresMemory(url)
    except ImportError as error:
        extra = "redis" if "redis" in (error.name or "") else "postgres"
        message = f"agents are to remember in a {extra} store, and there is no driver of it"
        raise RemitError("usage.invalid", message, remedy=f"install remit[{extra}]") from error
    # what stands there may be a password in the wrong place
    message = f"{MEMORY_URL} is the address of no store that this version knows"
    raise RemitError(
        "usage.invalid", message, remedy="write redis://HOST:6379/0 or postgresql://USER@HOST/DATABASE"
    )
