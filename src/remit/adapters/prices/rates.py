"""The rates of one model, and what usage costs at them: integers throughout, rounded up once.

A rate is in nano-USD per million tokens, so `tokens * rate` is exact and the sum is divided once.
Crossing the start of a tier puts all tokens of the call on that tier, as providers bill it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from remit.core import money
from remit.core.messages import Usage

TOKENS_PER_RATE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Rates for calls that read more than `above_input_tokens` tokens, in nano-USD per million tokens.

    `cache_write` is the rate of the five-minute cache, `cache_write_1h` that of the one-hour cache.
    """

    above_input_tokens: int
    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int

    @property
    def worst_input(self) -> int:
        """The dearest way in which a token can be read."""
        return max(self.input, self.cache_read, self.cache_write, self.cache_write_1h)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The tiers of one model, the base first; `above_input_tokens` of the base is -1, and they ascend."""

    tiers: tuple[Tier, ...]

    def cost(self, usage: Usage) -> int:
        """The price of `usage` in nano-USD, rounded up once.

        Tokens written to a cache count at the five-minute rate, the only cache the adapters ask for.
        """
        prompt_tokens = usage.prompt_tokens
        tier = self.tiers[0]
        for candidate in self.tiers[1:]:
            if prompt_tokens > candidate.above_input_tokens:
                tier = candidate
        total = (
            usage.input_tokens * tier.input
            + usage.output_tokens * tier.output
            + usage.cache_read_tokens * tier.cache_read
            + usage.cache_write_tokens * tier.cache_write
        )
        return -(-total // TOKENS_PER_RATE)

    def worst_cost(self, input_tokens_max: int, output_tokens_max: int) -> int:
        """The most that a call within the bounds can cost, in nano-USD, over every tier it can reach."""
        total = max(
            input_tokens_max * tier.worst_input + output_tokens_max * tier.output
            for tier in self.tiers
            if input_tokens_max > tier.above_input_tokens
        )
        return -(-total // TOKENS_PER_RATE)


def rate(usd_per_million: Decimal) -> int:
    """A rate in nano-USD per million tokens, rounded up where it is finer than that."""
    return money.nano_usd(usd_per_million)


def dearest(rates: tuple[Rates, ...]) -> Rates:
    """Rates that are at every token count at least as dear as each of `rates`."""
    starts = sorted({tier.above_input_tokens for each in rates for tier in each.tiers})
    return Rates(tiers=tuple(_dearest_tier(rates, start) for start in starts))


def _dearest_tier(rates: tuple[Rates, ...], start: int) -> Tier:
    reached = [_tier_above(each, start) for each in rates]
    return Tier(
        above_input_tokens=start,
        input=max(tier.input for tier in reached),
        output=max(tier.output for tier in reached),
        cache_read=max(tier.cache_read for tier in reached),
        cache_write=max(tier.cache_write for tier in reached),
        cache_write_1h=max(tier.cache_write_1h for tier in reached),
    )


def _tier_above(rates: Rates, start: int) -> Tier:
    return [tier for tier in rates.tiers if tier.above_input_tokens <= start][-1]
