"""The server's own bill: what it answered, counted by itself at its own rates.

It is there to be compared with the client's ledger, so it shares no table and no code with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class BillRate:
    """Nano-USD a token."""

    input: int
    output: int


OTHER_MODELS = "*"
DEFAULT_RATES: Mapping[str, BillRate] = MappingProxyType(
    {
        "claude-sonnet-4-20260514": BillRate(input=3_000, output=15_000),
        OTHER_MODELS: BillRate(input=3_000, output=15_000),
    }
)


@dataclass(slots=True)
class _Line:
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano_usd: int = 0

    def add(self, input_tokens: int, output_tokens: int, rate: BillRate) -> None:
        self.calls += 1
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.cost_nano_usd += input_tokens * rate.input + output_tokens * rate.output

    def to_json(self) -> dict[str, int]:
        return {
            "calls": self.calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_nano_usd": self.cost_nano_usd,
        }


@dataclass(slots=True)
class Bill:
    """Every answered call, also one whose client did not wait for the answer. `*` is any other model."""

    rates: Mapping[str, BillRate] = field(default_factory=lambda: DEFAULT_RATES)
    _total: _Line = field(default_factory=_Line)
    _by_model: dict[str, _Line] = field(default_factory=dict)

    def knows(self, model: str) -> bool:
        """Whether `model` is served."""
        return model in self.rates or OTHER_MODELS in self.rates

    def charge(self, model: str, input_tokens: int, output_tokens: int) -> None:
        """Put one call on the bill."""
        rate = self.rates.get(model) or self.rates[OTHER_MODELS]
        self._total.add(input_tokens, output_tokens, rate)
        self._by_model.setdefault(model, _Line()).add(input_tokens, output_tokens, rate)

    def reset(self) -> None:
        """Begin a new bill."""
        self._total = _Line()
        self._by_model.clear()

    def to_json(self) -> dict[str, Any]:
        """The bill: totals, and the same by model."""
        by_model = {model: line.to_json() for model, line in sorted(self._by_model.items())}
        return {**self._total.to_json(), "by_model": by_model}
