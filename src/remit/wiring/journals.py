"""Which journal a deployment has: a file in its home, or the PostgreSQL database that REMIT_DATABASE_URL names.

A home has one worker, and so does a file. On one database there may be many, each with a home of its own: a worker
holds a lease, and ends what those have left behind that hold none.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from remit.adapters.journal.sqlite import SqliteJournal
from remit.core.errors import RemitError
from remit.ports.journal import Journal
from remit.ports.services import Clock
from remit.runtime.clock import SystemClock
from remit.wiring.deployment import Deployment, open_reader, postgres_options

if TYPE_CHECKING:
    from remit.adapters.journal.postgres.journal import PostgresJournal

Notice: TypeAlias = Callable[[str], None]

LEASE_US = 20_000_000
RENEW_EVERY_S = 5.0


def open_journal(deployment: Deployment, clock: Clock) -> Journal:
    """The journal, opened or made. Raises: RemitError `journal.unavailable`, `journal.schema`, `usage.invalid`."""
    if deployment.postgres is None:
        return SqliteJournal.open(deployment.journal, clock)
    return _open_postgres(deployment, clock)


@asynccontextmanager
async def open_writer(deployment: Deployment) -> AsyncIterator[Journal]:
    """The journal for a command that decides something, also beside a running worker: it takes no worker's lock.

    Raises: RemitError `run.unknown` where there is no journal yet; `journal.unavailable`, `journal.schema`.
    """
    async with open_reader(deployment) as reader:
        if reader is None:
            message = f"there is no journal in {deployment.home}"
            raise RemitError("run.unknown", message, remedy="give its --home")
    journal = open_journal(deployment, SystemClock())
    try:
        yield journal
    finally:
        await journal.close()


@asynccontextmanager
async def working_journal(
    deployment: Deployment, clock: Clock, notice: Notice
) -> AsyncIterator[tuple[Journal, tuple[str, ...]]]:
    """The journal of a worker, and the runs that it found without one and ended. Raises as `open_journal` does."""
    journal = open_journal(deployment, clock)
    try:
        if deployment.postgres is None:
            yield journal, await journal.interrupt_runs(clock.now_us())
            return
        await journal.hold_lease(LEASE_US)
        interrupted = await journal.interrupt_runs(clock.now_us())
        renewing = asyncio.create_task(_renew(journal, clock, notice))
        try:
            yield journal, interrupted
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})
            await _let_go(journal, notice)
    finally:
        await journal.close()


async def _renew(journal: Journal, clock: Clock, notice: Notice) -> None:
    """Stay alive to the others, and end what those have left that are not."""
    while True:
        await clock.sleep(RENEW_EVERY_S)
        try:
            if not await journal.hold_lease(LEASE_US):
                notice("this worker was silent for longer than its lease: another may have ended its runs")
            await journal.interrupt_runs(clock.now_us())
        except RemitError as error:  # the journal refuses what is done for a run that was ended meanwhile
            notice(f"the lease could not be renewed: {error}")


async def _let_go(journal: Journal, notice: Notice) -> None:
    """What is left behind need not wait for the lease to end."""
    try:
        await journal.hold_lease(0)
    except RemitError as error:
        notice(f"the lease could not be given up: {error}")


def _open_postgres(deployment: Deployment, clock: Clock) -> PostgresJournal:
    worker = f"{socket.gethostname()}:{os.getpid()}:{clock.entropy(4).hex()}"
    options = postgres_options(deployment, worker)
    # an extra, which most deployments have no use for
    from remit.adapters.journal.postgres.journal import PostgresJournal  # noqa: PLC0415

    return PostgresJournal.open(options)
