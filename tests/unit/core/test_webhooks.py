"""Signatures are those of the Standard Webhooks scheme, and nothing that was changed passes for signed."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.core.errors import RemitError
from remit.core.webhooks import TOLERANCE_S, secret_key, signed_headers, verify

# the vector that is published with the scheme
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE, AT_S, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
OTHER = "whsec_" + base64.b64encode(b"x" * 32).decode()


def test_the_published_vector() -> None:
    headers = signed_headers([SECRET], MESSAGE, AT_S, BODY)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert verify([SECRET], headers, BODY, now_s=AT_S) == MESSAGE


def test_while_secrets_change_each_of_the_two_verifies() -> None:
    headers = signed_headers([OTHER, SECRET], MESSAGE, AT_S, BODY)
    for known in ([SECRET], [OTHER], [SECRET, OTHER]):
        assert verify(known, headers, BODY, now_s=AT_S) == MESSAGE


@pytest.mark.parametrize(
    ("changes", "body", "now_s"),
    [
        ({}, BODY + b" ", AT_S),
        ({}, BODY, AT_S + TOLERANCE_S + 1),
        ({}, BODY, AT_S - TOLERANCE_S - 1),
        ({"webhook-id": "msg_other"}, BODY, AT_S),
        ({"webhook-id": ""}, BODY, AT_S),
        ({"webhook-timestamp": str(AT_S + 1)}, BODY, AT_S),
        ({"webhook-timestamp": "-5"}, BODY, AT_S),
        ({"webhook-timestamp": "٣"}, BODY, 3),
        ({"webhook-timestamp": "9" * 5000}, BODY, AT_S),
        ({"webhook-signature": ""}, BODY, AT_S),
        ({"webhook-signature": "v1,ü"}, BODY, AT_S),
        (
            {"webhook-signature": signed_headers([OTHER], MESSAGE, AT_S, BODY)["webhook-signature"]},
            BODY,
            AT_S,
        ),
    ],
)
def test_what_is_forged_changed_or_old_is_refused(changes: dict[str, str], body: bytes, now_s: int) -> None:
    headers = signed_headers([SECRET], MESSAGE, AT_S, BODY) | changes
    with pytest.raises(RemitError, match=r"webhook\.invalid"):
        verify([SECRET], headers, body, now_s=now_s)


@given(st.binary(max_size=100), st.integers(0, 10**11), st.integers(0, 99))
def test_any_change_of_a_byte_is_noticed(body: bytes, at_s: int, place: int) -> None:
    headers = {name.title(): value for name, value in signed_headers([SECRET], MESSAGE, at_s, body).items()}
    assert verify([SECRET], headers, body, now_s=at_s) == MESSAGE
    changed = bytearray(body or b"x")
    changed[place % len(changed)] ^= 1
    with pytest.raises(RemitError, match=r"webhook\.invalid"):
        verify([SECRET], headers, bytes(changed), now_s=at_s)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!", "plain", "whsec_c2hvcnQ=", OTHER[6:]])
def test_a_secret_that_is_none_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(RemitError, match=r"usage\.invalid") as raised:
        secret_key(secret)
    assert len(secret) < 7 or secret not in str(raised.value)
