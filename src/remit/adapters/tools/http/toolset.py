"""Calls of an HTTP service: one request each, with credentials that are put in here and nowhere else.

A read, and what the service does once by a key, is tried again while there is time; what is neither is sent once, and
where its answer is not heard, nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin

import orjson

from remit.adapters.egress.door import (
    Answer,
    Closed,
    Door,
    NoAnswer,
    NotSent,
    Policy,
    Resolve,
    Sending,
    system_addresses,
)
from remit.adapters.egress.urls import BadUrl, Target, read_url
from remit.adapters.tools.http.credentials import Credentials, credentials_of
from remit.adapters.tools.http.free import free_request
from remit.adapters.tools.http.openapi import operations_of
from remit.adapters.tools.http.operations import Operation
from remit.adapters.tools.http.specs import listed, read_document
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.tools import Declared, ToolSpec
from remit.governance.toolsets import HttpToolset
from remit.governance.toolsets.http import OperationSection, PagesSection
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.services import Clock

RESERVE = 0.95  # our own deadline comes a little before the caller's, so that the reason gets through
TRIES_MAX = 3
PAGES_MAX = 100
RECORDS_MAX = 1_000
_PAUSE_S = 0.2
_NEVER_S = float("inf")
_AGAIN = frozenset({429, 502, 503, 504})
_NOT_DONE = frozenset({307, 308, *range(400, 500)})
"""Answers by which a service says that it did nothing. After a redirect of the other kinds, or a fault, it may have."""
_TOLD_CHARS_MAX = 300


def open_http(
    section: HttpToolset,
    declared: Declared,
    folder: Path,
    services: tuple[Mapping[str, str], Clock],
    resolve: Resolve = system_addresses,
) -> HttpTools:
    """The tools of `section`. Sends nothing yet. Raises: RemitError `toolset.unavailable`."""
    environment, clock = services
    base = section.url or environment.get(str(section.url_env), "")
    if not base:
        raise RemitError(
            "toolset.unavailable", f"{section.url_env} is not set", remedy="set it to the service's URL"
        )
    try:
        target = read_url(base)
    except BadUrl as error:
        raise RemitError("toolset.unavailable", f"the URL of the service is not used: {error}") from error
    if "?" in target.path:
        raise RemitError("toolset.unavailable", "the URL of the service has a query")
    document, digest = read_document(section, folder)
    if digest != declared.digest:
        raise RemitError("toolset.unavailable", f"{section.openapi} has changed since it was declared")
    known = {} if document is None else operations_of(document, section.operations)
    operations = {tool: (operation, given) for tool, operation, given in listed(section, known)}
    credentials = credentials_of(section.auth, environment)
    if target.scheme == "http" and section.auth is not None and target.host not in section.inner_hosts:
        raise RemitError(
            "toolset.unavailable",
            "credentials are sent over https",
            remedy="use an https URL, or inner_hosts",
        )
    ports = {target.port, 443} if section.hosts else {target.port}
    policy = Policy(
        hosts=(target.host, *section.hosts), ports=frozenset(ports), inner=frozenset(section.inner_hosts)
    )
    service = _Service(target, credentials, section)
    return HttpTools(declared.specs, operations, service, Door(policy, resolve), clock)


_FREE = OperationSection()
_WITHHELD = "its words are not shown, because it returns fields that this agent may not see"


class _Asked(NamedTuple):
    """One call. `by_fields`: a field of the answer is denied, so that nothing is shown in which it cannot be found."""

    spec: ToolSpec
    by_fields: bool
    ends_ns: int


class _Service(NamedTuple):
    """Where the service is, and what is put into each request to it."""

    target: Target
    credentials: Credentials
    section: HttpToolset


class HttpTools:
    """A `ToolHost` of one service's operations. To be closed."""

    def __init__(
        self,
        specs: tuple[ToolSpec, ...],
        operations: Mapping[str, tuple[Operation, OperationSection]],
        service: _Service,
        door: Door,
        clock: Clock,
    ) -> None:
        self.notices: tuple[str, ...] = ()
        self._specs = {spec.name: spec for spec in specs}
        self._operations = operations
        self._service = service
        self._door = door
        self._clock = clock

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The declarations."""
        return tuple(self._specs.values())

    async def close(self) -> None:
        """Close the connections."""
        await self._door.close()

    async def call(self, tool: str, args: Json, context: CallContext) -> Json:
        """What the service answers: `{"status", "body"}`, or `{"status", "records"}` of a list over several pages.

        Raises: EffectFailed where nothing happened; anything else where nobody knows.
        """
        if tool in self._operations:
            operation, given = self._operations[tool]
        else:
            operation, args = free_request(args, self._service.section)
            given = _FREE
        spec, constraints = self._specs[tool], context.constraints
        asked = _Asked(
            spec=spec,
            by_fields=spec.hides_fields(constraints.denied_classes),
            ends_ns=self._clock.monotonic_ns() + int(constraints.timeout_s * RESERVE * 1e9),
        )
        url, headers, content = operation.request(str(self._service.target), args)
        if given.idempotency_header:
            headers[given.idempotency_header] = context.idempotency_key
        sending = Sending(
            method=operation.method,
            url=url,
            headers=headers,
            credentials=self._service.credentials.headers,
            content=content,
            bytes_max=self._service.section.response_bytes_max,
        )
        if given.pages is not None:
            return await self._pages(asked, sending, given.pages, constraints.records_max)
        answer = await self._answered(asked, sending)
        result: dict[str, Json] = {"status": answer.status, **_body(answer, by_fields=asked.by_fields)}
        if answer.is_cut:
            result["truncated"] = True
        return result

    async def _pages(
        self, asked: _Asked, sending: Sending, pages: PagesSection, records_max: int | None
    ) -> Json:
        most = records_max or RECORDS_MAX
        records: list[Json] = []
        first = sending.url
        for number in range(1, PAGES_MAX + 1):
            if pages.page_param:
                sending = replace(sending, url=_with(first, pages.page_param, str(number)))
            answer = await self._answered(asked, sending)
            body = _body(answer).get("body")
            found = _at(body, pages.items)
            if answer.is_cut or not isinstance(found, list):
                raise EffectFailed("tool.failed", f"the answer has no list {pages.items}, or is too large")
            records += found
            onward = self._onward(first, answer, body, pages)
            if len(records) > most or not found or onward is None:
                break
            sending = replace(sending, url=onward)
        return {"status": answer.status, "records": records[:most], "truncated": len(records) > most}

    def _onward(self, first: str, answer: Answer, body: Json, pages: PagesSection) -> str | None:
        """Where the list goes on, None where it ends."""
        if pages.page_param:
            return first
        if pages.cursor and pages.cursor_param:
            cursor = _at(body, pages.cursor)
            return _with(first, pages.cursor_param, str(cursor)) if cursor else None
        place = _at(body, pages.next_url) if pages.next_url else None
        if not place:
            return None
        url = urljoin(answer.url, str(place))
        try:
            if read_url(url).origin != self._service.target.origin:
                raise EffectFailed("egress.denied", "the next page is at another service")
        except BadUrl as error:
            raise EffectFailed("egress.denied", f"the next page is at no URL: {error}") from error
        return url

    async def _answered(self, asked: _Asked, sending: Sending) -> Answer:
        """A good answer. Raises: EffectFailed; NoAnswer where nobody knows whether a write was done."""
        again = asked.spec.effect != "write" or asked.spec.idempotency == "idempotent"
        sending = replace(sending, url=self._service.credentials.put_into(sending.url))
        doubt: NoAnswer | None = None
        for number in range(1, TRIES_MAX + 1):
            pause_s, got = await self._tried(asked, sending)
            if isinstance(got, Answer):
                return got
            # a try that may have been done leaves it open, whatever becomes of those after it
            doubt = got if isinstance(got, NoAnswer) else doubt
            failed = got if doubt is None else doubt
            pause_s = max(pause_s, _PAUSE_S * 2 ** (number - 1)) if pause_s >= 0 else _NEVER_S
            if not again or number == TRIES_MAX or pause_s >= self._left_s(asked):
                break
            await self._clock.sleep(pause_s)
        raise failed

    async def _tried(self, asked: _Asked, sending: Sending) -> tuple[float, Answer | EffectFailed | NoAnswer]:
        """What one request came to, and how long to wait at least before the next (below 0: there is none)."""
        writes = asked.spec.effect == "write"
        try:
            answer = await self._door.send(sending, max(self._left_s(asked), 0.01))
        except Closed as error:
            return -1.0, EffectFailed("egress.denied", str(error))
        except NotSent as error:
            return 0.0, EffectFailed("tool.failed", str(error), retryable=True)
        except NoAnswer as error:
            return 0.0, error if writes else EffectFailed("tool.timeout", str(error), retryable=True)
        content = self._service.credentials.taken_out(answer.content, is_cut=answer.is_cut)
        answer = replace(answer, content=content)
        if answer.status < 300:
            return 0.0, answer
        waits_s = _retry_after_s(answer, self._clock)
        return waits_s if answer.status in _AGAIN else -1.0, _failure(answer, asked, waits_s)

    def _left_s(self, asked: _Asked) -> float:
        return (asked.ends_ns - self._clock.monotonic_ns()) / 1e9


def _failure(answer: Answer, asked: _Asked, waits_s: float) -> EffectFailed | NoAnswer:
    """What became of a request that was answered, and not well."""
    told = orjson.dumps(next(iter(_body(answer).values()), None)).decode()[:_TOLD_CHARS_MAX]
    message = f"the service answered {answer.status}: {_WITHHELD if asked.by_fields else told}"
    if asked.spec.effect == "write" and answer.status not in _NOT_DONE:
        return NoAnswer(message)  # it may have been done all the same
    return EffectFailed(
        "tool.failed",
        message,
        retryable=answer.status in _AGAIN or answer.status >= 500,
        retry_after_s=waits_s or None,
    )


def _retry_after_s(answer: Answer, clock: Clock) -> float:
    """As RFC 9110 (10.2.3) has it: seconds, or a date."""
    text = answer.headers.get("retry-after", "")
    if text.isdecimal() and text.isascii():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(at.timestamp() - clock.now_us() / 1e6, 0.0)


def _body(answer: Answer, *, by_fields: bool = False) -> dict[str, Json]:
    """The body as JSON, or, but for `by_fields`, as text; nothing of any other kind."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.is_packed:
        return {"note": "the answer is compressed, which was not asked for, and is not shown"}
    if not answer.content:
        return {}
    if kind.endswith("json") and not answer.is_cut:
        with suppress(orjson.JSONDecodeError):  # then it is a text
            body = orjson.loads(answer.content)
            if not (by_fields and isinstance(body, str)):
                return {"body": body}
    if kind.startswith("text/") or kind.endswith(("json", "xml")):
        return {"note": _WITHHELD} if by_fields else {"text": answer.content.decode(errors="replace")}
    return {"note": f"{len(answer.content)} bytes of {kind or 'an unknown kind'}, which are not shown"}


def _at(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _with(url: str, name: str, value: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{quote(name, safe='')}={quote(value, safe='')}"
