"""Where webhooks go and how they are signed, as the environment says. Neither is ever shown."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from remit.core.errors import RemitError
from remit.core.webhooks import secret_key

URL = "REMIT_WEBHOOK_URL"
SECRET = "REMIT_WEBHOOK_SECRET"  # noqa: S105  the name of the variable
SECRET_FILE = "REMIT_WEBHOOK_SECRET_FILE"  # noqa: S105
_SECRETS_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookOptions:
    """One receiver. `secrets` has two while one takes the other's place: each message is signed with both."""

    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    timeout_s: float = 10.0


def options_of(environment: Mapping[str, str]) -> WebhookOptions | None:
    """The receiver that the environment names, None where it names none.

    Raises: RemitError `usage.invalid`, in which neither the URL nor the secret stands.
    """
    url = environment.get(URL, "")
    if not url:
        return None
    if not _is_safe(url):
        raise RemitError(
            "usage.invalid",
            f"{URL} is no https:// URL (http:// is for this machine alone)",
            remedy="give an https:// URL without a password in it",
        )
    secrets = tuple(_secrets(environment).split())
    if not secrets:
        raise RemitError(
            "usage.invalid",
            f"{URL} is set, but no secret to sign with",
            remedy=f"set {SECRET} or {SECRET_FILE} to whsec_BASE64",
        )
    for secret in secrets:
        secret_key(secret)
    return WebhookOptions(url=url, secrets=secrets)


def _secrets(environment: Mapping[str, str]) -> str:
    path = environment.get(SECRET_FILE, "")
    if not path:
        return environment.get(SECRET, "")
    try:
        with Path(path).open(encoding="ascii") as file:
            return file.read(_SECRETS_BYTES_MAX)
    except (OSError, UnicodeDecodeError) as error:
        raise RemitError(
            "usage.invalid", f"{SECRET_FILE} cannot be read", cause=type(error).__name__
        ) from None


def _is_safe(url: str) -> bool:
    """Encrypted, or on this machine; and plain enough for every reader of URLs to read it alike."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if not parts.hostname or "@" in parts.netloc:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts))


def _is_here(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
