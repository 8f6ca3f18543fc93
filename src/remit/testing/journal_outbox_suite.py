"""The part of the `Journal` port's conformance suite that is about the outbox."""

from __future__ import annotations

import asyncio
import json

from remit.core.outbox import BUDGET_ALERTS, Delivery, MessageState, OutboxMessage
from remit.ports.journal import Journal
from remit.testing.journal_values import JournalPlace, admission_of, completion_of, hold_of, started

_TOPICS = frozenset({BUDGET_ALERTS})
_LEASE_US = 30_000_000


class JournalOutboxSuite:
    """What every journal promises of its outbox; `JournalSuite` holds these tests too."""

    async def test_a_crossing_leaves_one_message_over_two_journals(self, place: JournalPlace) -> None:
        journal, other = await started(place), place.open()
        await journal.subscribe(_TOPICS)
        await asyncio.gather(*(_spend(one, place, n) for n in range(5) for one in (journal, other)))
        (message,) = await other.outbox()
        assert (message.topic, message.state, message.attempts) == (BUDGET_ALERTS, "waiting", 0)
        said = json.loads(message.body)
        assert said["type"] == BUDGET_ALERTS
        assert (said["data"]["scope"], said["data"]["threshold_percent"]) == ("day:x", 80)
        assert said["data"]["spent_nano_usd"] >= 800
        await journal.close()
        await other.close()

    async def test_without_a_subscription_nothing_is_kept(self, place: JournalPlace) -> None:
        journal = await started(place)
        await journal.subscribe(_TOPICS)
        await journal.subscribe(frozenset())
        await _spend(journal, place, 0, amount=1000)
        assert list(await journal.outbox()) == []
        await journal.close()

    async def test_an_expired_hold_that_crosses_leaves_a_message(self, place: JournalPlace) -> None:
        journal = await started(place)
        await journal.subscribe(_TOPICS)
        hold = hold_of(100, percent=50)
        await journal.admit(admission_of("r.1.t", place.clock, holds=(hold,), amount_nano_usd=60))
        await journal.expire_holds(place.clock.now_us() + 10**9)
        assert len(await journal.outbox()) == 1
        await journal.close()

    async def test_a_claim_is_exclusive_until_its_lease_ends(self, place: JournalPlace) -> None:
        journal, other = await _with_message(place), place.open()
        now_us = place.clock.now_us()
        claims = await asyncio.gather(*(one.claim_messages(now_us, _LEASE_US, 5) for one in (journal, other)))
        (claimed,) = [message for claim in claims for message in claim]
        assert claimed.attempts == 1
        assert await other.claim_messages(now_us + _LEASE_US - 1, _LEASE_US, 5) == ()
        # the process that had it died: the same message, under the same id
        (again,) = await other.claim_messages(now_us + _LEASE_US, _LEASE_US, 5)
        assert (again.id, again.body, again.attempts) == (claimed.id, claimed.body, 2)
        await journal.close()
        await other.close()

    async def test_what_is_put_off_is_due_when_it_says(self, place: JournalPlace) -> None:
        journal, now_us = await _with_message(place), place.clock.now_us()
        (claimed,) = await journal.claim_messages(now_us, _LEASE_US, 5)
        assert await journal.settle_delivery(_delivery(claimed, "waiting", due_at_us=now_us + 7))
        (kept,) = await journal.outbox()
        assert (kept.state, kept.error, kept.due_at_us, kept.ended_at_us) == (
            "waiting",
            "why",
            now_us + 7,
            None,
        )
        assert await journal.claim_messages(now_us + 6, _LEASE_US, 5) == ()
        assert len(await journal.claim_messages(now_us + 7, _LEASE_US, 5)) == 1
        await journal.close()

    async def test_what_has_ended_is_never_due_again(self, place: JournalPlace) -> None:
        for state in ("delivered", "dead"):
            journal, now_us = await _with_message(place), place.clock.now_us()
            claimed = (await journal.claim_messages(now_us, _LEASE_US, 5))[0]
            assert await journal.settle_delivery(_delivery(claimed, state))
            assert not await journal.settle_delivery(_delivery(claimed, "waiting"))
            assert await journal.claim_messages(now_us + 10**12, _LEASE_US, 5) == ()
            kept = (await journal.outbox(limit=1))[0]
            assert (kept.state, kept.ended_at_us) == (state, now_us + 1)
            await journal.close()

    async def test_only_who_holds_the_lease_puts_off_but_delivered_stands(self, place: JournalPlace) -> None:
        journal, now_us = await _with_message(place), place.clock.now_us()
        (slow,) = await journal.claim_messages(now_us, _LEASE_US, 5)
        (quick,) = await journal.claim_messages(now_us + _LEASE_US, _LEASE_US, 5)
        assert not await journal.settle_delivery(_delivery(slow, "dead"))
        assert not await journal.settle_delivery(_delivery(slow, "waiting"))
        assert await journal.settle_delivery(_delivery(slow, "delivered"))
        assert not await journal.settle_delivery(_delivery(quick, "waiting"))
        await journal.close()


async def _spend(journal: Journal, place: JournalPlace, number: int, amount: int = 100) -> None:
    action_id = f"r.{number}.{id(journal)}"
    hold = hold_of(1000, percent=80)
    await journal.admit(admission_of(action_id, place.clock, holds=(hold,), amount_nano_usd=amount))
    await journal.complete(completion_of(action_id, place.clock, cost_nano_usd=amount))


async def _with_message(place: JournalPlace) -> Journal:
    """A journal in which one message waits; each call makes another run and another scope."""
    place.clock.advance(1)
    name = f"r{place.clock.now_us()}"
    journal = await started(place, name)
    await journal.subscribe(_TOPICS)
    hold = hold_of(100, f"day:{name}", percent=1)
    await journal.admit(admission_of(f"{name}.1.t", place.clock, holds=(hold,), amount_nano_usd=100))
    await journal.complete(completion_of(f"{name}.1.t", place.clock, cost_nano_usd=100))
    return journal


def _delivery(message: OutboxMessage, state: MessageState, due_at_us: int = 0) -> Delivery:
    return Delivery(
        id=message.id,
        attempt=message.attempts,
        state=state,
        at_us=message.created_at_us + 1,
        due_at_us=due_at_us,
        error="why",
    )
