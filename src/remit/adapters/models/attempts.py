"""One attempt over an official SDK: a reply, or whatever went wrong as an `EffectFailed`.

The SDKs of both providers come from one generator and fail alike. Imported by the `*_sdk` modules alone,
because httpx2 takes its time to load. What is said of an error never holds the key.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import httpx2

from remit.adapters.models import failures
from remit.adapters.models.exchange import Exchange, Reader
from remit.adapters.models.provider import Seen
from remit.core.messages import ModelReply, Usage
from remit.ports.effects import EffectFailed

CONNECT_TIMEOUT_S = 10.0
DRAIN_TIMEOUT_S = 0.1
MESSAGE_CHARS_MAX = 400


class Response(Protocol):
    """A response whose body has not been read."""

    @property
    def headers(self) -> httpx2.Headers:
        """The response's headers."""
        ...

    def iter_bytes(self) -> AsyncIterator[bytes]:
        """The body, decoded, as it comes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SdkErrors:
    """The classes of one SDK's errors."""

    timeout: type[Exception]
    status: type[Exception]
    connection: type[Exception]
    any: type[Exception]


class Attempts:
    """Makes attempts. `secret` is kept out of every message; `seen` is told each response's model and headers."""

    def __init__(self, errors: SdkErrors, secret: str, seen: Seen) -> None:
        self._errors = errors
        self._secret = secret
        self._seen = seen

    async def make(
        self, opening: Callable[[], AbstractAsyncContextManager[Response]], exchange: Exchange
    ) -> ModelReply:
        """The reply in the response that `opening` sends for. Raises: EffectFailed."""
        reader: Reader | None = None
        try:
            async with opening() as response:
                self._seen(exchange.model, response.headers)
                reader = exchange.reader(response.headers.get("content-type", ""))
                await _read(response, reader)
            return reader.reply()
        except EffectFailed as error:
            raise self._cleaned(error) from None
        except (self._errors.any, httpx2.HTTPError, httpx2.InvalidURL, ValueError, TypeError) as error:
            # Values and types: what the SDK raises where a response is not what it expects.
            refusal = getattr(error, "response", None)
            if isinstance(refusal, httpx2.Response):
                self._seen(exchange.model, refusal.headers)
            raise self._failure(error, reader.billed if reader else None) from None
        except (AttributeError, RecursionError, LookupError) as error:
            raise self._failure(error, reader.billed if reader else None) from None

    def _failure(self, error: Exception, billed: Usage | None) -> EffectFailed:
        cause = error.__cause__
        if isinstance(error, self._errors.timeout):
            unsent = isinstance(cause, httpx2.ConnectTimeout | httpx2.PoolTimeout)
            return _timed_out(Usage() if unsent else None)
        if isinstance(error, httpx2.TimeoutException):
            return _timed_out(billed)
        if isinstance(error, self._errors.status):
            return self._cleaned(self._of_status(error))
        if isinstance(error, self._errors.connection):
            message = self._clean(f"no connection to the provider: {cause or error}")
            usage = Usage() if isinstance(cause, httpx2.ConnectError) else None
            return EffectFailed("model.unavailable", message, retryable=True, usage=usage)
        if isinstance(error, httpx2.TransportError):
            return self._cleaned(failures.of_cut(str(error), billed))
        if isinstance(error, UnicodeEncodeError):
            return EffectFailed("model.failed", "the request holds text that is not Unicode")
        message = f"the provider's response cannot be read: {type(error).__name__}: {error}"
        return EffectFailed("model.failed", self._clean(message), usage=billed)

    def _of_status(self, error: Exception) -> EffectFailed:
        response = getattr(error, "response", None)
        headers = response.headers if isinstance(response, httpx2.Response) else {}
        status = getattr(error, "status_code", 0)
        return failures.of_status(status, getattr(error, "body", None), headers)

    def _cleaned(self, error: EffectFailed) -> EffectFailed:
        return EffectFailed(
            error.code,
            self._clean(error.message),
            retryable=error.retryable,
            retry_after_s=error.retry_after_s,
            usage=error.usage,
        )

    def _clean(self, text: str) -> str:
        """`text` from outside: without the key, without lone surrogates, not long."""
        shown = text.replace(self._secret, "[key]") if self._secret else text
        return shown.encode("utf-8", "replace").decode()[:MESSAGE_CHARS_MAX]


async def _read(response: Response, reader: Reader) -> None:
    chunks = response.iter_bytes()
    async for chunk in chunks:
        reader.feed(chunk)
        if reader.is_done:
            break
    else:
        return
    # A whole reply is not lost to what comes after it. Only a connection that was read to its end is used
    # again, and the end is usually there already.
    with contextlib.suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            async for _ in chunks:
                continue


def timeouts(timeout_s: float) -> httpx2.Timeout:
    """`timeout_s` for each wait, less for the connection: nobody answers is soon known."""
    return httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))


def _timed_out(usage: Usage | None) -> EffectFailed:
    return EffectFailed("model.timeout", "the provider did not answer in time", retryable=True, usage=usage)
