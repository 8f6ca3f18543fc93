"""Posts signed messages to one receiver: one attempt a call, never an error but in the receipt.

No redirect is followed, nothing of the answer's body is read, and neither the URL nor the secret is logged: the
transport is used without the client above it, which would log the URL of each request.
"""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime

import httpx2

from remit import __version__
from remit.adapters.webhooks.options import WebhookOptions
from remit.core.outbox import OutboxMessage
from remit.core.webhooks import signed_headers
from remit.ports.services import Receipt

RETRY_AFTER_MAX_S = 86_400.0
_DELIVERED = range(200, 300)
_GONE = 410


class WebhookSender:
    """The `Messenger` that posts to a URL, signed as Standard Webhooks has it."""

    def __init__(self, options: WebhookOptions) -> None:
        self._options = options
        self._transport = httpx2.AsyncHTTPTransport()

    def __repr__(self) -> str:
        return "WebhookSender()"

    async def send(self, message: OutboxMessage, at_us: int) -> Receipt:
        """Post `message`; 2xx is delivered, 410 is never again, anything else is to be tried again."""
        timeout_s = self._options.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._transport.handle_async_request(self._request(message, at_us))
                await response.aclose()
        except TimeoutError:
            return Receipt(state="waiting", error=f"no answer within {timeout_s:g} s")
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, OSError) as error:
            # its message may hold the host, so only its type is told
            return Receipt(state="waiting", error=f"no answer: {type(error).__name__}")
        return _receipt(response, at_us)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    def _request(self, message: OutboxMessage, at_us: int) -> httpx2.Request:
        headers = {
            "content-type": "application/json",
            "user-agent": f"remit/{__version__}",
            **signed_headers(self._options.secrets, message.id, at_us // 1_000_000, message.body),
        }
        return httpx2.Request("POST", self._options.url, headers=headers, content=message.body)


def _receipt(response: httpx2.Response, at_us: int) -> Receipt:
    status = response.status_code
    if status in _DELIVERED:
        return Receipt(state="delivered")
    error = f"answered with {status}" + (", which is not followed" if response.is_redirect else "")
    if status == _GONE:
        return Receipt(state="dead", error=f"{error}: the receiver wants no more")
    return Receipt(state="waiting", error=error, retry_after_s=_retry_after_s(response.headers, at_us))


def _retry_after_s(headers: httpx2.Headers, at_us: int) -> float:
    """What the receiver asks to wait, as seconds or as a date; between nothing and a day."""
    text = headers.get("retry-after", "")
    if text.isascii() and text.isdecimal():
        wait_s = float(text)
    else:
        try:
            wait_s = parsedate_to_datetime(text).timestamp() - at_us / 1_000_000
        except (ValueError, TypeError, IndexError, OverflowError):
            wait_s = 0.0
    return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S)
