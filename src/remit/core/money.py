"""Money is an integer number of nano-USD (10**-9 US dollars), rounded against us, never a float."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

NANO_PER_USD = 10**9


def nano_usd(usd: Decimal) -> int:
    """`usd` in nano-USD, rounded up."""
    return int((usd * NANO_PER_USD).to_integral_value(rounding=ROUND_CEILING))


def format_usd(nano: int, places: int = 6) -> str:
    """`nano` as dollars with `places` decimals, rounded up, such as `$0.004113`."""
    step = 10 ** (9 - places)
    units = -(-nano // step)
    whole, part = divmod(abs(units), 10**places)
    sign = "-" if units < 0 else ""
    return f"{sign}${whole}.{part:0{places}d}"


def usd_text(nano: int) -> str:
    """`nano` as an exact decimal number of dollars without trailing zeros, such as `0.004113`."""
    return f"{Decimal(nano) / NANO_PER_USD:f}"
