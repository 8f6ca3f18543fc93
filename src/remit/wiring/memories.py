"""Which store agents remember in: the one that REMIT_MEMORY_URL names, else where the journal is.

That is the journal's PostgreSQL, or a file in the home.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from remit.adapters.memory.notes import Notes
from remit.adapters.memory.sqlite import SqliteMemory
from remit.core import audit, canonical
from remit.core import memory as memories
from remit.core.errors import RemitError
from remit.core.memory import ListInfo
from remit.governance.memories import MemoryGrant
from remit.ports.memory import Memory
from remit.ports.services import Clock
from remit.wiring.deployment import Deployment
from remit.wiring.journals import open_writer

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What is to be forgotten: of one tenant (and one agent), a list or all that is of a subject. Who wants it, and why."""

    tenant: str
    agent: str | None
    subject: str
    name: str
    by: str
    reason: str


@asynccontextmanager
async def open_kept(deployment: Deployment) -> AsyncIterator[Memory | None]:
    """The store as it is, also beside a running worker; None where there is none yet."""
    memory = open_memory(deployment)
    if isinstance(memory, SqliteMemory) and not (deployment.home / MEMORY_FILE).exists():
        yield None
        return
    try:
        yield memory
    finally:
        await memory.close()


async def held(deployment: Deployment) -> int | None:
    """How many entries the store holds; None where there is none yet. Raises: RemitError `memory.unavailable`."""
    async with open_kept(deployment) as memory:
        return None if memory is None else sum(info.entries for info in await memory.lists(0))


async def erase(deployment: Deployment, erasure: Erasure, clock: Clock) -> int:
    """Erase it, once that is on record; how many entries there were.

    The record names who and why, and holds the digest of the subject or session.
    Raises: RemitError `run.unknown` where there is no journal, `journal.unavailable`, `memory.unavailable`.
    """
    of = "subject" if erasure.subject else "session"
    what = erasure.subject or memories.session_of(erasure.name)
    fields: audit.Fields = {
        "tenant": erasure.tenant,
        "by": erasure.by,
        "reason": erasure.reason,
        "of": of,
        "digest": canonical.digest(what.encode(errors="replace")),
    }
    if erasure.agent is not None:
        fields["agent"] = erasure.agent
    async with open_writer(deployment) as journal, open_kept(deployment) as memory:
        await journal.record(audit.record("erasure", clock.now_us(), fields | {"state": "begun"}))
        count = 0 if memory is None else await _erase(memory, erasure, clock)
        await journal.record(
            audit.record("erasure", clock.now_us(), fields | {"state": "done", "entries": count})
        )
    return count


async def _erase(memory: Memory, erasure: Erasure, clock: Clock) -> int:
    count = 0
    for info in await memory.lists(0):
        if info.scope.tenant != erasure.tenant or erasure.agent not in (None, info.scope.agent):
            continue
        if erasure.name not in ("", info.name):
            continue
        while seqs := await _sought(
            memory, info, erasure.subject
        ):  # again, for something may have come meanwhile
            count += await memory.erase(info.scope, info.name, seqs, clock.now_us())
    return count


async def _sought(memory: Memory, info: ListInfo, subject: str) -> set[int]:
    kept = await memory.entries(info.scope, info.name, 0)  # also what has expired and is there still
    return memories.naming(subject, kept) if subject else {one.seq for one in kept}


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
        if scheme in ("postgresql", "postgres") or ("://" not in url and "=" in url):
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
