"""Descriptions that services have of themselves, as toolsets of a governance file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from remit.adapters.egress.door import Closed, Door, NoAnswer, NotSent, Policy, Sending
from remit.adapters.egress.urls import BadUrl, read_url
from remit.adapters.tools.http.openapi import operations_of
from remit.adapters.tools.http.operations import NAME_CHARS_MAX, Operation, tool_name
from remit.adapters.tools.http.service import auth_of, server_of
from remit.adapters.tools.http.specs import DOCUMENT_BYTES_MAX, parsed
from remit.core.errors import RemitError

FETCH_S = 30.0
_KEY_HEADERS = ("idempotency-key", "x-idempotency-key")


class Imported(NamedTuple):
    """An operation that can be a tool. `given`: its section."""

    name: str
    operation: str
    effect: str
    idempotency: str
    method: str
    path: str
    args_schema: Mapping[str, Any]
    given: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A service, its operations, and those that can be no tools, with why."""

    url: str
    host: str
    auth: Mapping[str, str]
    operations: Sequence[Imported]
    left_out: Mapping[str, str]

    def section(self, file: str) -> dict[str, Any]:
        """The section of a governance file; `file` is the document beside it."""
        section: dict[str, Any] = {"kind": "http", "openapi": file, "url": self.url}
        if self.host in ("localhost", "::1") or self.host.startswith("127."):
            section["inner_hosts"] = [self.host]  # whoever types it means it
        if self.auth:
            section["auth"] = dict(self.auth)
        return section | {"operations": {one.operation: dict(one.given) for one in self.operations}}


async def fetched(url: str) -> bytes:
    """The document at a URL that a person has typed. Raises: RemitError `usage.invalid`."""
    try:
        target = read_url(url)
        policy = Policy(hosts=(target.host,), ports=frozenset({target.port}), inner=frozenset({target.host}))
        door = Door(policy)
        try:
            answer = await door.send(Sending(method="GET", url=url, bytes_max=DOCUMENT_BYTES_MAX), FETCH_S)
        finally:
            await door.close()
    except (BadUrl, Closed, NoAnswer, NotSent) as error:
        raise RemitError("usage.invalid", "the document cannot be fetched", cause=str(error)) from error
    if answer.is_cut:
        raise RemitError("config.too_large", f"the document is larger than {DOCUMENT_BYTES_MAX} bytes")
    if answer.status != 200:
        raise RemitError("usage.invalid", f"the document cannot be fetched: the answer is {answer.status}")
    return answer.content


def describe_openapi(
    content: bytes, source: str, url: str | None, only: Sequence[str], variable: str
) -> Described:
    """What an OpenAPI document offers; `variable` is the one that the service's key will be in.

    Raises: RemitError `config.invalid`, `usage.invalid`.
    """
    document = parsed(content)
    known = operations_of(document)
    for name in only:
        if name not in known:
            raise RemitError(
                "usage.invalid",
                f"there is no operation {name!r}",
                cause=f"there are {', '.join(list(known)[:20])}",
            )
    base = url or server_of(document, source)
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
        auth=auth_of(document, variable),
        operations=_imported([one for one in chosen.values() if not one.problem]),
        left_out={name: one.problem for name, one in chosen.items() if one.problem},
    )


def _imported(operations: Sequence[Operation]) -> list[Imported]:
    """Each with a name of its own, and with the header that takes a key where it has one."""
    found: dict[str, Imported] = {}
    for one in operations:
        own, number, given = tool_name(one.name), 1, {}
        name = own
        while name in found:
            number += 1
            name = f"{own[: NAME_CHARS_MAX - 4]}_{number}"
        if name != own:
            given["name"] = name
        header = next(
            (
                key
                for key, placed in one.placed.items()
                if placed.where == "header" and key.lower() in _KEY_HEADERS
            ),
            None,
        )
        if header is not None and one.effect == "write":
            given["idempotency_header"] = header
        idempotency = "idempotent" if "idempotency_header" in given else one.idempotency
        found[name] = Imported(
            name, one.name, one.effect, idempotency, one.method, one.path, one.args_schema, given
        )
    return list(found.values())
