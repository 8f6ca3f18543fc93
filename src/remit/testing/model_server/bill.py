"""The server's own bill: what it processed, counted by itself at its own rates.

It is there to be compared with the client's ledger, so it shares no table and no code with it. What was
processed is billed, also where the answer was cut, hung, or had no reader any more.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from remit.testing.model_server.conversation import STANDARD, Served
from remit.testing.model_server.wire import Tokens

ENTRIES_MAX = 100_000
OTHER_MODELS = "*"

EntryOutcome: TypeAlias = Literal["ok", "cut", "hung", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BillRate:
    """Nano-USD a token. Cache rates that are not given are 1/10, 5/4 (5 minutes) and twice the input's.

    A model whose `cache_write` is given tells OpenAI clients of its cache writes; others write for nothing.
    """

    input: int
    output: int
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None

    def cost(self, tokens: Tokens) -> int:
        """What `tokens` cost, in nano-USD."""
        read = self.input // 10 if self.cache_read is None else self.cache_read
        write = self.input * 5 // 4 if self.cache_write is None else self.cache_write
        write_1h = self.input * 2 if self.cache_write_1h is None else self.cache_write_1h
        return (
            tokens.input * self.input
            + tokens.output * self.output
            + tokens.cache_read * read
            + tokens.cache_write_5m * write
            + tokens.cache_write_1h * write_1h
        )


DEFAULT_RATES: Mapping[str, BillRate] = MappingProxyType(
    {
        "claude-sonnet-4-20260514": BillRate(input=3_000, output=15_000),
        "claude-haiku-4-5": BillRate(input=1_000, output=5_000),
        "claude-opus-4-8": BillRate(input=5_000, output=25_000),
        "gpt-5-mini": BillRate(input=250, output=2_000, cache_read=25),
        "gpt-5.1": BillRate(input=1_250, output=10_000, cache_read=125),
        "gpt-5.2": BillRate(input=1_750, output=14_000, cache_read=175),
        "gpt-5.6-terra": BillRate(input=2_000, output=12_000, cache_read=200, cache_write=2_500),
        OTHER_MODELS: BillRate(input=3_000, output=15_000),
    }
)


@dataclass(slots=True)
class _Line:
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_nano_usd: int = 0

    def add(self, tokens: Tokens, cost_nano_usd: int) -> None:
        self.calls += 1
        self.input_tokens += tokens.input
        self.output_tokens += tokens.output
        self.cache_read_tokens += tokens.cache_read
        self.cache_write_tokens += tokens.cache_write
        self.cost_nano_usd += cost_nano_usd

    def to_json(self) -> dict[str, int]:
        return {
            "calls": self.calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "cost_nano_usd": self.cost_nano_usd,
        }


@dataclass(slots=True, kw_only=True)
class Entry:
    """One request. Its outcome is `hung` until something else is known; a request not billed costs 0."""

    request_id: str
    at_us: int
    path: str
    model: str
    digest: str
    stream: bool
    billed: bool
    tokens: Tokens
    cost_nano_usd: int
    outcome: EntryOutcome = "hung"
    served: Served = STANDARD

    def to_json(self) -> dict[str, Any]:
        return {
            "request_id": self.request_id,
            "at_us": self.at_us,
            "path": self.path,
            "model": self.model,
            "request_digest": self.digest,
            "stream": self.stream,
            "outcome": self.outcome,
            "billed": self.billed,
            "service_tier": self.served.tier,
            "inference_geo": self.served.geo,
            "input_tokens": self.tokens.input,
            "output_tokens": self.tokens.output,
            "cache_read_tokens": self.tokens.cache_read,
            "cache_write_5m_tokens": self.tokens.cache_write_5m,
            "cache_write_1h_tokens": self.tokens.cache_write_1h,
            "reasoning_tokens": self.tokens.reasoning,
            "cost_nano_usd": self.cost_nano_usd,
        }


@dataclass(slots=True)
class Bill:
    """Totals of every processed call, and the latest entries. Input tokens exclude both cache counts."""

    rates: Mapping[str, BillRate] = field(default_factory=lambda: DEFAULT_RATES)
    _total: _Line = field(default_factory=_Line)
    _by_model: dict[str, _Line] = field(default_factory=dict)
    _by_day: dict[tuple[str, str], _Line] = field(default_factory=dict)
    _entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=ENTRIES_MAX))

    def knows(self, model: str) -> bool:
        """Whether `model` is served."""
        return model in self.rates or OTHER_MODELS in self.rates

    def rate(self, model: str) -> BillRate:
        """The rate of a model that is served."""
        return self.rates.get(model) or self.rates[OTHER_MODELS]

    def add(self, entry: Entry) -> Entry:
        """Put one request on the bill; where it is billed, at its model's rate."""
        if entry.billed:
            full = self.rate(entry.model).cost(entry.tokens)
            cost = entry.cost_nano_usd = -(-full * entry.served.percent // 100)
            day = datetime.fromtimestamp(entry.at_us // 1_000_000, UTC).date().isoformat()
            for line in (
                self._total,
                self._by_model.setdefault(entry.model, _Line()),
                self._by_day.setdefault((day, entry.model), _Line()),
            ):
                line.add(entry.tokens, cost)
        self._entries.append(entry)
        return entry

    def reset(self) -> None:
        """Begin a new bill."""
        self._total = _Line()
        self._by_model.clear()
        self._by_day.clear()
        self._entries.clear()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The latest requests, oldest first, at most ENTRIES_MAX."""
        return tuple(self._entries)

    def to_json(self, *, entries: bool = False) -> dict[str, Any]:
        """The bill: totals, and the same by model; with `entries`, each request too."""
        by_model = {model: line.to_json() for model, line in sorted(self._by_model.items())}
        bill: dict[str, Any] = {**self._total.to_json(), "by_model": by_model}
        if entries:
            bill["entries"] = [entry.to_json() for entry in self._entries]
        return bill

    def to_csv(self) -> str:
        """The bill as a provider exports costs: one line a UTC day and model, in USD."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        tokens = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
        writer.writerow(("date", "model", *tokens, "cost_usd"))
        for (day, model), line in sorted(self._by_day.items()):
            counts = line.to_json()
            dollars, nanos = divmod(line.cost_nano_usd, 10**9)
            writer.writerow((day, model, *(counts[name] for name in tokens), f"{dollars}.{nanos:09d}"))
        return out.getvalue()
