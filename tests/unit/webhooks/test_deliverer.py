"""Messages reach the receiver at least once, each under one id, whatever goes wrong; and then no more."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from webhook_receiver import (
    HANG,
    OK,
    Crossed,
    Receiver,
    answers,
    crossed,
    environment_of,
    receiving,
    taken_port,
    url_of,
)

from remit.adapters.webhooks.options import WebhookOptions, options_of
from remit.adapters.webhooks.sender import WebhookSender
from remit.core.outbox import OutboxMessage
from remit.ports.services import Receipt
from remit.runtime.clock import SystemClock
from remit.runtime.deliverer import ATTEMPTS_MAX, BACKOFF_MAX_S, LEASE_S, Deliverer
from remit.testing.fakes import FakeClock


@asynccontextmanager
async def delivering(place: Crossed, receiver: Receiver, timeout_s: float = 10.0) -> AsyncIterator[Deliverer]:
    options = options_of(environment_of(receiver))
    assert options is not None
    sender = WebhookSender(WebhookOptions(url=options.url, secrets=options.secrets, timeout_s=timeout_s))
    try:
        yield Deliverer(place.journal, sender, place.clock, unheard)
    finally:
        await sender.aclose()


def unheard(message: OutboxMessage, receipt: Receipt) -> None:
    assert message.id
    assert receipt.state


async def test_a_crossing_is_told_once_signed_and_never_again(tmp_path: Path) -> None:
    async with (
        receiving() as receiver,
        crossed(tmp_path / "remit.db", 3) as place,
        delivering(place, receiver) as deliverer,
    ):
        receipts = await deliverer.deliver_due()
        assert [one.state for one in receipts] == ["delivered"] * 3
        place.clock.advance(10**6)
        assert await deliverer.deliver_due() == []
        messages = await place.journal.outbox()
        assert {post.id for post in receiver.posts} == {message.id for message in messages}
        assert len(receiver.posts) == 3
        assert {message.state for message in messages} == {"delivered"}
        said = json.loads(receiver.posts[0].body)
        assert said["type"] == "budget.threshold_crossed"
        assert (said["data"]["spent_nano_usd"], said["data"]["cap_nano_usd"]) == (90, 100)


async def test_a_receiver_that_is_down_is_told_when_it_is_up(tmp_path: Path) -> None:
    with taken_port() as port:
        async with crossed(tmp_path / "remit.db", 1) as place:
            async with delivering(place, Receiver(url=url_of(port))) as deliverer:
                (receipt,) = await deliverer.deliver_due()
            assert (receipt.state, receipt.error) == ("waiting", "no answer: ConnectError")
            (message,) = await place.journal.outbox()
            place.clock.advance((message.due_at_us - place.clock.now_us()) / 1_000_000)
            async with receiving(port) as receiver, delivering(place, receiver) as deliverer:
                assert [one.state for one in await deliverer.deliver_due()] == ["delivered"]
            assert [post.id for post in receiver.posts] == [message.id]


async def test_it_is_tried_for_about_a_day_and_then_given_up_and_shown(tmp_path: Path) -> None:
    async with (
        receiving() as receiver,
        crossed(tmp_path / "remit.db", 1) as place,
        delivering(place, receiver) as deliverer,
    ):
        began_us = place.clock.now_us()
        receiver.script = [answers("500 Broken")] * ATTEMPTS_MAX
        message = (await place.journal.outbox())[0]
        while message.state == "waiting":
            wait_s = (message.due_at_us - place.clock.now_us()) / 1_000_000
            assert 0 <= wait_s <= BACKOFF_MAX_S
            place.clock.advance(wait_s)
            assert len(await deliverer.deliver_due()) == 1
            message = (await place.journal.outbox())[0]
        assert (message.state, message.attempts) == ("dead", ATTEMPTS_MAX)
        assert message.error == "answered with 500"
        assert len(receiver.posts) == ATTEMPTS_MAX
        assert len({post.id for post in receiver.posts}) == 1
        hours = (place.clock.now_us() - began_us) / 3_600_000_000
        assert 8 < hours < 48
        place.clock.advance(10**7)
        assert await deliverer.deliver_due() == []


@pytest.mark.parametrize(
    ("answer", "state", "error", "wait_s"),
    [
        (answers("204 No Content"), "delivered", "", 0),
        (answers("410 Gone"), "dead", "answered with 410: the receiver wants no more", 0),
        (answers("429 Slow", "retry-after: 7200"), "waiting", "answered with 429", 7200),
        (answers("503 Away", "retry-after: 99999999999"), "waiting", "answered with 503", 86_400),
        (
            answers("503 Away", "retry-after: Fri, 15 Jan 2027 10:00:00 GMT"),
            "waiting",
            "answered with 503",
            7200,
        ),
        (answers("503 Away", "retry-after: -5"), "waiting", "answered with 503", 0),
        (
            answers("302 Found", "location: http://127.0.0.1:1/other"),
            "waiting",
            "answered with 302, which is not followed",
            0,
        ),
        (b"nonsense\r\n\r\n", "waiting", "no answer: RemoteProtocolError", 0),
    ],
)
async def test_every_answer_has_its_consequence(
    tmp_path: Path, answer: bytes, state: str, error: str, wait_s: float
) -> None:
    async with (
        receiving() as receiver,
        crossed(tmp_path / "remit.db", 1) as place,
        delivering(place, receiver) as deliverer,
    ):
        receiver.script = [answer]
        (receipt,) = await deliverer.deliver_due()
        assert (receipt.state, receipt.error) == (state, error)
        (message,) = await place.journal.outbox()
        assert (message.state, message.error) == (state, error)
        assert message.due_at_us - place.clock.now_us() >= wait_s * 1_000_000
        assert len(receiver.posts) == 1


async def test_an_endless_answer_is_not_read_and_a_silent_one_is_not_waited_for(tmp_path: Path) -> None:
    endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n"
    async with (
        receiving() as receiver,
        crossed(tmp_path / "remit.db", 2) as place,
        delivering(place, receiver, timeout_s=0.2) as deliverer,
    ):
        receiver.script = [endless, HANG]
        receipts = await deliverer.deliver_due()
        assert sorted(one.state for one in receipts) == ["delivered", "waiting"]
        assert {one.error for one in receipts} == {"", "no answer within 0.2 s"}


_DIES = """
import asyncio, sys
from pathlib import Path
from remit.wiring.deployment import Deployment
from remit.wiring.outbox import send_due
environment = {"REMIT_WEBHOOK_URL": sys.argv[2], "REMIT_WEBHOOK_SECRET": sys.argv[3]}
asyncio.run(send_due(Deployment(home=Path(sys.argv[1]), environment=environment)))
"""


class Later(SystemClock):
    """The system's clock when the leases of now have run out."""

    def now_us(self) -> int:
        return super().now_us() + (LEASE_S + 1) * 1_000_000


async def test_what_a_killed_process_had_claimed_is_sent_by_another_under_the_same_id(tmp_path: Path) -> None:
    long_ago = FakeClock(1_000_000)  # what is due by it is due by the system's clock
    async with receiving() as receiver, crossed(tmp_path / "remit.db", 1, long_ago) as place:
        receiver.script = [HANG]
        secret = environment_of(receiver)["REMIT_WEBHOOK_SECRET"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _DIES, str(tmp_path), receiver.url, secret, env=dict(os.environ)
        )
        await receiver.came.wait()
        process.send_signal(signal.SIGKILL)
        await process.wait()
        (claimed,) = await place.journal.outbox()
        assert (claimed.state, claimed.attempts) == ("waiting", 1)
        options = options_of(environment_of(receiver))
        assert options is not None
        sender = WebhookSender(options)
        # before the lease ends, nobody else sends it
        assert await Deliverer(place.journal, sender, SystemClock(), unheard).deliver_due() == []
        receipts = await Deliverer(place.journal, sender, Later(), unheard).deliver_due()
        await sender.aclose()
        assert [one.state for one in receipts] == ["delivered"]
        assert [post.id for post in receiver.posts] == [claimed.id] * 2


async def test_a_journal_that_is_away_ends_no_delivering_and_no_run(tmp_path: Path) -> None:
    async with receiving() as receiver, crossed(tmp_path / "remit.db", 1) as place:
        options = options_of(environment_of(receiver))
        assert options is not None
        sender = WebhookSender(options)
        deliverer = Deliverer(place.journal, sender, place.clock, unheard)
        async with deliverer.running():
            await asyncio.wait_for(receiver.came.wait(), 10)
            await place.journal.close()
        await sender.aclose()
        assert len(receiver.posts) == 1


async def test_closing_tries_once_what_is_due_and_leaves_what_fails(tmp_path: Path) -> None:
    async with (
        receiving() as receiver,
        crossed(tmp_path / "remit.db", 0) as place,
        delivering(place, receiver) as deliverer,
    ):
        receiver.script = [OK, answers("500 Broken")]
        async with deliverer.running():
            await place.cross()
            await place.cross()
        states = sorted(message.state for message in await place.journal.outbox())
        assert states == ["delivered", "waiting"]


async def test_neither_url_nor_secret_is_logged_or_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with receiving() as receiver, crossed(tmp_path / "remit.db", 2) as place:
        receiver.script = [answers("500 Broken")]
        options = options_of(environment_of(receiver))
        assert options is not None
        sender = WebhookSender(options)
        receipts = await Deliverer(place.journal, sender, place.clock, unheard).deliver_due()
        await sender.aclose()
        assert len(receipts) == 2
        for text in (repr(options), repr(sender), str(receipts), caplog.text):
            assert "hidden-in-the-url" not in text
            assert options.secrets[0] not in text
        assert b"hidden-in-the-url" not in (tmp_path / "remit.db").read_bytes()
