"""The official `anthropic` client: one attempt, the reply's bytes, every failure an `EffectFailed`.

The only module that imports the SDK (1 to 2 s); `AnthropicModel` imports it on first need.
"""

from __future__ import annotations

from typing import Any, NoReturn

import anthropic
import httpx2

from remit.core.messages import Usage
from remit.ports.effects import EffectFailed

CONNECT_TIMEOUT_S = 10.0
MESSAGE_CHARS_MAX = 400

_TRY_AGAIN = frozenset({408, 409, 429})
_MAYBE_BILLED = frozenset({408, 499, 502, 504})
"""Statuses of someone between us and the model, who may have seen the work through."""

_SPEND_LIMIT = "enforced_spend_limit_reached"


class AnthropicClient:
    """A connection pool to the provider. The key is never shown."""

    def __init__(
        self, api_key: str, base_url: str | None, timeout_s: float, http_client: httpx2.AsyncClient | None
    ) -> None:
        self._secret = api_key
        self._sdk = anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url=base_url,
            timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
            max_retries=0,  # retries need a hold of their own, so they are the runtime's
            http_client=http_client,
            open_telemetry=False,  # the gate records the call; the SDK's spans would say it twice
        )

    def __repr__(self) -> str:
        return f"AnthropicClient({str(self._sdk.base_url)!r})"

    async def create(self, body: dict[str, Any]) -> bytes:
        """The body of the successful response to POST /v1/messages. Raises: EffectFailed."""
        try:
            response = await self._sdk.messages.with_raw_response.create(**body)
            data: bytes = await response.read()
            return data
        except anthropic.APITimeoutError as error:
            unsent = isinstance(error.__cause__, httpx2.ConnectTimeout | httpx2.PoolTimeout)
            raise EffectFailed(
                "model.timeout",
                "the provider did not answer in time",
                retryable=True,
                usage=Usage() if unsent else None,
            ) from None
        except anthropic.APIStatusError as error:
            self._fail_by_status(error)
        except anthropic.APIConnectionError as error:
            unsent = isinstance(error.__cause__, httpx2.ConnectError)
            raise EffectFailed(
                "model.unavailable",
                f"no connection to the provider: {self._clean(str(error.__cause__ or error))}",
                retryable=True,
                usage=Usage() if unsent else None,
            ) from None
        except UnicodeEncodeError:
            raise EffectFailed("model.failed", "the request holds text that is not Unicode") from None
        except (anthropic.AnthropicError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            self._fail_unread(error)
        except (ValueError, TypeError, AttributeError, RecursionError, LookupError) as error:
            # What the SDK raises where a response is not what it expects.
            self._fail_unread(error)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sdk.close()

    def _fail_by_status(self, error: anthropic.APIStatusError) -> NoReturn:
        status = error.status_code
        detail = error.api_message if isinstance(error.api_message, str) else ""
        message = self._clean(f"the provider answered {status}: {detail or 'no message'}")
        usage = None if status in _MAYBE_BILLED else Usage()
        if error.error_code == _SPEND_LIMIT or error.type == _SPEND_LIMIT:
            raise EffectFailed("model.failed", message, usage=usage) from None
        if status in _TRY_AGAIN or status >= 500:
            raise EffectFailed("model.unavailable", message, retryable=True, usage=usage) from None
        raise EffectFailed("model.failed", message, usage=usage) from None

    def _fail_unread(self, error: Exception) -> NoReturn:
        message = self._clean(f"the provider's response cannot be read: {type(error).__name__}: {error}")
        raise EffectFailed("model.failed", message, usage=None) from None

    def _clean(self, text: str) -> str:
        """`text` from outside: without the key, without lone surrogates, not long."""
        shown = text.replace(self._secret, "[key]") if self._secret else text
        return shown.encode("utf-8", "replace").decode()[:MESSAGE_CHARS_MAX]
