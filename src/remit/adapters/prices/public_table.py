"""The public price table (genai-prices) as our rates: read from the package, never from the network.

Imported on first need alone: it takes 0.3 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from genai_prices import Usage, calc_price
from genai_prices.data import providers
from genai_prices.types import ModelPrice, TieredPrices

from remit.adapters.prices.rates import STANDARD_TIERS, Rates, Tier, dearest, geo_percents, rate

SETTLING_S = 3600
"""How long after a hold a call may be settled: worst costs cover a change of price within it."""


def source() -> str:
    """The table's name and version."""
    return f"genai-prices {version('genai-prices')}"


def models() -> frozenset[str]:
    """The names of the models in the table that have a price, of the providers whose protocols we speak."""
    return frozenset(
        info.id
        for provider in providers
        if provider.id in ("anthropic", "openai")
        for info in provider.models
    )


def find(model: str, at_us: int | None) -> tuple[Rates, Rates, str | None] | None:
    """The rates of `model` at `at_us`, the worst that can apply soon after, and the day from which they hold.

    None where it has none. Without a time, the dearest of its dated prices stand in for both. A model without a
    price for input or output tokens, or with zero for both, counts as one without rates.
    """
    try:
        info = calc_price(Usage(input_tokens=0, output_tokens=0), model).model
    except (LookupError, ValueError):
        return None
    if at_us is None:
        known = _known([_rates(model, info, moment) for moment in _moments(info)])
        return None if known is None else (known, known, None)
    now = datetime.fromtimestamp(at_us / 1e6, UTC)
    current = _rates(model, info, now)
    soon = [now + timedelta(seconds=SETTLING_S), *_by_hour(info, now)]
    worst = _known([current, *(_rates(model, info, moment) for moment in soon)])
    if current is None or worst is None:
        return None
    return current, worst, _since(info, now)


def _constraints(info: Any) -> list[Any]:
    dated = [*(() if isinstance(info.prices, ModelPrice) else info.prices), *(info.price_variants or ())]
    return [each.constraint for each in dated if each.constraint is not None]


def _moments(info: Any) -> list[datetime]:
    """A moment of every price that the model has or had."""
    starts = [one for one in _constraints(info) if hasattr(one, "start_date")]
    first = datetime(1970, 1, 1, tzinfo=UTC)
    days = [first, *(datetime.combine(one.start_date, time(), UTC) for one in starts)]
    return [moment for day in days for moment in (day, *_by_hour(info, day))]


def _by_hour(info: Any, now: datetime) -> list[datetime]:
    # A price that depends on the time of day may begin and end between hold and settlement.
    hours = [one for one in _constraints(info) if hasattr(one, "start_time")]
    times = [moment for one in hours for moment in (one.start_time, one.end_time)]
    return [datetime.combine(now.date(), moment, moment.tzinfo or UTC) for moment in times]


def _since(info: Any, now: datetime) -> str | None:
    days = [one.start_date for one in _constraints(info) if hasattr(one, "start_date")]
    begun = [day for day in days if day <= now.date()]
    return max(begun).isoformat() if begun else None


def _known(rates: Sequence[Rates | None]) -> Rates | None:
    known = tuple(each for each in rates if each is not None)
    return dearest(known) if len(known) == len(rates) and known else None


def _rates(model: str, info: Any, moment: datetime) -> Rates | None:
    tiers = _tiers(info.get_prices(moment))
    if tiers is None:
        return None
    variants = {}
    for variant in info.price_variants or ():
        # `speed` is asked for by the request alone, and no request of ours does
        name = variant.when.get("service_tier") or variant.when.get("processing", "")
        if name and name not in STANDARD_TIERS and len(variant.when) == 1:
            variants[name] = _tiers(info.get_prices(moment, dict(variant.when)))
    known = {name: found for name, found in variants.items() if found is not None}
    return Rates(tiers=tiers, service_tiers=known, geo_percents=geo_percents(model))


def _tiers(prices: ModelPrice) -> tuple[Tier, ...] | None:
    if prices.input_mtok is None or prices.output_mtok is None:
        return None
    keys = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")
    values = [getattr(prices, key) for key in keys]
    starts = sorted(
        {tier.start for value in values if isinstance(value, TieredPrices) for tier in value.tiers}
    )
    tiers = tuple(_tier(start, [_at(value, start) for value in values]) for start in (-1, *starts))
    return None if all(tier.input == 0 and tier.output == 0 for tier in tiers) else tiers


def _tier(start: int, usd: list[Decimal | None]) -> Tier:
    plain, output, read, write, write_1h = usd
    plain, output = plain or Decimal(0), output or Decimal(0)
    write = plain if write is None else write
    return Tier(
        above_input_tokens=start,
        input=rate(plain),
        output=rate(output),
        cache_read=rate(plain if read is None else read),
        cache_write=rate(write),
        cache_write_1h=rate(write if write_1h is None else write_1h),
    )


def _at(value: Decimal | TieredPrices | None, start: int) -> Decimal | None:
    if not isinstance(value, TieredPrices):
        return value
    price: Decimal = value.base
    for tier in value.tiers:
        if tier.start <= start:
            price = tier.price
    return price
