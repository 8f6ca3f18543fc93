"""What models cost: the user's file first, then the packaged one, then a public table; never a guess."""

from remit.adapters.prices.book import PriceBook, PriceExplanation
from remit.adapters.prices.rates import Rates, Tier

__all__ = ["PriceBook", "PriceExplanation", "Rates", "Tier"]
