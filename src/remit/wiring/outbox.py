"""Where the outbox's messages go: to the webhook that the environment names, or nowhere, and then none is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from remit.adapters.webhooks.options import URL, WebhookOptions, options_of
from remit.core.approvals import APPROVAL_TOPICS
from remit.core.errors import RemitError
from remit.core.outbox import BUDGET_ALERTS, OutboxMessage
from remit.ports.journal import Journal
from remit.ports.services import Clock, Receipt
from remit.runtime.clock import SystemClock
from remit.runtime.deliverer import Deliverer, Told
from remit.wiring.deployment import Deployment, open_reader
from remit.wiring.journals import open_writer

_TOPICS = frozenset({BUDGET_ALERTS}) | APPROVAL_TOPICS


@asynccontextmanager
async def delivering(
    deployment: Deployment, journal: Journal, clock: Clock, told: Told
) -> AsyncIterator[None]:
    """While the block runs, deliver what is due. Raises: RemitError `usage.invalid`, `journal.unavailable`."""
    options = options_of(deployment.environment)
    await journal.subscribe(_TOPICS if options is not None else frozenset())
    if options is None:
        yield
        return
    async with _deliverer(options, journal, clock, told) as deliverer, deliverer.running():
        yield


async def send_due(deployment: Deployment) -> list[Receipt]:
    """Deliver once what is due, also beside a running worker or in place of one that died.

    Raises: RemitError `usage.invalid`, `journal.unavailable`, `journal.schema`.
    """
    options = options_of(deployment.environment)
    if options is None:
        raise RemitError(
            "usage.invalid", f"{URL} is not set, so there is nowhere to send", remedy=f"set {URL}"
        )
    async with open_reader(deployment) as reader:
        if reader is None:
            return []
    clock = SystemClock()
    # it touches the outbox alone, under leases
    async with (
        open_writer(deployment) as journal,
        _deliverer(options, journal, clock, _unheard) as deliverer,
    ):
        await journal.tell_due_approvals(clock.now_us())
        return await deliverer.deliver_due()


def has_webhook(deployment: Deployment) -> bool:
    """Whether there is somewhere to send to. Raises: RemitError `usage.invalid` where what is set is no good."""
    return options_of(deployment.environment) is not None


@asynccontextmanager
async def _deliverer(
    options: WebhookOptions, journal: Journal, clock: Clock, told: Told
) -> AsyncIterator[Deliverer]:
    # the HTTP client is loaded where there is a webhook alone
    from remit.adapters.webhooks.sender import WebhookSender  # noqa: PLC0415

    sender = WebhookSender(options)
    try:
        yield Deliverer(journal, sender, clock, told)
    finally:
        await sender.aclose()


def _unheard(message: OutboxMessage, receipt: Receipt) -> None:
    """The caller of `send_due` gets all receipts at the end."""
