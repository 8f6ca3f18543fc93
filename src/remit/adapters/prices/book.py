"""A price book knows what a model costs or refuses; it never says zero of what it does not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from remit.adapters.prices.override import packaged_prices, read_prices
from remit.adapters.prices.rates import Rates
from remit.core.errors import RemitError
from remit.core.messages import Usage
from remit.ports.services import Charge, Clock

_MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceExplanation:
    """The rates of a model, the worst that a hold assumes, and where they come from.

    `source`: file and line, or the table's name and version. `since`: the day of a dated price, where it has one.
    """

    model: str
    rates: Rates
    worst: Rates
    source: str
    since: str | None = None


class PriceBook:
    """Prices by model: the override file, then the packaged file, then the public table.

    The public table dates some prices; without a clock the dearest of the dated prices apply.
    """

    def __init__(self, override_path: Path | None = None, clock: Clock | None = None) -> None:
        """Raises: RemitError `config.*` with `file:line` where the override file is not right."""
        self._clock = clock
        self._listed: dict[str, PriceExplanation] = {}
        self._looked_up: dict[tuple[str, int], PriceExplanation | None] = {}
        self._list(packaged_prices())
        if override_path is not None:
            self._list(read_prices(override_path))

    def charge(self, model: str, usage: Usage) -> Charge:
        """What `usage` costs, rounded up once. Raises: RemitError `price.unknown`."""
        return self.explain(model).rates.charge(usage)

    def worst_cost(self, model: str, input_tokens_max: int, output_tokens_max: int) -> int:
        """The most that a call within the bounds can cost, in nano-USD.

        Every input token is counted at the dearest rate that can apply to it (a one-hour cache write)
        and at the dearest tier within reach, of the dearest service tier and place. Raises: RemitError `price.unknown`.
        """
        return self.explain(model).worst.worst_cost(input_tokens_max, output_tokens_max)

    def explain(self, model: str) -> PriceExplanation:
        """The rates of `model` and their source. Raises: RemitError `price.unknown`."""
        found = self._listed.get(model) or self._look_up(model)
        if found is None:
            raise RemitError("price.unknown", f"there is no price for the model {model!r}")
        return found

    def models(self) -> frozenset[str]:
        """The names that are listed; a table's pattern may know more names of the same model."""
        # imported only when asked for, as below
        from remit.adapters.prices import public_table  # noqa: PLC0415

        return frozenset(self._listed) | public_table.models()

    def _list(self, rates: Mapping[str, tuple[Rates, str]]) -> None:
        for model, (each, source) in rates.items():
            self._listed[model] = PriceExplanation(model=model, rates=each, worst=each.worst, source=source)

    def _look_up(self, model: str) -> PriceExplanation | None:
        at_us = None if self._clock is None else self._clock.now_us()
        minute = 0 if at_us is None else at_us // _MINUTE_US
        key = (model, minute)
        if key not in self._looked_up:
            if len(self._looked_up) >= 1000:  # names come from governance files, but bound it all the same
                self._looked_up.clear()
            self._looked_up[key] = self._from_table(model, at_us)
        return self._looked_up[key]

    def _from_table(self, model: str, at_us: int | None) -> PriceExplanation | None:
        # Imported only when a name is in no file, because it takes 0.3 s.
        from remit.adapters.prices import public_table  # noqa: PLC0415

        found = public_table.find(model, at_us)
        if found is None:
            return None
        rates, worst, since = found
        source = public_table.source()
        return PriceExplanation(model=model, rates=rates, worst=worst.worst, source=source, since=since)
