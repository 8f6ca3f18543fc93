"""Descriptions that services have of themselves, as toolsets of a governance file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urljoin

from remit.adapters.egress.door import Closed, Door, NoAnswer, NotSent, Policy, Sending
from remit.adapters.egress.urls import BadUrl, read_url
from remit.adapters.tools.http.openapi import operations_of, server_of
from remit.adapters.tools.http.specs import DOCUMENT_BYTES_MAX, parsed
from remit.core.errors import RemitError

FETCH_S = 30.0


class Imported(NamedTuple):
    """An operation that can be a tool."""

    name: str
    effect: str
    idempotency: str
    method: str
    path: str
    args_schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A service, its operations, and those that can be no tools, with why."""

    url: str
    host: str
    operations: Sequence[Imported]
    left_out: Mapping[str, str]

    def section(self, file: str) -> dict[str, Any]:
        """The section of a governance file; `file` is the document beside it."""
        section: dict[str, Any] = {"kind": "http", "openapi": file, "url": self.url}
        if self.host in ("localhost", "::1") or self.host.startswith("127."):
            section["inner_hosts"] = [self.host]  # whoever types it means it
        return section | {"operations": {one.name: {} for one in self.operations}}


async def fetched(url: str) -> bytes:
    """The document at a URL that a person has typed. Raises: RemitError `usage.invalid`."""
    try:
        target = read_url(url)
        host = target.host
        door = Door(Policy(hosts=(host,), ports=frozenset({target.port}), inner=frozenset({host})))
        try:
            answer = await door.send(Sending(method="GET", url=url, bytes_max=DOCUMENT_BYTES_MAX), FETCH_S)
        finally:
            await door.close()
    except (BadUrl, Closed, NoAnswer, NotSent) as error:
        raise RemitError("usage.invalid", "the document cannot be fetched", cause=str(error)) from error
    if answer.status != 200 or answer.is_cut:
        raise RemitError("usage.invalid", f"the document cannot be fetched: the answer is {answer.status}")
    return answer.content


def describe_openapi(content: bytes, source: str, url: str | None, only: Sequence[str]) -> Described:
    """What an OpenAPI document offers. Raises: RemitError `config.invalid`, `usage.invalid`."""
    document = parsed(content)
    known = operations_of(document)
    for name in only:
        if name not in known:
            raise RemitError(
                "usage.invalid", f"there is no operation {name!r}", cause=f"there are {', '.join(known)}"
            )
    base = url or server_of(document) or (urljoin(source, "/") if "://" in source else "")
    if not base:
        raise RemitError(
            "usage.invalid", "the document does not say where the service is", remedy="give --url"
        )
    try:
        target = read_url(base)
    except BadUrl as error:
        raise RemitError("usage.invalid", f"the URL of the service is not used: {error}") from error
    chosen = {name: one for name, one in known.items() if not only or name in only}
    return Described(
        url=str(target),
        host=target.host,
        operations=[
            Imported(name, one.effect, one.idempotency, one.method, one.path, one.args_schema)
            for name, one in chosen.items()
            if not one.problem
        ],
        left_out={name: one.problem for name, one in chosen.items() if one.problem},
    )
