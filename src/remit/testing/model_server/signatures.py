"""Reasoning that clients give back unread: signed, so that a change of it is seen without any memory.

The id of a tool call that followed reasoning names that reasoning, so that leaving it out is seen too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

_SALT = b"the scripted model thought this: "
_MARKED = re.compile(r"[a-z]+_t([0-9a-f]{8})[0-9a-f]{15}")


def sign(thought: str) -> str:
    """The signature of a thought."""
    return base64.b64encode(hashlib.sha512(_SALT + thought.encode()).digest()).decode()


def seal(thought: str) -> str:
    """The thought with its signature, in a form that only `unseal` reads."""
    data = thought.encode()
    return base64.urlsafe_b64encode(hashlib.sha256(_SALT + data).digest() + data).decode()


def unseal(sealed: str) -> str | None:
    """The thought that was sealed; None where it was changed."""
    try:
        raw = base64.b64decode(sealed, altchars=b"-_", validate=True)
        thought = raw[32:].decode()
    except (binascii.Error, ValueError):
        return None
    return thought if raw[:32] == hashlib.sha256(_SALT + raw[32:]).digest() else None


def make_id(prefix: str, seed: str, thought: str = "") -> str:
    """An id, the same for the same seed; of what followed a thought, one that names it."""
    digest = hashlib.sha256(seed.encode()).hexdigest()
    if not thought:
        return f"{prefix}_{digest[:24]}"
    return f"{prefix}_t{mark(thought)}{digest[:15]}"


def mark_in(made_id: str) -> str | None:
    """The mark of the thought that an id names; None where it names none, or is not of ours."""
    found = _MARKED.fullmatch(made_id)
    return None if found is None else found.group(1)


def mark(thought: str) -> str:
    """The mark by which ids name this thought."""
    return hashlib.sha256(_SALT + thought.encode()).hexdigest()[:8]
