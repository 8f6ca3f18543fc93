"""Mail: one letter to one address; failed only where it certainly was not handed over; no secret shown."""

from __future__ import annotations

import asyncio
import contextlib
import email
import json
import mailbox
import shutil
import socket
import ssl
import subprocess
import threading
from dataclasses import replace
from email.policy import default

import pytest
from aiosmtpd.smtp import SMTP as Server
from aiosmtpd.smtp import AuthResult
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from remit.adapters.tools.deadline import Deadline
from remit.adapters.tools.mail.letters import Letter, Smtp, SmtpServer, _dot_stuffed, compose, parse_smtp_url
from remit.adapters.tools.support.toolset import open_support
from remit.core.errors import RemitError
from remit.ports.effects import EffectFailed

MAIL = {"to": "ana@example.com", "subject": "Your refund", "body": "Dear Ana,\n.\nit is on its way.\n"}
LETTER = Letter(
    to="ana@example.com",
    subject="s",
    body="b",
    sender="support@example.com",
    key="k",
    at_us=1_700_000_000_000_000,
)


async def test_a_letter_lands_in_the_maildir_once(toolset, settings, make_context):
    sent = await toolset.call("send_email", MAIL, make_context())
    box = mailbox.Maildir(settings.stores / "outbox", create=False)
    (message,) = list(box)
    assert message["To"] == "ana@example.com"
    assert message["From"] == "support@example.com"
    assert message["Message-ID"] == sent["message_id"]
    assert message.get_payload(decode=True).decode().replace("\r\n", "\n") == MAIL["body"]
    assert list((settings.stores / "outbox" / "tmp").iterdir()) == []


async def test_an_outbox_that_cannot_be_written_is_a_failure(toolset, settings, make_context):
    outbox = settings.stores / "outbox"
    (outbox / "tmp").rmdir()
    with pytest.raises(EffectFailed) as caught:
        await toolset.call("send_email", MAIL, make_context())
    assert caught.value.code == "tool.failed"
    assert list((outbox / "new").iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "a\r\nBcc: x@evil.example"},
        {"subject": "a\nb"},
        {"subject": "a\0b"},
        {"subject": "a\u2028b"},
        {"subject": "a\x85b"},
        {"to": "a@example.com\r\nBcc: x@evil.example"},
        {"to": "a@example.com\n"},
        {"to": "a@example.com, x@evil.example"},
        {"to": "A <a@example.com>"},
        {"body": "a\0b"},
        {"body": "\ud800"},
    ],
)
async def test_no_field_can_forge_a_header(toolset, settings, make_context, change):
    with pytest.raises(EffectFailed) as caught:
        await toolset.call("send_email", {**MAIL, **change}, make_context())
    assert caught.value.code == "args.invalid"
    assert list((settings.stores / "outbox" / "new").iterdir()) == []


HEADERS = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"]
SAFE = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])


@given(
    subject=st.text(SAFE, min_size=1, max_size=200),
    body=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
)
@hypothesis_settings(max_examples=150, deadline=None)
def test_any_text_makes_the_same_headers_and_comes_back(subject, body):
    content = compose(replace(LETTER, subject=subject, body=body)).as_bytes()
    content.decode("ascii")
    assert b"\r\n.\r\n" not in _dot_stuffed(content)[: -len(b"\r\n.\r\n")]
    message = email.message_from_bytes(content, policy=default)
    assert [name for name in message if not name.lower().startswith(("content-", "mime-"))] == HEADERS
    assert message["To"] == LETTER.to
    text = message.get_payload(decode=True).decode()
    lines = body.replace("\r\n", "\n").replace("\r", "\n")
    assert text.replace("\r\n", "\n").rstrip("\n") == lines.rstrip("\n")


async def test_naughty_strings_are_sent_or_refused(toolset, settings, make_context, payloads):
    strings = [text for text in json.loads((payloads / "blns.json").read_text()) if text]
    for number, text in enumerate(strings[::5]):
        args = {**MAIL, "subject": text[:200], "body": text}
        with contextlib.suppress(EffectFailed):
            await toolset.call("send_email", args, make_context(key=f"k{number}"))
    assert len(list((settings.stores / "outbox" / "new").iterdir())) > 80
    for file in (settings.stores / "outbox" / "new").iterdir():
        message = email.message_from_bytes(file.read_bytes(), policy=default)
        assert message["Bcc"] is None
        assert message["To"] == "ana@example.com"


class Inbox:
    """A handler that keeps what it receives; `refuse` names a stage and its answer."""

    def __init__(self, stage: str = "", answer: str = "") -> None:
        self.stage, self.answer = stage, answer
        self.received: list[bytes] = []

    async def handle_MAIL(self, _server, _session, envelope, address, _options):
        if self.stage == "mail":
            return self.answer
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, _server, _session, envelope, address, _options):
        if self.stage == "rcpt":
            return self.answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, _session, envelope):
        if self.stage == "data":
            return self.answer
        self.received.append(envelope.content)
        return "250 Message accepted"


def check_login(_server, _session, _envelope, _mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"robot", b"s3cret/@pass"), handled=False)


@contextlib.asynccontextmanager
async def serving(inbox, **options):
    """A real SMTP server on loopback, in this event loop; the toolset speaks to it from its threads."""
    loop = asyncio.get_running_loop()
    options = {"hostname": "localhost", "loop": loop, **options}
    server = await loop.create_server(lambda: Server(inbox, **options), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def smtp_toolset(settings, clock, url, **environment):
    return open_support(replace(settings, mail=url), clock, environment=environment)


async def test_a_letter_reaches_a_real_server(settings, clock, make_context):
    inbox = Inbox()
    async with serving(inbox) as port:
        toolset = smtp_toolset(settings, clock, f"smtp://127.0.0.1:{port}")
        sent = await toolset.call("send_email", MAIL, make_context())
        await toolset.close()
    (content,) = inbox.received
    message = email.message_from_bytes(content, policy=default)
    assert message["Message-ID"] == sent["message_id"]
    assert message["Subject"] == MAIL["subject"]
    assert message.get_content().replace("\r\n", "\n").rstrip() == MAIL["body"].rstrip()


@pytest.mark.parametrize("in_url", [True, False])
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
async def test_credentials_come_from_the_url_or_the_environment(settings, clock, make_context, in_url):
    inbox = Inbox()
    options = {"authenticator": check_login, "auth_required": True, "auth_require_tls": False}
    async with serving(inbox, **options) as port:
        user = "robot:s3cret%2F%40pass@" if in_url else ""
        environment = {} if in_url else {"REMIT_SMTP_USER": "robot", "REMIT_SMTP_PASSWORD": "s3cret/@pass"}
        toolset = smtp_toolset(settings, clock, f"smtp://{user}127.0.0.1:{port}?starttls=no", **environment)
        await toolset.call("send_email", MAIL, make_context())
        wrong = smtp_toolset(settings, clock, f"smtp://robot:hunter2@127.0.0.1:{port}?starttls=no")
        with pytest.raises(EffectFailed, match="535") as caught:
            await wrong.call("send_email", MAIL, make_context())
        await toolset.close()
        await wrong.close()
    assert len(inbox.received) == 1
    assert not caught.value.retryable
    assert "hunter2" not in repr(caught.value) + caught.value.message


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for `localhost` that this session has signed itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: no certificate can be made")
    folder = tmp_path_factory.mktemp("tls")
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([openssl, *make.split(), *names, *files], check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.parametrize("trusted", [True, False])
async def test_starttls_protects_credentials_and_demands_a_trusted_certificate(
    settings, clock, make_context, certificate, trusted
):
    inbox, tls = Inbox(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    options = {
        "authenticator": check_login,
        "auth_required": True,
        "require_starttls": True,
        "tls_context": tls,
    }
    authority = f"?ca_file={certificate[0]}" if trusted else ""
    async with serving(inbox, **options) as port:
        url = f"smtp://robot:s3cret%2F%40pass@127.0.0.1:{port}{authority}"
        toolset = smtp_toolset(settings, clock, url)
        call = toolset.call("send_email", MAIL, make_context())
        if trusted:
            await call
        else:
            with pytest.raises(EffectFailed, match="SSLCertVerificationError"):
                await call
        await toolset.close()
    assert len(inbox.received) == int(trusted)


async def test_credentials_are_not_sent_without_tls(settings, clock, make_context):
    inbox = Inbox()
    async with serving(inbox) as port:
        toolset = smtp_toolset(settings, clock, f"smtp://robot:hunter2@127.0.0.1:{port}")
        with pytest.raises(EffectFailed) as caught:
            await toolset.call("send_email", MAIL, make_context())
        await toolset.close()
    assert "SMTPNotSupportedError" in caught.value.message
    assert inbox.received == []


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
@pytest.mark.parametrize(("answer", "retryable"), [("450 later", True), ("550 never <ana>", False)])
async def test_a_rejection_is_a_failure(settings, clock, make_context, stage, answer, retryable):
    inbox = Inbox(stage, answer)
    async with serving(inbox) as port:
        toolset = smtp_toolset(settings, clock, f"smtp://127.0.0.1:{port}")
        with pytest.raises(EffectFailed, match=answer[:3]) as caught:
            await toolset.call("send_email", MAIL, make_context())
        await toolset.close()
    assert caught.value.retryable is retryable
    assert inbox.received == []


async def test_no_server_is_a_failure_that_may_pass(settings, clock, make_context):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    toolset = smtp_toolset(settings, clock, f"smtp://127.0.0.1:{port}")
    with pytest.raises(EffectFailed) as caught:
        await toolset.call("send_email", MAIL, make_context())
    assert caught.value.retryable
    await toolset.close()


@contextlib.contextmanager
def cutting_server(cut_at):
    """A server that hangs up at `cut_at`: "greeting", "data" (before 354) or "body" (after the text)."""
    listener = socket.create_server(("127.0.0.1", 0))
    bodies: list[bytes] = []

    def serve() -> None:
        peer, _ = listener.accept()
        with peer, peer.makefile("rwb") as stream:
            if cut_at == "greeting":
                return
            stream.write(b"220 hello\r\n")
            stream.flush()
            for line in stream:
                verb = line.split()[0].upper()
                if verb == b"DATA" and cut_at == "data":
                    return
                stream.write(b"354 go on\r\n" if verb == b"DATA" else b"250 OK\r\n")
                stream.flush()
                if verb == b"DATA":
                    text = b""
                    while not text.endswith(b"\r\n.\r\n"):
                        text += stream.readline()
                    bodies.append(text)
                    return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], bodies
    finally:
        thread.join(5)
        listener.close()


@pytest.mark.parametrize("cut_at", ["greeting", "data"])
async def test_a_connection_lost_before_the_text_is_a_failure(settings, clock, make_context, cut_at):
    with cutting_server(cut_at) as (port, bodies):
        toolset = smtp_toolset(settings, clock, f"smtp://127.0.0.1:{port}")
        with pytest.raises(EffectFailed):
            await toolset.call("send_email", MAIL, make_context())
        await toolset.close()
    assert bodies == []


async def test_a_connection_lost_after_the_text_leaves_it_open(settings, clock, make_context):
    with cutting_server("body") as (port, bodies):
        toolset = smtp_toolset(settings, clock, f"smtp://127.0.0.1:{port}")
        with pytest.raises(Exception, match="Connection unexpectedly closed") as caught:
            await toolset.call("send_email", MAIL, make_context())
        await toolset.close()
    assert not isinstance(caught.value, EffectFailed)
    assert len(bodies) == 1
    assert b"\r\n..\r\n" in bodies[0]  # the body's own dot line is stuffed


async def test_a_cancelled_call_sends_nothing_that_had_not_begun(clock):
    deadline = Deadline(clock, 5.0)
    deadline.cancel()
    inbox = Inbox()
    async with serving(inbox) as port:
        server = SmtpServer(host="127.0.0.1", port=port, security="none")
        with pytest.raises(EffectFailed) as caught:
            await asyncio.to_thread(Smtp(server).send, LETTER, deadline)
    assert caught.value.code == "tool.timeout"
    assert inbox.received == []


@pytest.mark.parametrize(
    ("url", "port", "security"),
    [
        ("smtp://mail.example.com", 25, "none"),
        ("smtp://mail.example.com?starttls=required", 587, "starttls"),
        ("smtp://u:p@mail.example.com", 587, "starttls"),
        ("smtp://u:p@mail.example.com:2525?starttls=no", 2525, "none"),
        ("smtps://u:p@mail.example.com", 465, "tls"),
    ],
)
def test_urls_choose_port_and_security(url, port, security):
    server = parse_smtp_url(url, {})
    assert (server.host, server.port, server.security) == ("mail.example.com", port, security)


@pytest.mark.parametrize(
    "url",
    [
        "smtp://u:hunter2@mail.example.com:port",
        "smtp://u:hunter2@",
        "http://u:hunter2@mail.example.com",
        "smtp://u:hunter2@mail.example.com?starttls=maybe",
        "smtp://u:hunter2@mail.example.com?x=1",
        "smtp://u:hunter2@mail.example.com?broken",
        "smtp://u:hunter2@[mail",
        "hunter2",
        "",
    ],
)
def test_no_error_or_representation_shows_a_password(settings, clock, url):
    with pytest.raises(RemitError) as caught:
        parse_smtp_url(url, {})
    shown = str(caught.value) + repr(caught.value) + repr(caught.value.__cause__)
    assert "hunter2" not in shown
    assert "hunter2" not in repr(replace(settings, mail=url))
    assert "hunter2" not in repr(parse_smtp_url("smtps://u:hunter2@mail.example.com", {}))
