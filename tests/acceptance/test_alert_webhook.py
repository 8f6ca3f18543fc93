"""A run that crosses a threshold tells the webhook, once, whichever process sends it; and no run waits for it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from acceptance_cli import Cli, agent_folder, changed
from tests.unit.webhooks.webhook_receiver import (
    SECRET,
    Receiver,
    answers,
    crossed,
    environment_of,
    receiving,
    taken_port,
    url_of,
)

from remit.core.outbox import BUDGET_ALERTS
from remit.testing.fakes import FakeClock

CONFIG = changed(("alert_on_threshold: 0.8", "alert_on_threshold: 0.01"), ("50.00", "0.50"), ("2.00", "0.50"))


LONG_AGO = 1_000_000
"""What is due by such a clock is due by the system's."""


async def finished(cli: Cli, *arguments: str | Path) -> Any:
    """A command's JSON; the event loop of the receiver goes on meanwhile."""
    return (await asyncio.to_thread(cli.run, *arguments, "--json")).json


async def test_a_run_tells_the_webhook_and_the_list_shows_it(tmp_path: Path) -> None:
    config = agent_folder(tmp_path / "agent", config=CONFIG)
    async with receiving() as receiver:
        cli = Cli(tmp_path / "home", **environment_of(receiver))
        run = await asyncio.to_thread(cli.task, "Customer C-1042 was charged twice", config=config)
        assert run.exit == 0, run.stderr
        (post,) = receiver.posts
        (alert,) = await finished(cli, "alerts", "list")
        assert alert["webhook"]["id"] == post.id
        assert alert["webhook"]["state"] == "delivered"
        assert json.loads(post.body)["data"]["scope"] == alert["scope"]
        # and nothing that the run wrote holds the address or the secret
        for path in cli.home.rglob("*"):
            if path.is_file():
                assert b"hidden-in-the-url" not in path.read_bytes()
                assert SECRET.encode() not in path.read_bytes()
        assert "hidden-in-the-url" not in run.stderr


async def test_a_receiver_that_is_down_disturbs_no_run_and_is_told_later(tmp_path: Path) -> None:
    config = agent_folder(tmp_path / "agent", config=CONFIG)
    with taken_port() as port:
        cli = Cli(tmp_path / "home", **environment_of(Receiver(url=url_of(port))))
        run = await asyncio.to_thread(cli.task, "Customer C-1042 was charged twice", config=config)
        assert run.exit == 0, run.stderr
        (alert,) = await finished(cli, "alerts", "list")
        assert (alert["webhook"]["state"], alert["webhook"]["attempts"]) == ("waiting", 1)
        assert alert["webhook"]["error"] == "no answer: ConnectError"


async def test_without_a_webhook_there_is_an_alert_and_no_message(cli: Cli, tmp_path: Path) -> None:
    config = agent_folder(tmp_path / "agent", config=CONFIG)
    assert cli.task("Customer C-1042 was charged twice", config=config).exit == 0
    (alert,) = cli.ask("alerts", "list")
    assert alert["webhook"] is None
    sent = cli.run("alerts", "send")
    assert sent.exit == 2
    assert "REMIT_WEBHOOK_URL is not set" in sent.stderr


async def test_two_processes_that_send_at_once_send_each_message_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    async with crossed(home / "remit.db", 20, FakeClock(LONG_AGO)):
        pass
    async with receiving() as receiver:
        cli = Cli(home, **environment_of(receiver))
        sent = await asyncio.gather(*(finished(cli, "alerts", "send") for _ in range(2)))
        assert sum(counts["delivered"] for counts in sent) == 20
        assert len({post.id for post in receiver.posts}) == len(receiver.posts) == 20
        assert all(json.loads(post.body)["type"] == BUDGET_ALERTS for post in receiver.posts)


async def test_send_says_what_failed_and_exits_1(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    async with crossed(home / "remit.db", 1, FakeClock(LONG_AGO)):
        pass
    async with receiving() as receiver:
        cli = Cli(home, **environment_of(receiver))
        receiver.script = [answers("410 Gone")]
        done = await asyncio.to_thread(cli.run, "alerts", "send")
        assert (done.exit, done.stdout) == (1, "1 dead\n")
        assert "answered with 410" in done.stderr
        assert "hidden-in-the-url" not in done.stderr
        again = await asyncio.to_thread(cli.run, "alerts", "send")
        assert (again.exit, again.stdout) == (0, "nothing is due\n")
