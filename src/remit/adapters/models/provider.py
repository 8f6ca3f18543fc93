"""What a provider's `Model` is given, and what it remembers of the provider: the quota of the last response."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from remit.adapters.models.quota import read_quota
from remit.core.quota import Quota

if TYPE_CHECKING:
    import httpx2

DEFAULT_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a provider is and who asks it. `base_url` None is its official address. The key is never shown."""

    api_key: str
    base_url: str | None
    timeout_s: float
    http_client: httpx2.AsyncClient | None

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine: then no proxy of the environment may see the calls."""
        host = urlsplit(self.base_url or "").hostname or ""
        return host in ("localhost", "127.0.0.1", "::1")

    @property
    def region(self) -> str:
        """Where OpenAI serves the calls by its address, such as `eu`; empty where anywhere."""
        host = urlsplit(self.base_url or "").hostname or ""
        return host.removesuffix(".api.openai.com") if host.endswith(".api.openai.com") else ""

    def __repr__(self) -> str:
        return f"Endpoint(base_url={self.base_url!r}, timeout_s={self.timeout_s!r})"


Seen: TypeAlias = Callable[[str, Mapping[str, str]], None]
"""Told the model and the headers of each response."""


class QuotaWatch:
    """The quotas in the newest response that had any; `on_quota` is told them and returns at once."""

    def __init__(self, provider: str, on_quota: Callable[[tuple[Quota, ...]], None] | None) -> None:
        self._provider = provider
        self._on_quota = on_quota
        self._quotas: tuple[Quota, ...] = ()

    @property
    def quotas(self) -> tuple[Quota, ...]:
        """The newest quotas; empty where the provider has told none."""
        return self._quotas

    def see(self, model: str, headers: Mapping[str, str]) -> None:
        """Take the quotas from the headers of a response for `model`."""
        found = read_quota(self._provider, model, headers)
        if found:
            self._quotas = found
            if self._on_quota is not None:
                self._on_quota(found)
