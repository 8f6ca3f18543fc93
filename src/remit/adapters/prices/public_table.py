"""The public price table (genai-prices) as our rates: read from the package, never from the network.

Imported on first need alone: it takes 0.3 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from genai_prices import Usage, calc_price
from genai_prices.types import ConditionalPrice, ModelPrice, TieredPrices

from remit.adapters.prices.rates import Rates, Tier, dearest, rate

SETTLING_S = 3600
"""How long after a hold a call may be settled: worst costs cover a change of price within it."""


def source() -> str:
    """The table's name and version."""
    return f"genai-prices {version('genai-prices')}"


def find(model: str, at_us: int | None) -> tuple[Rates, Rates] | None:
    """The rates of `model` at `at_us` and the worst that can apply soon after; None where it has none.

    Without a time, the dearest of its dated prices stand in for both. A model without a price for input
    or output tokens, or with zero for both, counts as one without rates.
    """
    try:
        info = calc_price(Usage(input_tokens=0, output_tokens=0), model).model
    except (LookupError, ValueError):
        return None
    prices: Any = info.prices
    if isinstance(prices, ModelPrice):
        only = _rates(prices)
        return None if only is None else (only, only)
    if at_us is None:
        known = _known([_rates(each.prices) for each in prices])
        return None if known is None else (known, known)
    now = datetime.fromtimestamp(at_us / 1e6, UTC)
    current = _rates(info.get_prices(now))
    soon = _known([current, _rates(info.get_prices(now + timedelta(seconds=SETTLING_S))), *_by_hour(prices)])
    return None if current is None or soon is None else (current, soon)


def _by_hour(prices: Sequence[ConditionalPrice]) -> list[Rates | None]:
    # A price that depends on the time of day may begin and end between hold and settlement.
    return [
        _rates(each.prices)
        for each in prices
        if each.constraint is not None and hasattr(each.constraint, "start_time")
    ]


def _known(rates: Sequence[Rates | None]) -> Rates | None:
    known = tuple(each for each in rates if each is not None)
    return dearest(known) if len(known) == len(rates) and known else None


def _rates(prices: ModelPrice) -> Rates | None:
    if prices.input_mtok is None or prices.output_mtok is None:
        return None
    keys = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")
    values = [getattr(prices, key) for key in keys]
    starts = sorted(
        {tier.start for value in values if isinstance(value, TieredPrices) for tier in value.tiers}
    )
    tiers = tuple(_tier(start, [_at(value, start) for value in values]) for start in (-1, *starts))
    if all(tier.input == 0 and tier.output == 0 for tier in tiers):
        return None
    return Rates(tiers=tiers)


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
