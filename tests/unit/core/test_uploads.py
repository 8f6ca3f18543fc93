"""What is attached is known by its bytes, within limits; its digests are those of the files."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.core import uploads
from remit.core.errors import RemitError
from remit.core.messages import Attachment

STARTS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff\xe0": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"RIFF\0\0\0\0WEBP": "image/webp",
    b"%PDF-1.7": "application/pdf",
}


@given(st.sampled_from(sorted(STARTS)), st.binary(max_size=50), st.text(max_size=300))
def test_the_bytes_say_the_type_whatever_the_name(start: bytes, rest: bytes, name: str) -> None:
    data = start + rest
    attachment = uploads.attachment_of(name, data)
    assert attachment.media_type == STARTS[start]
    assert base64.b64decode(attachment.data) == data
    assert attachment.name.isprintable()
    assert len(attachment.name) <= uploads.NAME_CHARS_MAX
    attachment.name.encode()  # no lone surrogate is left
    assert uploads.digests([attachment]) == [hashlib.sha256(data).hexdigest()]


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg/>", b"RIFF\0\0\0\0WAVE", b"PK\3\4", b" %PDF-1.7"])
def test_anything_else_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(RemitError, match=r"value\.invalid: a_b\.pdf is no PNG"):
        uploads.attachment_of("a\nb.pdf", data)


def of(size: int, start: bytes = b"%PDF-") -> Attachment:
    return uploads.attachment_of("x", start + b"0" * (size - len(start)))


def test_the_limits_are_exact() -> None:
    image = b"GIF89a"
    assert len(uploads.digests([of(10)] * uploads.COUNT_MAX)) == uploads.COUNT_MAX
    assert uploads.digests([of(uploads.IMAGE_BYTES_MAX, image)])
    assert uploads.digests([of(uploads.TOTAL_BYTES_MAX - 10), of(10)])
    for too_much in (
        [of(10)] * (uploads.COUNT_MAX + 1),
        [of(uploads.IMAGE_BYTES_MAX + 1, image)],
        [of(uploads.TOTAL_BYTES_MAX - 10), of(11)],
    ):
        with pytest.raises(RemitError, match=r"value\.too_large"):
            uploads.digests(too_much)


@pytest.mark.parametrize(
    ("media_type", "data"),
    [("image/png", of(10).data), ("text/html", of(10).data), ("application/pdf", "no base 64")],
)
def test_what_is_not_what_it_says_is_refused(media_type: str, data: str) -> None:
    with pytest.raises(RemitError, match=r"value\.invalid"):
        uploads.digests([Attachment(media_type=media_type, data=data)])
