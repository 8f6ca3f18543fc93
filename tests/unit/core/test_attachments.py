"""Images and PDFs are bounded by what their own bytes say, or refused."""

from __future__ import annotations

import base64
import time
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.core import attachments
from remit.core.attachments import ANTHROPIC_IMAGE_TOKENS_MAX, PAGE_TEXT_TOKENS_MAX
from remit.core.errors import RemitError
from remit.core.messages import Attachment

CLAUDE, GPT = "claude-sonnet-4-20260514", "gpt-5.1"
SIZES = st.tuples(st.integers(1, 16_000), st.integers(1, 16_000))


def png(width: int, height: int) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
        + width.to_bytes(4, "big")
        + height.to_bytes(4, "big")
        + b"\x08\x02\0\0\0"
    )


def jpeg(width: int, height: int) -> bytes:
    thumbnail = b"\xff\xd8\xff\xc0\0\x11\x08\0\x01\0\x01" + b"\0" * 30
    exif = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    frame = b"\xff\xc2\0\x11\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\x03" + b"\0" * 9
    return b"\xff\xd8" + exif + b"\xff\xff\xdb\0\x04\0\0" + frame


def webp(kind: bytes, body: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + kind + len(body).to_bytes(4, "little") + body + b"\0" * 16


def of(data: bytes, media_type: str) -> Attachment:
    return Attachment(media_type=media_type, data=base64.b64encode(data).decode())


@given(SIZES)
def test_the_size_of_an_image_is_read_from_its_head(size: tuple[int, int]) -> None:
    width, height = size
    lossless = ((width - 1) | (height - 1) << 14).to_bytes(4, "little")
    extended = b"\0" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    lossy = b"\0\0\0\x9d\x01\x2a" + width.to_bytes(2, "little") + height.to_bytes(2, "little")
    for data in (
        png(*size),
        jpeg(*size),
        webp(b"VP8L", b"\x2f" + lossless),
        webp(b"VP8X", extended),
        webp(b"VP8 ", lossy),
    ):
        assert attachments.image_size(data) == size


@given(SIZES)
def test_an_image_counts_at_least_as_providers_document_it(size: tuple[int, int]) -> None:
    width, height = size
    image = of(png(*size), "image/png")
    claude = attachments.tokens_max(image, CLAUDE)
    assert min(width * height / 750, ANTHROPIC_IMAGE_TOKENS_MAX) <= claude <= ANTHROPIC_IMAGE_TOKENS_MAX
    patches = -(-width // 32) * -(-height // 32)
    assert attachments.tokens_max(image, GPT) >= max(min(patches, 1536) * 2.46, min(patches, 10_000), 1445)
    assert attachments.tokens_max(image, "gpt-4o-mini") >= 2833 + 8 * 5667


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda data: png(1, 1)[:16] + data))
def test_whatever_the_bytes_are_it_is_a_bound_or_a_refusal(data: bytes) -> None:
    bounds = []
    for media_type in ("image/png", "application/pdf"):
        with suppress(RemitError):  # any other error fails the test
            bounds.append(attachments.tokens_max(of(data, media_type), CLAUDE))
    assert all(bound > 0 for bound in bounds)
    with pytest.raises(RemitError, match=r"price\.unknown"):
        attachments.tokens_max(of(data, "video/mp4"), CLAUDE)


def pdf(pages: int, *, packed: bool) -> bytes:
    kids = " ".join(f"{number} 0 R" for number in range(3, pages + 3))
    objects = [f"<< /Type /Pages /Count {pages} /Kids [{kids}] >>"]
    objects += ["<< /Type /Page /Parent 2 0 R >>"] * pages
    text = "\n".join(objects).encode()
    if packed:
        text = b"5 0 obj << /Type /ObjStm >>\nstream\r\n" + zlib.compress(text) + b"\r\nendstream endobj"
    picture = b"\n9 0 obj << /Filter /DCTDecode >> stream\n\xff\xd8\xff\nendstream endobj\n"
    return b"%PDF-1.7\n" + picture + text + b"\n%%EOF"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("pages", [1, 2, 250])
def test_a_pdf_counts_by_its_pages_also_where_they_are_compressed(pages: int, packed: bool) -> None:
    data = pdf(pages, packed=packed)
    assert attachments.pdf_pages(data) == pages
    each = PAGE_TEXT_TOKENS_MAX + ANTHROPIC_IMAGE_TOKENS_MAX
    assert attachments.tokens_max(of(data, "application/pdf"), CLAUDE) == pages * each


def test_a_page_that_is_shown_many_times_counts_as_often() -> None:
    data = b"%PDF-1.4 << /Type /Pages /Count 1 /Kids [" + b"3 0 R " * 40 + b"] >> << /Type /Page >>"
    assert attachments.pdf_pages(data) == 40


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain text",
        b"%PDF-1.7 nothing in it",
        pdf(3, packed=False) + b"trailer << /Encrypt 8 0 R >>",
        pdf(1, packed=False) + b"stream\n" + zlib.compress(b"\0" * 70 * 2**20),
    ],
    ids=["empty", "no PDF", "no pages", "encrypted", "a bomb"],
)
def test_a_pdf_whose_pages_cannot_be_counted_is_refused(data: bytes) -> None:
    with pytest.raises(RemitError, match=r"price\.unknown"):
        attachments.pdf_pages(data)


@pytest.mark.parametrize(
    "piece",
    [
        b"/Kids [",
        b"/Kids [1 ",
        b"111111111",
        b"stream\n",
        b"stream\n" + zlib.compress(b"page") + b"\nendstream " + b"y" * 500,
        b"/Type ",
        b"/Count 1 ",
    ],
)
def test_the_time_to_count_pages_grows_no_faster_than_the_pdf(piece: bytes) -> None:
    """Regression: 120 KB of open `/Kids [` held up every run of the process for 40 s."""
    data = b"%PDF-1.7 /Type /Page /Kids [" + piece * (400_000 // len(piece))
    began = time.process_time()
    attachments.pdf_pages(data)
    assert time.process_time() - began < 2.0  # in proportion some hundredths of a second, squared a minute


def test_a_pdf_of_too_many_streams_is_refused() -> None:
    with pytest.raises(RemitError, match=r"price\.unknown"):
        attachments.pdf_pages(b"%PDF-1.7 /Type /Page " + b"stream\n" * 100_002)
