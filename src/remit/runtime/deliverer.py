"""Delivers what the outbox holds: at least once, after longer and longer waits, for about a day.

A message is claimed under a lease, so two processes do not send it at the same time; one that dies leaves its
claim to run out. Neither a receiver that is down nor a journal that is away disturbs a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TypeAlias

from remit.core.errors import RemitError
from remit.core.outbox import Delivery, OutboxMessage
from remit.ports.journal import Journal
from remit.ports.services import Clock, Messenger, Receipt

BATCH_MAX = 16
LEASE_S = 60
"""Longer than a try can take, so that a lease only ends where its process did."""
POLL_S = 5.0
CLOSE_S = 3.0
ATTEMPTS_MAX = 20
WAIT_MIN_S = 1.0
BACKOFF_MIN_S = 30.0
BACKOFF_MAX_S = 14_400.0

Told: TypeAlias = Callable[[OutboxMessage, Receipt], None]
"""Told of each try, for counting and showing. Returns at once and never raises."""


class Deliverer:
    """Takes messages from the journal's outbox to a messenger."""

    def __init__(self, journal: Journal, messenger: Messenger, clock: Clock, told: Told) -> None:
        self._journal = journal
        self._messenger = messenger
        self._clock = clock
        self._told = told
        self._closing = asyncio.Event()

    async def deliver_due(self) -> list[Receipt]:
        """Try each message that is due, once. Raises: RemitError `journal.unavailable`."""
        receipts: list[Receipt] = []
        began_us = self._clock.now_us()
        # what becomes due meanwhile waits for the next time, so that this ends
        while claimed := await self._journal.claim_messages(began_us, LEASE_S * 1_000_000, BATCH_MAX):
            receipts += await asyncio.gather(*(self._deliver(message) for message in claimed))
        return receipts

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver while the block runs; at its end try once what is due, for `CLOSE_S` at the most."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._closing.set()
            await asyncio.wait({task}, timeout=CLOSE_S)
            task.cancel()
            await asyncio.wait({task})

    async def _run(self) -> None:
        while True:
            last = self._closing.is_set()
            with suppress(
                RemitError
            ):  # the journal is away: what is due stays due, and runs are told elsewhere
                await self.deliver_due()
            if last:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._closing.wait()

    async def _deliver(self, message: OutboxMessage) -> Receipt:
        receipt = await self._messenger.send(message, self._clock.now_us())
        if receipt.state == "waiting" and message.attempts >= ATTEMPTS_MAX:
            receipt = replace(receipt, state="dead")
        at_us = self._clock.now_us()
        delivery = Delivery(
            id=message.id,
            attempt=message.attempts,
            state=receipt.state,
            at_us=at_us,
            due_at_us=at_us + int(self._wait_s(message.attempts, receipt) * 1_000_000),
            error=receipt.error,
        )
        with suppress(RemitError):  # the lease runs out and the message is sent again, under the same id
            await self._journal.settle_delivery(delivery)
        self._told(message, receipt)
        return receipt

    def _wait_s(self, attempts: int, receipt: Receipt) -> float:
        """Full jitter over 30 s, 1, 2, 4 ... min, up to 4 h; what the receiver asks for is the least."""
        most_s = min(BACKOFF_MIN_S * 2.0 ** min(attempts - 1, 16), BACKOFF_MAX_S)
        share = int.from_bytes(self._clock.entropy(4), "big") / 2**32
        return max(WAIT_MIN_S, most_s * share, receipt.retry_after_s)
