"""A run asks, a person decides in another process, a third process goes on: what is on record is not done again."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from acceptance_cli import Cli, agent_folder, changed
from tests.unit.webhooks.webhook_receiver import environment_of, receiving

OUTSIDE = """  approvals:
    - tool: send_email
      when: {to: {not_matches: "*@example.com"}}
      reason: mail to people outside the company
"""
CONFIG = changed(("  data_access:", f"{OUTSIDE}  data_access:"))
SCRIPTS = {
    "mail": "name: mail\nmatch: mail\nturns:\n"
    "  - call:\n      - {tool: search_kb, args: {query: refund}}\n"
    "  - call:\n      - {tool: create_ticket, args: {customer_id: C-1042, issue: hello, priority: low}}\n"
    "      - {tool: send_email, args: {to: bob@elsewhere.example, subject: hello, body: hello}}\n"
    "  - say: 'told: {{ results[2] }}'\n",
    "quick": "name: quick\ndefault: true\nturns:\n  - say: quick\n",
}
MAIL = {"to": "bob@elsewhere.example", "subject": "hello", "body": "hello"}


class Scene:
    """An agent whose mail to the outside waits for a person, and its home."""

    def __init__(self, folder: Path, config: str = CONFIG) -> None:
        self.config = agent_folder(folder / "agent", scripts=SCRIPTS, config=config)
        self.cli = Cli(folder / "home", REMIT_PRINCIPAL="requester")

    def ask(self) -> tuple[str, str]:
        """A run that waits; its id and that of its approval."""
        done = self.cli.task("mail", config=self.config)
        assert done.exit == 4, done.stderr
        assert done.json["status"] == "suspended"
        (approval,) = self.cli.ask("approvals", "list")
        assert approval["run_id"] == done.json["run_id"]
        return done.json["run_id"], approval["approval_id"]

    def resume(self, run_id: str) -> Any:
        return self.cli.run("runs", "resume", run_id, "--config", self.config, "--offline", "--json")

    def sent(self) -> list[Path]:
        """The letters in the outbox."""
        return [path for path in self.cli.home.rglob("outbox/new/*") if path.is_file()]

    def calls(self, run_id: str) -> list[tuple[str, str]]:
        return [(call["call"], call["state"]) for call in self.cli.ask("runs", "show", run_id)["calls"]]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_approve_then_resume_does_it_once_and_asks_no_model_twice(scene: Scene) -> None:
    run_id, approval_id = scene.ask()
    assert scene.sent() == []
    before = scene.cli.ask("runs", "show", run_id)
    shown = scene.cli.run("approvals", "show", approval_id[:20]).stdout
    for part in (
        "bob@elsewhere.example",
        "mail to people outside the company",
        "agent-config.yaml:",
        "requester",
    ):
        assert part in shown
    early = scene.resume(run_id)  # nobody has decided: it waits again, under the same approval
    assert (early.exit, early.json[0]["error"]["code"]) == (4, "approval.required")
    approved = scene.cli.run("approvals", "approve", approval_id, "--as", "alice")
    assert approved.exit == 0, approved.stderr
    done = scene.resume(run_id)
    assert done.exit == 0, done.stderr
    assert "sent" in done.json[0]["answer"]
    assert len(scene.sent()) == 1
    after = scene.cli.ask("runs", "show", run_id)
    assert scene.calls(run_id) == [
        ("1.m1", "done"),
        ("1.t0", "done"),
        ("2.m1", "done"),
        ("2.t0", "done"),
        ("2.t1", "done"),
        ("3.m1", "done"),
        ("3.answer", "done"),
    ]
    # each call was admitted once, and its digest is what the person saw
    intents = scene.cli.ask("audit", "search", "--run", run_id, "--kind", "intent")
    assert len({one["call"] for one in intents}) == len(intents) == 7
    (approval,) = scene.cli.ask("approvals", "list", "--all")
    assert (approval["state"], approval["decided_by"]) == ("used", "user:alice")
    assert approval["digest"] in {one["digest"] for one in intents}
    assert after["cost_nano_usd"] > before["cost_nano_usd"]
    assert scene.resume(run_id).exit != 0
    assert len(scene.sent()) == 1


def test_deny_with_a_reason_that_the_model_sees(scene: Scene) -> None:
    run_id, approval_id = scene.ask()
    denied = scene.cli.run("approvals", "deny", approval_id, "--as", "alice", "--reason", "ask him first")
    assert denied.exit == 0, denied.stderr
    done = scene.resume(run_id)
    assert done.exit == 0, done.stderr
    assert "ask him first" in done.json[0]["answer"]
    assert scene.sent() == []


def test_who_asked_cannot_approve_and_nobody_decides_twice(scene: Scene) -> None:
    _, approval_id = scene.ask()
    own = scene.cli.run("approvals", "approve", approval_id)
    assert (own.exit, "approval.not_permitted" in own.stderr) == (3, True)
    assert scene.cli.run("approvals", "approve", approval_id, "--as", "alice").exit == 0
    twice = scene.cli.run("approvals", "approve", approval_id, "--as", "bob")
    assert (twice.exit, "approval.invalid" in twice.stderr) == (3, True)
    forged = scene.cli.run("approvals", "approve", "01arz3ndektsv4rrffq69g5fav", "--as", "bob")
    assert (forged.exit, "approval.unknown" in forged.stderr) == (2, True)


def test_what_is_stored_must_be_what_was_asked(scene: Scene) -> None:
    _, approval_id = scene.ask()
    with sqlite3.connect(scene.cli.home / "remit.db") as journal:
        journal.execute(
            "UPDATE approval SET action = CAST(replace(CAST(action AS TEXT), 'elsewhere', 'example') AS BLOB)"
        )
    for command in (("show", approval_id), ("approve", approval_id, "--as", "alice")):
        done = scene.cli.run("approvals", *command)
        assert (done.exit, "not the one that was asked for" in done.stderr) == (3, True)


def test_under_another_remit_the_run_does_not_go_on(scene: Scene) -> None:
    run_id, approval_id = scene.ask()
    assert scene.cli.run("approvals", "approve", approval_id, "--as", "alice").exit == 0
    text = scene.config.read_text()
    scene.config.write_text(text.replace("mail to people outside", "letters to people outside"))
    done = scene.resume(run_id)
    assert (done.exit, "remit.changed" in done.stderr) == (2, True)
    scene.config.write_text(text)
    assert scene.resume(run_id).exit == 0
    assert len(scene.sent()) == 1


def test_an_approval_that_expired_is_of_no_use(tmp_path: Path) -> None:
    scene = Scene(tmp_path, CONFIG.replace("      reason:", "      expires_s: 1\n      reason:"))
    done = scene.cli.task("mail", config=scene.config)
    run_id = done.json["run_id"]
    (approval,) = scene.cli.ask("approvals", "list", "--all")
    with sqlite3.connect(scene.cli.home / "remit.db") as journal:  # so that the test waits for no clock
        journal.execute("UPDATE approval SET expires_at = 1")
    late = scene.cli.run("approvals", "approve", approval["approval_id"], "--as", "alice")
    assert (late.exit, "expired" in late.stderr) == (3, True)
    ended = scene.cli.run("runs", "resume", "--all-ready", "--config", scene.config, "--offline", "--json")
    assert [one["run_id"] for one in ended.json] == [run_id]
    assert "expired" in ended.json[0]["answer"]
    assert scene.sent() == []


def test_what_a_person_edits_is_what_is_done(scene: Scene) -> None:
    run_id, approval_id = scene.ask()

    def edit(args: str, *more: str) -> Any:
        return scene.cli.run(
            "approvals", "edit", approval_id, "--args", args, "--config", scene.config,
            "--reason", "shorter", "--as", "alice", *more,
        )  # fmt: skip

    wrong = edit('{"to": "bob@elsewhere.example"}')
    assert (wrong.exit, "args.invalid" in wrong.stderr) == (3, True)
    done = edit('{"to": "bob@elsewhere.example", "subject": "edited", "body": "by a person"}')
    assert done.exit == 0, done.stderr
    resumed = scene.resume(run_id)
    assert resumed.exit == 0, resumed.stderr
    (letter,) = scene.sent()
    assert "Subject: edited" in letter.read_text()
    (decided,) = scene.cli.ask("audit", "search", "--kind", "approval.decided")
    intents = scene.cli.ask("audit", "search", "--run", run_id, "--kind", "intent")
    digests = {one["digest"] for one in intents}
    assert decided["edited_digest"] in digests
    assert decided["digest"] not in digests


def test_a_quorum_is_of_different_people_who_have_a_role(tmp_path: Path) -> None:
    scene = Scene(
        tmp_path, CONFIG.replace("      reason:", "      roles: [lead]\n      quorum: 2\n      reason:")
    )
    run_id, approval_id = scene.ask()

    def approve(name: str, roles: str) -> Any:
        scene.cli.environment["REMIT_ROLES"] = roles
        return scene.cli.run("approvals", "approve", approval_id, "--as", name)

    stranger = approve("alice", "intern")
    assert (stranger.exit, "role lead" in stranger.stderr) == (3, True)
    first = approve("alice", "lead")
    assert (first.exit, "1 more must approve" in first.stdout) == (0, True)
    again = approve("alice", "lead")
    assert (again.exit, "2 different people" in again.stderr) == (3, True)
    assert scene.resume(run_id).exit == 4
    assert approve("bob", "intern,lead").exit == 0
    assert scene.resume(run_id).exit == 0
    assert len(scene.sent()) == 1


async def test_a_request_tells_the_webhook_once_and_nothing_of_the_arguments(tmp_path: Path) -> None:
    async with receiving() as receiver:
        scene = Scene(tmp_path)
        scene.cli.environment.update(environment_of(receiver))
        run_id, approval_id = await asyncio.to_thread(scene.ask)
        resumed = await asyncio.to_thread(scene.resume, run_id)  # it asks again, under the same approval
        assert resumed.exit == 4
        (post,) = receiver.posts
    said = json.loads(post.body)
    assert (said["type"], said["data"]["approval"]) == ("approval.requested", approval_id)
    assert b"elsewhere" not in post.body
