"""What a provider still allows: one of its limits, as the headers of a response said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

QuotaKind: TypeAlias = Literal["requests", "tokens", "input_tokens", "output_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """One limit of a provider for a model. `resets_at_us` is None where the provider does not say."""

    provider: str
    model: str
    kind: QuotaKind
    limit: int
    remaining: int
    resets_at_us: int | None
