"""What an address and a subject look like, and who may be written to."""

from __future__ import annotations

# One address with a plain local part and a dotted domain; no names, comments, quotes, lists or routes (`x%elsewhere@here`).
RECIPIENT = (
    "^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}@[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    "([.][A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?){1,6}$"
)
SUBJECT = "^[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]*$"


def is_permitted(recipient: str, patterns: list[str]) -> bool:
    """Whether somebody may be written to."""
    local, _, domain = recipient.rpartition("@")
    return any(_fits(local, domain.lower(), pattern) for pattern in patterns)


def _fits(local: str, domain: str, pattern: str) -> bool:
    wanted_local, _, wanted = pattern.rpartition("@")
    wanted = wanted.lower()
    fits = wanted in ("*", domain) or (wanted.startswith("*.") and domain.endswith(wanted[1:]))
    return fits and wanted_local.lower() in ("*", local.lower())
