"""Credentials of a service: put into requests after the decision, and taken out of what comes back. None is shown."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from urllib.parse import quote

import orjson

from remit.core.errors import RemitError
from remit.governance.toolsets.http import AuthSection

_HIDDEN = b"[hidden]"
_ESCAPED = re.compile("%[0-9A-F]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """`headers`, or a parameter `name` of the query; `hidden`: all the ways in which a service may repeat them."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    name: str = ""
    value: str = field(default="", repr=False)
    hidden: tuple[bytes, ...] = field(default=(), repr=False)

    def put_into(self, url: str) -> str:
        """The URL with the key, and with no other parameter of its name."""
        if not self.name:
            return url
        path, _, query = url.partition("?")
        pairs = [pair for pair in query.split("&") if pair and pair.partition("=")[0] != self.name]
        return f"{path}?{'&'.join([*pairs, f'{self.name}={self.value}'])}"

    def taken_out(self, content: bytes, *, is_cut: bool = False) -> bytes:
        """What a service said, without the credentials that it may have repeated. `is_cut`: there was more of it."""
        if self.hidden and b"\\" in content:
            with suppress(orjson.JSONDecodeError):  # it is no JSON, or not all of it
                content = orjson.dumps(orjson.loads(content))  # in one spelling: any letter may be escaped
        for secret in self.hidden:
            content = content.replace(secret, _HIDDEN)
        return content[: -self._begun_at_the_end_of(content) or None] if is_cut else content

    def _begun_at_the_end_of(self, content: bytes) -> int:
        """How many bytes at the end of what was cut may be the beginning of a secret."""
        longest = max(map(len, self.hidden), default=0)
        tails = (content[-size:] for size in range(min(longest - 1, len(content)), 0, -1))
        return next((len(tail) for tail in tails if any(one.startswith(tail) for one in self.hidden)), 0)


def credentials_of(auth: AuthSection | None, environment: Mapping[str, str]) -> Credentials:
    """What a section asks for, from the environment. Raises: RemitError `toolset.unavailable`."""
    if auth is None:
        return Credentials()
    name = auth.bearer_env or auth.header_env or auth.basic_env or auth.query_env or ""
    secret = environment.get(name, "")
    if not secret or not secret.isascii() or not secret.isprintable():
        raise RemitError(
            "toolset.unavailable", f"{name} is not set, or is no key", remedy="set it to the service's key"
        )
    quoted = quote(secret, safe="")
    encoded = base64.b64encode(secret.encode()).decode()
    in_json = orjson.dumps(secret).decode()[1:-1]
    parts = [secret, in_json, in_json.replace("/", "\\/"), escape(secret), quoted, encoded]
    parts.append(_ESCAPED.sub(lambda found: found[0].lower(), quoted))
    if auth.basic_env:
        parts.append(secret.partition(":")[2] or secret)
    # the longest first: none is left of which another is a part
    hidden = tuple(part.encode() for part in sorted(set(parts), key=len, reverse=True))
    if auth.bearer_env:
        return Credentials(headers={"authorization": f"Bearer {secret}"}, hidden=hidden)
    if auth.header:
        return Credentials(headers={auth.header: secret}, hidden=hidden)
    if auth.basic_env:
        return Credentials(headers={"authorization": f"Basic {encoded}"}, hidden=hidden)
    return Credentials(name=quote(auth.query or "", safe=""), value=quoted, hidden=hidden)
