"""The rates of one model, and what usage costs at them: integers throughout, rounded up once.

A rate is in nano-USD per million tokens, so `tokens * rate` is exact and the sum is divided once.
Crossing the start of a tier puts all tokens of the call on that tier, as providers bill it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from types import MappingProxyType

from remit.core import money
from remit.core.messages import Usage
from remit.core.models import provider_of
from remit.ports.services import Charge

TOKENS_PER_RATE = 1_000_000
STANDARD_TIERS = frozenset({"", "standard", "default"})
"""What providers call their standard service; empty where they say nothing."""

STANDARD_GEOS = frozenset({"", "global", "not_available"})
"""What providers say where a call was served anywhere, at no surcharge."""


# No public table carries these. OpenAI says nothing of the place in its replies: the address that is called does.
_GEO_PERCENTS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "anthropic": MappingProxyType({"us": 110}),
        "openai": MappingProxyType(
            dict.fromkeys(("ae", "au", "ca", "eu", "gb", "in", "jp", "kr", "sg", "us"), 110)
        ),
    }
)


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

    def total(self, usage: Usage) -> int:
        """The price of `usage`, in nano-USD per million."""
        return (
            usage.input_tokens * self.input
            + usage.output_tokens * self.output
            + usage.cache_read_tokens * self.cache_read
            + (usage.cache_write_tokens - usage.cache_write_1h_tokens) * self.cache_write
            + usage.cache_write_1h_tokens * self.cache_write_1h
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What one model costs: its `tiers`, the base first; `above_input_tokens` of the base is -1, and they ascend.

    `service_tiers`: the same for each service tier but the standard one, by the provider's word for it.
    `geo_percents`: what serving in a place costs of all rates, by the provider's word for the place.
    """

    tiers: tuple[Tier, ...]
    service_tiers: Mapping[str, tuple[Tier, ...]] = field(default_factory=dict)
    geo_percents: Mapping[str, int] = field(default_factory=dict)

    def charge(self, usage: Usage) -> Charge:
        """The price of `usage` on the terms that it names; at the dearest known where these are not known."""
        tiers, assumed = self.tiers, False
        if usage.service_tier not in STANDARD_TIERS:
            assumed = usage.service_tier not in self.service_tiers
            tiers = self.dearest_tiers if assumed else self.service_tiers[usage.service_tier]
        percent = 100
        if usage.inference_geo not in STANDARD_GEOS:
            assumed = assumed or usage.inference_geo not in self.geo_percents
            percent = self.geo_percents.get(usage.inference_geo, self.geo_percent_max)
        prompt_tokens = usage.prompt_tokens
        tier = tiers[0]
        for candidate in tiers[1:]:
            if prompt_tokens > candidate.above_input_tokens:
                tier = candidate
        cost = _nano_usd(tier.total(usage), percent)
        plain = _nano_usd(prompt_tokens * tier.input + usage.output_tokens * tier.output, percent)
        return Charge(cost_nano_usd=cost, saved_nano_usd=plain - cost, assumed=assumed)

    def worst_cost(self, input_tokens_max: int, output_tokens_max: int) -> int:
        """The most that a call within the bounds can cost, in nano-USD.

        That is over every tier that it can reach, at the dearest service tier and place.
        """
        total = max(
            input_tokens_max * tier.worst_input + output_tokens_max * tier.output
            for tier in self.dearest_tiers
            if input_tokens_max > tier.above_input_tokens
        )
        return _nano_usd(total, self.geo_percent_max)

    @property
    def worst(self) -> Rates:
        """The same worst cost, quicker to find."""
        return Rates(tiers=self.dearest_tiers, geo_percents={"any": self.geo_percent_max})

    @property
    def dearest_tiers(self) -> tuple[Tier, ...]:
        """Tiers at which nothing costs less than at any service tier."""
        if not self.service_tiers:
            return self.tiers
        return _dearest([self.tiers, *self.service_tiers.values()])

    @property
    def geo_percent_max(self) -> int:
        """What the dearest place costs, in percent; no place is cheaper than anywhere."""
        return max(self.geo_percents.values(), default=100)


def geo_percents(model: str) -> Mapping[str, int]:
    """What serving in a place costs with the provider of `model`, where its own price says nothing of it."""
    return _GEO_PERCENTS.get(provider_of(model), {})


def rate(usd_per_million: Decimal) -> int:
    """A rate in nano-USD per million tokens, rounded up where it is finer than that."""
    return money.nano_usd(usd_per_million)


def dearest(rates: tuple[Rates, ...]) -> Rates:
    """Rates that are on any terms and at every token count at least as dear as each of `rates`."""
    names = {name for each in rates for name in each.service_tiers}
    places = {place for each in rates for place in each.geo_percents}
    return Rates(
        tiers=_dearest([each.tiers for each in rates]),
        service_tiers={
            name: _dearest([each.service_tiers.get(name, each.dearest_tiers) for each in rates])
            for name in sorted(names)
        },
        geo_percents={
            place: max(each.geo_percents.get(place, each.geo_percent_max) for each in rates)
            for place in sorted(places)
        },
    )


def _nano_usd(total: int, percent: int) -> int:
    return -(-total * percent // (100 * TOKENS_PER_RATE))


def _dearest(all_tiers: Iterable[tuple[Tier, ...]]) -> tuple[Tier, ...]:
    every = list(all_tiers)
    starts = sorted({tier.above_input_tokens for tiers in every for tier in tiers})
    return tuple(_dearest_tier([_tier_above(tiers, start) for tiers in every], start) for start in starts)


def _dearest_tier(reached: list[Tier], start: int) -> Tier:
    names = [one.name for one in fields(Tier)]
    dearest_of = {name: max(getattr(tier, name) for tier in reached) for name in names}
    return Tier(**dearest_of | {"above_input_tokens": start})


def _tier_above(tiers: tuple[Tier, ...], start: int) -> Tier:
    return [tier for tier in tiers if tier.above_input_tokens <= start][-1]
