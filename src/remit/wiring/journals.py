"""Which journal a deployment has: a file in its home, or the PostgreSQL database that REMIT_DATABASE_URL names.

A home has one worker, and so does a file. On one database there may be many, each with a home of its own: a worker
holds a lease, and the runs of those that hold none go on elsewhere.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from remit.adapters.journal.sqlite import SqliteJournal
from remit.core.errors import RemitError
from remit.ports.journal import Journal
from remit.ports.services import Clock
from remit.runtime.clock import SharedClock, SystemClock
from remit.wiring.deployment import Deployment, open_reader, postgres_options

if TYPE_CHECKING:
    from remit.adapters.journal.postgres.journal import PostgresJournal

Notice: TypeAlias = Callable[[str], None]

LEASE_US = 6_000_000
RENEW_EVERY_S = 1.5
MARGIN_US = 1_000_000
ROUNDS_TO_AGREE = 20
FOR_GOOD_US = 2**62
"""The lease of who is alone: the lock of its home ends with its process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingJournal:
    """A worker's journal, the name that the worker has there, and the runs it found without one."""

    journal: Journal
    worker: str
    lease: Lease
    interrupted: tuple[str, ...]


def open_journal(deployment: Deployment, clock: Clock, worker: str = "") -> Journal:
    """The journal, opened or made. Raises: RemitError `journal.unavailable`, `journal.schema`, `usage.invalid`."""
    if deployment.postgres is None:
        return SqliteJournal.open(deployment.journal, clock, worker)
    return _open_postgres(deployment, worker)


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
    deployment: Deployment, clock: SharedClock, notice: Notice
) -> AsyncIterator[WorkingJournal]:
    """The journal of a worker, under a lease and a clock that `renewing` prolongs and sets.

    Raises as `open_journal` does.
    """
    worker = f"{socket.gethostname()}:{os.getpid()}:{clock.entropy(4).hex()}"
    is_alone = deployment.postgres is None
    journal = open_journal(deployment, clock, worker)
    try:
        lease = Lease(clock, for_good=is_alone)
        await journal.hold_lease(FOR_GOOD_US if is_alone else LEASE_US, alone=is_alone)
        if not is_alone:
            await _agree(journal, clock)
        interrupted = await journal.interrupt_runs(clock.now_us())
        try:
            yield WorkingJournal(journal=journal, worker=worker, lease=lease, interrupted=interrupted)
        finally:
            await _let_go(journal, notice)
    finally:
        await journal.close()


class Lease:
    """A worker's lease as the worker itself may rely on it: counted from before it asked, and a second shorter."""

    def __init__(self, clock: Clock, *, for_good: bool) -> None:
        self._clock = clock
        self._for_good = for_good
        self._until_ns = self.ends_ns()

    def is_held(self) -> bool:
        """Whether no other worker can have taken this one's runs yet."""
        return self._for_good or self._clock.monotonic_ns() < self._until_ns

    def ends_ns(self) -> int:
        """When a lease that is asked for now ends."""
        return self._clock.monotonic_ns() + (LEASE_US - MARGIN_US) * 1000

    def renewed(self, until_ns: int) -> None:
        """It was given."""
        self._until_ns = until_ns


async def renewing(
    working: WorkingJournal, clock: SharedClock, lost: Callable[[], None], notice: Notice
) -> None:
    """Stay alive to the other workers, and let the runs of the dead go on, until this is cancelled.

    `lost`: told where this worker was silent for longer than its lease, so that its runs may be another's.
    """
    journal, lease = working.journal, working.lease
    for rounds in count(1):
        ends_ns = lease.ends_ns()
        try:
            if rounds % ROUNDS_TO_AGREE == 0:
                await _agree(journal, clock)
            held = await journal.hold_lease(LEASE_US)
            lease.renewed(ends_ns)
            if held:
                await journal.interrupt_runs(clock.now_us())
            else:  # where all were silent, as when the database was away, the others have time to be heard of
                notice("this worker was silent for longer than its lease: its runs are left to others")
                lost()
        except RemitError as error:
            notice(f"the lease could not be renewed: {error}")
        await clock.sleep(RENEW_EVERY_S)


async def _agree(journal: Journal, clock: SharedClock) -> None:
    asked_ns = clock.monotonic_ns()
    clock.agree(await journal.now_us(), asked_ns)


async def _let_go(journal: Journal, notice: Notice) -> None:
    """What is left behind need not wait for the lease to end."""
    try:
        await journal.hold_lease(0)
    except RemitError as error:
        notice(f"the lease could not be given up: {error}")


def _open_postgres(deployment: Deployment, worker: str) -> PostgresJournal:
    options = postgres_options(deployment, worker)
    # an extra, which most deployments have no use for
    from remit.adapters.journal.postgres.journal import PostgresJournal  # noqa: PLC0415

    return PostgresJournal.open(options)
