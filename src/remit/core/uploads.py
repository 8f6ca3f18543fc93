"""What a principal may attach to a task: images and PDFs, known by their bytes and not by their names.

The limits are the least that a provider takes, so that a call is not made to be refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from remit.core import canonical
from remit.core.errors import RemitError
from remit.core.messages import Attachment

COUNT_MAX = 20
IMAGE_BYTES_MAX = 3_750_000
"""Of one image: 5 MB as base 64."""
TOTAL_BYTES_MAX = 20_000_000
"""Of all attachments: a request may be 32 MB, and base 64 is a third longer."""
NAME_CHARS_MAX = 200

_PDF = "application/pdf"
_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", _PDF),
)


def attachment_of(name: str, data: bytes) -> Attachment:
    """The attachment of a file's bytes, of the type that they are of.

    Raises: RemitError `value.invalid` where they are of no type that a model takes.
    """
    shown = "".join(one if one.isprintable() else "_" for one in name)[:NAME_CHARS_MAX]
    media_type = _media_type(data)
    if media_type is None:
        raise RemitError(
            "value.invalid",
            f"{shown} is no PNG, JPEG, GIF, WebP or PDF",
            remedy="convert it, or put its text into the task",
        )
    return Attachment(media_type=media_type, data=base64.b64encode(data).decode(), name=shown)


def digests(attachments: Sequence[Attachment]) -> list[str]:
    """The SHA-256 of each attachment's bytes, once all of them keep to the limits.

    Raises: RemitError `value.too_large`; `value.invalid` where one is not of the type that it says it is.
    """
    if len(attachments) > COUNT_MAX:
        raise RemitError(
            "value.too_large",
            f"{len(attachments)} files are attached; at most {COUNT_MAX} may be",
            remedy="attach fewer, or put several into one PDF",
        )
    found, total = [], 0
    for one in attachments:
        data = _bytes(one)
        total += len(data)
        if one.media_type != _PDF and len(data) > IMAGE_BYTES_MAX:
            raise RemitError(
                "value.too_large",
                f"{one.name or 'an image'} has {len(data):,} bytes; an image may have {IMAGE_BYTES_MAX:,}",
                remedy="scale it down",
            )
        found.append(canonical.digest(data))
    if total > TOTAL_BYTES_MAX:
        raise RemitError(
            "value.too_large",
            f"the attached files have {total:,} bytes together; they may have {TOTAL_BYTES_MAX:,}",
            remedy="attach fewer or smaller files",
        )
    return found


def _bytes(attachment: Attachment) -> bytes:
    try:
        data = base64.b64decode(attachment.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RemitError("value.invalid", "an attachment is not base 64") from error
    if _media_type(data) != attachment.media_type:
        message = f"{attachment.name or 'an attachment'} is not what its type says it is"
        raise RemitError("value.invalid", message, remedy="attach a PNG, JPEG, GIF, WebP or PDF")
    return data


def _media_type(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for start, media_type in _STARTS if data.startswith(start)), None)
