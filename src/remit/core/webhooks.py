"""Signs webhooks, and verifies them for whoever receives them. Pure.

Source: the Standard Webhooks specification 1.0 (symmetric signatures, `v1`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

from remit.core.errors import RemitError

SECRET_PREFIX = "whsec_"  # noqa: S105  what a secret begins with
SECRET_BYTES_MIN = 24
SECRET_BYTES_MAX = 64
TOLERANCE_S = 300
"""How far the clocks of sender and receiver may differ, and how old a message may be."""


def secret_key(secret: str) -> bytes:
    """The key in `whsec_...`. Raises: RemitError `usage.invalid`, which does not show it."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise RemitError(
            "usage.invalid",
            "the webhook's secret is not of the form whsec_BASE64",
            remedy=f'make one of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes: echo "whsec_$(openssl rand -base64 32)"',
        )
    return key


def signed_headers(secrets: Sequence[str], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers of one message, signed with each of the secrets: two while one takes the other's place."""
    signatures = [_signature(secret_key(secret), message_id, str(timestamp_s), body) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(signatures),
    }


def verify(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, *, now_s: int) -> str:
    """The message's id, where one of `secrets` signed exactly this body within five minutes of `now_s`.

    `headers` in any case; `body` as it came, not parsed and written again. Drop what has an id that was seen
    before: delivery is at least once. Raises: RemitError `webhook.invalid`.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not message_id or not (timestamp.isascii() and timestamp.isdecimal()) or len(timestamp) > 12:
        raise RemitError("webhook.invalid", "a header of the webhook is missing or ill-formed")
    if abs(now_s - int(timestamp)) > TOLERANCE_S:
        raise RemitError("webhook.invalid", f"the webhook was signed more than {TOLERANCE_S} s from now")
    wanted = [_signature(secret_key(secret), message_id, timestamp, body).encode() for secret in secrets]
    found = [one.encode(errors="replace") for one in given.get("webhook-signature", "").split()]
    if not any(hmac.compare_digest(one, other) for one in wanted for other in found):
        raise RemitError("webhook.invalid", "no signature of the webhook is of a secret that is known here")
    return message_id


def _signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
