"""Sends letters, each once, to those who may be written to."""

from __future__ import annotations

import mimetypes
import os
import stat
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from remit.adapters.tools.deadline import Deadline
from remit.adapters.tools.mail.address import is_permitted
from remit.adapters.tools.mail.letters import (
    Enclosure,
    Letter,
    Maildir,
    Smtp,
    Transport,
    message_id,
    parse_smtp_url,
)
from remit.adapters.tools.mail.specs import filled
from remit.adapters.tools.threads import ThreadedTools
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.tools import ToolSpec
from remit.governance.toolsets import MailToolset
from remit.governance.toolsets.mail import TemplateSection
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.services import Clock


def open_mail(
    section: MailToolset,
    specs: tuple[ToolSpec, ...],
    folder: Path,
    environment: Mapping[str, str],
    clock: Clock,
) -> ThreadedTools:
    """The tools of `section`. Raises: RemitError `toolset.unavailable`."""
    transport: Transport
    if section.url_env is None:
        transport = Maildir(folder / str(section.maildir))
    else:
        url = environment.get(section.url_env, "")
        if not url:
            remedy = "set it to smtp://USER:PASSWORD@HOST:587"
            raise RemitError("toolset.unavailable", f"{section.url_env} is not set", remedy=remedy)
        transport = Smtp(parse_smtp_url(url, {}))
    files = None
    if section.attachments is not None:
        files = folder / section.attachments.folder
        if not files.is_dir():
            raise RemitError(
                "toolset.unavailable", f"{files} is not a folder", remedy="put the attachments there"
            )
    post = _Post(section, transport, files, clock)
    work = {spec.name: partial(post.send, section.templates.get(spec.name)) for spec in specs}
    return ThreadedTools("mail", work, specs, clock)


class _Post:
    def __init__(self, section: MailToolset, transport: Transport, files: Path | None, clock: Clock) -> None:
        self._section = section
        self._transport = transport
        self._files = files
        self._clock = clock

    def send(
        self, template: TemplateSection | None, args: Json, context: CallContext, deadline: Deadline
    ) -> Json:
        """The letter of a call. Raises: EffectFailed where it certainly was not sent; anything else: nobody knows."""
        if not is_permitted(args["to"], self._section.recipients):
            permitted = ", ".join(self._section.recipients[:20])
            raise EffectFailed(
                "data.denied", f"nobody may be written to at {args['to']}, only at {permitted}"
            )
        letter = Letter(
            to=args["to"],
            subject=args["subject"] if template is None else filled(template.subject, args),
            body=args["body"] if template is None else filled(template.body, args),
            sender=self._section.sender,
            key=context.idempotency_key,
            at_us=self._clock.now_us(),
            enclosures=tuple(self._enclosures(args.get("attachments", []))),
        )
        self._transport.send(letter, deadline)
        return {"sent": True, "message_id": message_id(letter)}

    def _enclosures(self, names: list[str]) -> list[Enclosure]:
        limit = self._section.attachments
        if limit is None or self._files is None:
            return []
        found = []
        room = limit.bytes_max
        for name in names:
            content = _read(self._files, name, room)
            room -= len(content)
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            found.append(Enclosure(name=PurePosixPath(name).name, media_type=kind, content=content))
        return found


def _read(folder: Path, name: str, room: int) -> bytes:
    """A plain file below `folder`, to which no link leads out. Raises: EffectFailed."""
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or "\\" in name or any(part in ("/", "..") for part in parts):
        raise EffectFailed("args.invalid", f"{name[:100]!r} is no path below the folder of attachments")
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for place, part in enumerate(parts):
            # one step at a time, and no link: what was looked at is what is read
            kind = os.O_DIRECTORY if place < len(parts) - 1 else os.O_NONBLOCK
            inner = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | kind, dir_fd=handle)
            os.close(handle)
            handle = inner
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise EffectFailed("args.invalid", f"{name[:100]!r} is no plain file")
        with os.fdopen(os.dup(handle), "rb") as file:
            content = file.read(room + 1)
    except OSError as error:
        raise EffectFailed("args.invalid", f"there is no file {name[:100]!r} to attach") from error
    finally:
        os.close(handle)
    if len(content) > room:
        raise EffectFailed("args.invalid", "the attachments are larger than they may be together")
    return content
