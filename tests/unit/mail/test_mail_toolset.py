"""Mail as a toolset: who may be written to, templates, attachments; a real SMTP server takes the letters."""

from __future__ import annotations

import asyncio
import email
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP
from hypothesis import given
from hypothesis import strategies as st

from remit.adapters.tools.mail.address import is_permitted
from remit.adapters.tools.mail.letters import Enclosure, Letter, compose
from remit.adapters.tools.mail.specs import declare_mail
from remit.adapters.tools.mail.toolset import open_mail
from remit.adapters.tools.threads import ThreadedTools
from remit.core.decisions import Constraints
from remit.core.errors import RemitError
from remit.governance.toolsets import MailToolset
from remit.ports.effects import CallContext, EffectFailed
from remit.runtime.clock import SystemClock

REFUND = {
    "description": "Tells a customer of a refund.",
    "subject": "Your refund of {{ amount }}",
    "body": "Dear {{ name }},\n{{amount}} is on its way.\n",
    "args": {"name": {"type": "string"}, "amount": {"type": "string"}},
}
SECTION: dict[str, Any] = {
    "kind": "mail",
    "url_env": "SMTP",
    "sender": "support@example.com",
    "recipients": ["*@example.com", "ops@example.org"],
}
FREE = {"to": "ana@example.com", "subject": "s", "body": "b"}


def letter(subject: str, *enclosures: Enclosure) -> Letter:
    return Letter(
        to="ana@example.com",
        subject=subject,
        body="b",
        sender="support@example.com",
        key="k",
        at_us=0,
        enclosures=enclosures,
    )


class Inbox:
    def __init__(self) -> None:
        self.received: list[EmailMessage] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        message = email.message_from_bytes(envelope.content, policy=default)
        assert isinstance(message, EmailMessage)
        self.received.append(message)
        return "250 OK"


@asynccontextmanager
async def serving(inbox: Inbox) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(inbox, hostname="localhost", loop=loop), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


class Post:
    """A toolset, and the server that takes its letters."""

    def __init__(self, toolset: ThreadedTools, inbox: Inbox) -> None:
        self.toolset = toolset
        self.inbox = inbox

    async def send(self, tool: str, args: Any, key: str = "r.1.t0") -> Any:
        context = CallContext(
            run_id="r",
            tenant="t",
            agent="a",
            idempotency_key=key,
            constraints=Constraints(timeout_s=10, output_bytes_max=1000),
        )
        return await self.toolset.call(tool, args, context)

    async def refused(self, args: Any) -> str:
        with pytest.raises(EffectFailed) as raised:
            await self.send("send_letters", args)
        assert self.inbox.received == []
        return f"{raised.value.code}: {raised.value.message}"


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    (tmp_path / "files" / "2026").mkdir(parents=True)
    (tmp_path / "files" / "2026" / "bill.pdf").write_bytes(b"%PDF-1.7 bill")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "files" / "link").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "files" / "way-out").symlink_to(tmp_path)
    inbox = Inbox()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(inbox))
        attachments = {"folder": "files", "bytes_max": 100}
        keys = {**SECTION, "free": True, "templates": {"refund": REFUND}, "attachments": attachments}
        section = MailToolset.model_validate(keys)
        declared = declare_mail("letters", section)
        url = {"SMTP": f"smtp://127.0.0.1:{port}"}
        toolset = open_mail(section, declared.specs, tmp_path, url, SystemClock())
        stack.push_async_callback(toolset.close)
        yield Post(toolset, inbox)


async def test_a_template_is_filled_once_and_its_message_id_is_the_call_s(post: Post) -> None:
    args = {"to": "ana@example.com", "name": "{{ amount }}", "amount": "$5"}
    sent = await post.send("refund", args)
    again = await post.send("refund", args)
    other = await post.send("refund", args, key="r.2.t0")
    assert sent == again != other
    message = post.inbox.received[0]
    assert (message["Subject"], message["Message-ID"]) == ("Your refund of $5", sent["message_id"])
    assert message.get_content().splitlines() == ["Dear {{ amount }},", "$5 is on its way."]


async def test_an_argument_of_a_template_cannot_forge_a_header(post: Post) -> None:
    with pytest.raises(EffectFailed, match="one line"):
        await post.send(
            "refund", {"to": "ana@example.com", "name": "n", "amount": "1\r\nBcc: x@evil.example"}
        )
    assert post.inbox.received == []


@pytest.mark.parametrize(
    "word",
    [
        "=?utf-8?q?a=0d=0aBcc:_eve@example.org?=",
        "=?utf-8?b?YQ0KRnJvbTogY2VvQGV4YW1wbGUuY29t?=",
        "x =?us-ascii?q?=0a?=",
    ],
)
async def test_no_encoded_word_becomes_a_header(post: Post, word: str) -> None:
    assert "args.invalid: the subject must be plain text" in await post.refused({**FREE, "subject": word})
    with pytest.raises(EffectFailed, match="plain text"):
        await post.send("refund", {"to": "ana@example.com", "name": "Ana", "amount": word})
    enclosure = Enclosure(name=f"{word}.txt", media_type="text/plain", content=b"x")
    message = compose(letter("s", enclosure)).as_bytes().replace(b"\r\n", b"\n")
    (enclosed,) = email.message_from_bytes(message, policy=default).iter_attachments()  # type: ignore[attr-defined]
    assert enclosed.keys() == [
        "Content-Type",
        "Content-Transfer-Encoding",
        "Content-Disposition",
        "MIME-Version",
    ]
    assert b"\nBcc" not in message
    assert b"\nFrom: ceo" not in message


@given(st.text(max_size=200))
def test_a_letter_has_the_headers_that_it_always_has(subject: str) -> None:
    try:
        message = compose(letter(subject))
    except EffectFailed:
        return
    found = email.message_from_bytes(message.as_bytes(), policy=default)
    assert found.keys() == message.keys()
    assert found["To"] == "ana@example.com"
    assert "".join(str(found["Subject"]).split()) == "".join(subject.split())


async def test_a_file_goes_with_the_letter(post: Post) -> None:
    await post.send("send_letters", {**FREE, "attachments": ["2026/bill.pdf"]})
    (enclosed,) = post.inbox.received[0].iter_attachments()
    assert (enclosed.get_filename(), enclosed.get_content_type()) == ("bill.pdf", "application/pdf")
    assert enclosed.get_content() == b"%PDF-1.7 bill"


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "/etc/passwd",
        "link",
        "way-out/secret.txt",
        "2026",
        "none",
        "2026/../../secret.txt",
        ".",
        "a\0b",
    ],
)
async def test_nothing_but_plain_files_below_the_folder_is_attached(post: Post, path: str) -> None:
    assert (await post.refused({**FREE, "attachments": [path]})).startswith("args.invalid")


async def test_files_have_a_size_together(post: Post) -> None:
    told = await post.refused({**FREE, "attachments": ["2026/bill.pdf"] * 8})
    assert "larger than they may be together" in told


async def test_who_is_not_on_the_list_gets_no_mail(post: Post) -> None:
    told = await post.refused({**FREE, "to": "eve@example.net"})
    assert told.startswith("data.denied: nobody may be written to at eve@example.net")
    routed = await post.refused({**FREE, "to": "eve%example.net@example.com"})
    assert routed == "args.invalid: the recipient must be one plain email address"


@pytest.mark.parametrize(
    ("recipient", "patterns", "is_one"),
    [
        ("ana@example.com", ["*@example.com"], True),
        ("Ana@EXAMPLE.com", ["ana@example.com"], True),
        ("ana@evil-example.com", ["*@example.com"], False),
        ("ana@example.com.evil.net", ["*@example.com"], False),
        ("ana@sub.example.com", ["*@example.com"], False),
        ("ana@sub.example.com", ["*@*.example.com"], True),
        ("ana@example.com", ["*@*.example.com"], False),
        ("ana@notexample.com", ["*@*.example.com"], False),
        ("anyone@anywhere.org", ["*@*"], True),
        ("anb@example.com", ["ana@example.com"], False),
    ],
)
def test_patterns_of_recipients(recipient: str, patterns: list[str], is_one: bool) -> None:
    assert is_permitted(recipient, patterns) is is_one


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"maildir": "m"}, "a url_env or a maildir"),
        ({"url_env": None}, "a url_env or a maildir"),
        ({"sender": "Support <s@example.com>"}, "the sender"),
        ({"templates": {"t": {**REFUND, "args": {}}}}, "no argument of that name: amount"),
        ({"templates": {"t": {**REFUND, "body": "x"}}}, "does not use: name"),
        (
            {
                "templates": {
                    "t": {**REFUND, "body": "{{ name }}{{ to }}", "args": {**REFUND["args"], "to": {}}}
                }
            },
            "to already",
        ),
    ],
)
def test_a_section_that_makes_no_sense_is_refused(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(RemitError, match=why):
        declare_mail("letters", MailToolset.model_validate({**SECTION, **keys}))


def test_a_server_that_is_not_set_is_said_at_the_start(tmp_path: Path) -> None:
    section = MailToolset.model_validate({**SECTION, "free": True})
    with pytest.raises(RemitError, match="SMTP is not set"):
        open_mail(section, declare_mail("l", section).specs, tmp_path, {}, SystemClock())


def test_letters_count_as_mails_that_are_sent_at_most_once() -> None:
    (spec,) = declare_mail("l", MailToolset.model_validate({**SECTION, "free": True})).specs
    assert (spec.name, spec.effect, spec.idempotency, spec.rate_group) == (
        "send_l",
        "write",
        "at_most_once",
        "emails",
    )
