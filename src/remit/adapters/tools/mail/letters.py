"""Letters: one plain-text message to one address, to a Maildir or an SMTP server.

`EffectFailed` is raised only where the message was certainly not handed over. Once its text has gone to
a server and the answer is lost, the error is passed on as it is: nobody knows. No text of a caller can
become a header, and no error or representation shows a password.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import smtplib
import ssl
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from remit.adapters.tools.deadline import Deadline
from remit.adapters.tools.mail.address import RECIPIENT
from remit.core.errors import RemitError
from remit.ports.effects import EffectFailed

ENCODED = "=?"
"""How a word begins that is encoded as RFC 2047 has it."""
LINE_SEPARATORS = ("Cc", "Cs", "Zl", "Zp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclosure:
    """A file that goes with a letter."""

    name: str
    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What is to be sent. `key` is the idempotency key; `at_us` is wall time for the Date header."""

    to: str
    subject: str
    body: str
    sender: str
    key: str
    at_us: int
    enclosures: tuple[Enclosure, ...] = ()

    @property
    def name(self) -> str:
        """32 hexadecimal digits that are the same at every try of one call."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:32]


class Transport(Protocol):
    """Where letters go. Blocks: call it in a thread."""

    def send(self, letter: Letter, deadline: Deadline) -> None:
        """Hand `letter` over. Raises: EffectFailed where it certainly was not; anything else: nobody knows."""
        ...


def compose(letter: Letter) -> EmailMessage:
    """The message of `letter`. Raises: EffectFailed `args.invalid` where a field could forge a header."""
    if not re.fullmatch(RECIPIENT, letter.to) or len(letter.to) > 254:
        raise EffectFailed("args.invalid", "the recipient must be one plain email address")
    if any(unicodedata.category(char) in LINE_SEPARATORS for char in letter.subject):
        raise EffectFailed("args.invalid", "the subject must be one line without control characters")
    if (
        ENCODED in letter.subject
    ):  # it would be decoded, and what is in it written as it is: line ends, and headers
        raise EffectFailed("args.invalid", f"the subject must be plain text, without {ENCODED}")
    if "\0" in letter.body or any(unicodedata.category(char) == "Cs" for char in letter.body):
        raise EffectFailed("args.invalid", "the body must be plain text")
    message = EmailMessage(policy=SMTP_POLICY)
    message["From"] = letter.sender
    message["To"] = letter.to
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(datetime.fromtimestamp(letter.at_us / 1e6, UTC))
    message["Message-ID"] = message_id(letter)
    message["Auto-Submitted"] = "auto-generated"
    lines = letter.body.replace("\r\n", "\n").replace("\r", "\n")
    message.set_content(lines, cte="base64" if not lines.isascii() else "quoted-printable")
    for one in letter.enclosures:
        main, _, sub = one.media_type.partition("/")
        message.add_attachment(one.content, maintype=main, subtype=sub, filename=_file_name(one.name))
    return message


def _file_name(name: str) -> str:
    plain = name.replace(ENCODED, "__")
    return "".join(char if char.isprintable() and char not in '"\\' else "_" for char in plain)


def message_id(letter: Letter) -> str:
    """The Message-ID, the same at every try of one call, so that a receiver can recognise a repetition."""
    return f"<{letter.name}@{letter.sender.rpartition('@')[2]}>"


class Maildir:
    """Letters as files of a Maildir: written aside, flushed, then moved into `new` in one step."""

    def __init__(self, folder: Path) -> None:
        """Raises: RemitError `toolset.unavailable`."""
        self._folder = folder
        try:
            for name in ("tmp", "new", "cur"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RemitError(
                "toolset.unavailable", f"{folder} cannot be written", cause=str(error)
            ) from error

    def send(self, letter: Letter, deadline: Deadline) -> None:
        """Put `letter` into `new`. Raises: EffectFailed."""
        content = compose(letter).as_bytes()
        draft = self._folder / "tmp" / letter.name
        deadline.check()
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self._folder / "new" / f"{letter.at_us // 1_000_000}.{letter.name}.remit")
        except OSError as error:
            with contextlib.suppress(OSError):  # the draft is not mail; the failure itself is reported
                draft.unlink(missing_ok=True)
            raise EffectFailed("tool.failed", "the outbox cannot be written", retryable=True) from error
        _flush_folder(self._folder / "new")


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpServer:
    """Where and how to submit mail. `security`: TLS from the start, STARTTLS, or none."""

    host: str
    port: int
    security: Literal["tls", "starttls", "none"]
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    ca_file: str | None = None


def parse_smtp_url(url: str, environment: Mapping[str, str]) -> SmtpServer:
    """The server of an `smtp://` or `smtps://` URL; missing credentials come from the environment.

    `?starttls=required` (the default where there are credentials) or `?starttls=no`; `?ca_file=PATH`.
    The variables are REMIT_SMTP_USER and REMIT_SMTP_PASSWORD.
    Raises: RemitError `toolset.unavailable`; it never quotes the URL.
    """
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        # The cause would quote the URL, and with it a password.
        raise _bad_url("it cannot be parsed") from None
    starttls = options.pop("starttls", None)
    ca_file = options.pop("ca_file", None)
    if parts.scheme not in ("smtp", "smtps") or not host or parts.path not in ("", "/"):
        raise _bad_url("it must look like smtp://user:password@host:587?starttls=required")
    if options or starttls not in (None, "required", "no"):
        raise _bad_url("its options are starttls=required or starttls=no, and ca_file")
    user = unquote(parts.username or "") or environment.get("REMIT_SMTP_USER", "")
    password = unquote(parts.password or "") or environment.get("REMIT_SMTP_PASSWORD", "")
    security: Literal["tls", "starttls", "none"] = "none"
    if parts.scheme == "smtps":
        security = "tls"
    elif starttls == "required" or (starttls is None and user):
        security = "starttls"
    default_port = {"tls": 465, "starttls": 587, "none": 25}[security]
    return SmtpServer(
        host=host, port=port or default_port, security=security, user=user, password=password, ca_file=ca_file
    )


def _bad_url(cause: str) -> RemitError:
    return RemitError("toolset.unavailable", "the SMTP URL is not usable", cause=cause)


class Smtp:
    """Letters to an SMTP server, one connection each, one attempt each."""

    def __init__(self, server: SmtpServer, *, timeout_s: float = 20.0) -> None:
        self._server = server
        self._timeout_s = timeout_s

    def send(self, letter: Letter, deadline: Deadline) -> None:
        """Submit `letter`. Raises: EffectFailed; any other error after its text has gone out."""
        message = compose(letter)
        content = message.as_bytes()
        deadline.check()
        try:
            client = self._connect(letter, deadline)
        except (OSError, smtplib.SMTPException, ssl.SSLError, UnicodeError) as error:
            raise _refusal("the mail server cannot be reached", error) from error
        try:
            self._submit(client, letter, content, deadline)
        finally:
            client.close()

    def _connect(self, letter: Letter, deadline: Deadline) -> smtplib.SMTP:
        server, timeout_s = self._server, self._left_s(deadline)
        name = letter.sender.rpartition("@")[2]
        if server.security == "tls":
            return smtplib.SMTP_SSL(
                server.host, server.port, name, timeout=timeout_s, context=_tls_context(server)
            )
        return smtplib.SMTP(server.host, server.port, name, timeout=timeout_s)

    def _submit(self, client: smtplib.SMTP, letter: Letter, content: bytes, deadline: Deadline) -> None:
        try:
            self._envelope(client, letter, deadline)
            deadline.check()
            _expect(client.docmd("data"), 354, "the mail server does not take the message")
        except (OSError, smtplib.SMTPException) as error:
            raise _refusal("the mail server refused", error) from error
        _set_timeout(client, self._left_s(deadline))
        # From here on an error leaves it open whether the server has the message.
        client.send(_dot_stuffed(content))
        code, _ = client.getreply()
        if not 200 <= code < 300:
            raise EffectFailed(
                "tool.failed",
                f"the mail server rejected the message with {code}",
                retryable=400 <= code < 500,
            )
        with contextlib.suppress(OSError, smtplib.SMTPException):  # the message is accepted already
            client.quit()

    def _envelope(self, client: smtplib.SMTP, letter: Letter, deadline: Deadline) -> None:
        server = self._server
        client.ehlo_or_helo_if_needed()
        if server.security == "starttls":
            _set_timeout(client, self._left_s(deadline))
            client.starttls(context=_tls_context(server))
            client.ehlo()
        if server.user:
            deadline.check()
            client.login(server.user, server.password)
        _set_timeout(client, self._left_s(deadline))
        _expect(client.mail(letter.sender), 250, "the mail server refuses the sender")
        code, reply = client.rcpt(letter.to)
        if code not in (250, 251):
            _expect((code, reply), 250, "the mail server refuses the recipient")

    def _left_s(self, deadline: Deadline) -> float:
        deadline.check()
        return max(min(self._timeout_s, deadline.left_s), 0.05)


def _tls_context(server: SmtpServer) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=server.ca_file)


def _set_timeout(client: smtplib.SMTP, timeout_s: float) -> None:
    if client.sock is not None:
        client.sock.settimeout(timeout_s)


def _expect(reply: tuple[int, bytes], wanted: int, complaint: str) -> None:
    code, _ = reply
    if code != wanted:
        raise EffectFailed("tool.failed", f"{complaint} ({code})", retryable=400 <= code < 500)


def _refusal(complaint: str, error: Exception) -> EffectFailed:
    """The failure, with the server's code but not its words, which may repeat what was sent."""
    if isinstance(error, smtplib.SMTPResponseException):
        code = error.smtp_code
        return EffectFailed("tool.failed", f"{complaint} ({code})", retryable=400 <= code < 500)
    lasting = isinstance(error, smtplib.SMTPNotSupportedError | ssl.SSLCertVerificationError | UnicodeError)
    return EffectFailed("tool.failed", f"{complaint} ({type(error).__name__})", retryable=not lasting)


def _dot_stuffed(content: bytes) -> bytes:
    """`content` as DATA carries it: CRLF line ends, leading dots doubled, and the closing dot."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    stuffed = re.sub(rb"(?m)^\.", b"..", lines)
    return (stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n") + b".\r\n"
