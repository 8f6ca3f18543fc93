"""What an image or a PDF counts at most, from what its own bytes say; what cannot be read is refused.

The figures are the providers' documented ones (see docs/limitations.md): an image counts by its pixels, up to
a maximum; a page of a PDF counts as an image of a page and its text.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from contextlib import suppress

from remit.core.errors import RemitError
from remit.core.messages import Attachment
from remit.core.models import provider_of

PAGE_TEXT_TOKENS_MAX = 3000
"""Of the text of one page: the upper end of what Anthropic documents."""

ANTHROPIC_IMAGE_TOKENS_MAX = 4784
"""Of one image: larger ones are scaled down first."""

_PATCHES_MAX = 10_000
_TILED_TOKENS_MAX = 1500
_MINI = "gpt-4o-mini"
_MINI_TOKENS_MAX = 2833 + 8 * 5667
_INFLATED_BYTES_MAX = 64 * 2**20
_STREAMS_MAX = 100_000
_CHUNK_BYTES = 16 * 2**10

_PDF = "application/pdf"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LEAF = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_COUNT = re.compile(rb"/Count\s+(\d{1,9})")
_KIDS = re.compile(rb"/Kids\s*\[([^\]]*)")
_STREAM = re.compile(rb"(?<!end)stream\r?\n")


def tokens_max(attachment: Attachment, model: str) -> int:
    """The most tokens that `attachment` can count as input of `model`.

    Raises: RemitError `value.invalid` where it is no base 64, `price.unknown` where its size cannot be read.
    """
    try:
        data = base64.b64decode(attachment.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RemitError("value.invalid", "an attachment is not base 64") from error
    if attachment.media_type == _PDF:
        pages = pdf_pages(data)
        return pages * (PAGE_TEXT_TOKENS_MAX + _image_tokens_max(None, model))
    if attachment.media_type.startswith("image/"):
        return _image_tokens_max(image_size(data), model)
    kind = attachment.media_type[:60]
    raise RemitError("price.unknown", f"what a {kind} costs cannot be bounded")


def _image_tokens_max(size: tuple[int, int] | None, model: str) -> int:
    """Of an image of this size, or of any (None)."""
    if model.startswith(_MINI):
        return _MINI_TOKENS_MAX
    patches = _PATCHES_MAX
    if size is not None:
        width, height = size
        patches = min(patches, -(-width // 28) * -(-height // 28))
    if provider_of(model) == "anthropic":
        # 750 pixels a token by the one rule, a patch of 28 by 28 by the other
        return min(patches * 784 // 750 + 1, ANTHROPIC_IMAGE_TOKENS_MAX)
    # the smallest models count a patch as 2.46 tokens; others count tiles
    return _TILED_TOKENS_MAX + patches * 5 // 2


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of a PNG, JPEG, GIF or WebP. Raises: RemitError `price.unknown`."""
    size = _png(data) or _gif(data) or _webp(data) or _jpeg(data)
    if size is None or min(size) < 1:
        raise RemitError(
            "price.unknown",
            "the size of an image cannot be read, so its cost cannot be bounded",
            remedy="send a PNG, JPEG, GIF or WebP",
        )
    return size


def _png(data: bytes) -> tuple[int, int] | None:
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or data[12:16] != b"IHDR" or len(data) < 24:
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _gif(data: bytes) -> tuple[int, int] | None:
    # its pictures may be larger than its screen, so it counts as the largest there are
    return (65_535, 65_535) if data.startswith((b"GIF87a", b"GIF89a")) else None


def _webp(data: bytes) -> tuple[int, int] | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if data[12:16] == b"VP8 ":
        width, height = int.from_bytes(data[26:28], "little"), int.from_bytes(data[28:30], "little")
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _START_OF_FRAME:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
        else:
            at += 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
    return None


def pdf_pages(data: bytes) -> int:
    """The most pages that the PDF can have: leaves, references to them, or the count it gives itself.

    The time it takes is in proportion to the file, whatever the file holds. Raises: RemitError `price.unknown`
    where it has no pages that can be counted, is encrypted, or is too large.
    """
    texts = [data, *_streams(data)] if data[:1024].find(b"%PDF-") >= 0 else []
    pages: int = max(
        sum(len(_LEAF.findall(text)) for text in texts),
        # each reference ends in an R, as in `12 0 R`
        sum(kids.count(b"R") for text in texts for kids in _KIDS.findall(text)),
        max((int(count) for text in texts for count in _COUNT.findall(text)), default=0),
    )
    if pages == 0 or b"/Encrypt" in data:
        raise RemitError(
            "price.unknown",
            "the pages of a PDF cannot be counted, so its cost cannot be bounded",
            remedy="save it anew, without encryption, or send its text",
        )
    return pages


def _streams(data: bytes) -> list[bytes]:
    """What is compressed, where newer files keep their pages. Raises: RemitError `price.unknown`."""
    found: list[bytes] = []
    left = _INFLATED_BYTES_MAX
    for number, match in enumerate(_STREAM.finditer(data)):
        found.append(_inflated(data, match.end(), left))
        left -= len(found[-1])
        if left <= 0 or number >= _STREAMS_MAX:
            raise RemitError("price.unknown", "a PDF is too large to count its pages")
    return found


def _inflated(data: bytes, start: int, bytes_max: int) -> bytes:
    """What is compressed from `start` on, as far as it can be read. Piece by piece: what follows is not copied."""
    view = memoryview(data)
    inflater = zlib.decompressobj()
    pieces: list[bytes] = []
    with suppress(zlib.error):  # pictures and fonts are compressed otherwise, and hold no pages
        while start < len(data) and bytes_max > 0 and not inflater.eof:
            pieces.append(inflater.decompress(view[start : start + _CHUNK_BYTES], bytes_max))
            start += _CHUNK_BYTES
            bytes_max -= len(pieces[-1])
    return b"".join(pieces)
