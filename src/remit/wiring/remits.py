"""Governance files against the tools there are. Opens nothing and imports little: `remit check` is quick."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from remit.adapters.memory.notes import note_specs
from remit.adapters.prices import PriceBook
from remit.adapters.prices import PriceExplanation as PriceExplanation  # the command line shows them
from remit.adapters.prices import Tier as Tier
from remit.adapters.tools.support.specs import support_specs
from remit.core.errors import RemitError
from remit.core.money import nano_usd
from remit.core.tools import ToolSpec
from remit.governance.budget import TenantCap
from remit.governance.compiler import NO_CHANGES, Surroundings, parse
from remit.governance.remit import Remit
from remit.governance.schema import DEPTH_MAX
from remit.governance.source import BYTES_MAX
from remit.ports.services import Clock
from remit.wiring.toolsets import declare

_CHARS_MAX = BYTES_MAX + 1
"""One more than is taken, so that what is too large is noticed and not cut."""


def tool_declarations(remit: Remit | None = None) -> tuple[ToolSpec, ...]:
    """Every tool that a governance file can name, with those of the toolsets of `remit`. Opens nothing."""
    return support_specs() + note_specs() + (() if remit is None else remit.declared)


def load_remit(config: Path, changes: Mapping[str, str] = NO_CHANGES) -> Remit:
    """The compiled governance file, with `changes` in the place of its keys, and those of the agents it may ask.

    Raises: ConfigErrors; RemitError `config.missing`, `config.syntax`.
    """
    return _Loader().load(config, changes, ())


class _Loader:
    """Reads each governance file once, however many agents may ask its agent."""

    def __init__(self) -> None:
        self._loaded: dict[Path, Remit] = {}

    def load(self, config: Path, changes: Mapping[str, str], above: tuple[Path, ...]) -> Remit:
        """The remit of a file that the files `above` have led to."""
        place = config.resolve()
        if place in above:
            raise RemitError("config.circular", f"{config} leads back to itself")
        if len(above) > DEPTH_MAX:
            raise RemitError("config.out_of_range", f"agents are nested deeper than {DEPTH_MAX}")
        if place not in self._loaded:
            self._loaded[place] = parse(
                text_of(config),
                str(config),
                tool_declarations(),
                changes=changes,
                around=Surroundings(
                    read_file=lambda path: text_of(config.parent / path),
                    load_agent=lambda path: self.load(config.parent / path, NO_CHANGES, (*above, place)),
                    declare=lambda name, section: declare(name, section, config.parent),
                ),
            )
        return self._loaded[place]


def text_of(path: Path) -> str:
    """What a governance file, or one that it names, says. Raises: RemitError `config.missing`, `config.syntax`."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.read(_CHARS_MAX)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise RemitError("config.missing", f"there is no file at {path}") from error
    except OSError as error:
        raise RemitError("config.missing", f"{path} cannot be read", cause=str(error)) from error
    except UnicodeDecodeError as error:
        raise RemitError("config.syntax", f"{path} is not UTF-8 text", cause=str(error)) from error


def open_prices(environment: Mapping[str, str], clock: Clock | None = None) -> PriceBook:
    """The prices of this deployment: REMIT_PRICES, the packaged ones, the public table."""
    path = environment.get("REMIT_PRICES")
    return PriceBook(Path(path) if path else None, clock)


def explain_price(model: str, environment: Mapping[str, str], clock: Clock) -> PriceExplanation:
    """The price of `model` and its source. Raises: RemitError `price.unknown`, which names the nearest models."""
    prices = open_prices(environment, clock)
    try:
        return prices.explain(model)
    except RemitError as error:
        if error.code != "price.unknown":
            raise
        near = difflib.get_close_matches(model, prices.models(), n=5)
        path = environment.get("REMIT_PRICES") or "prices.yaml, and set REMIT_PRICES=prices.yaml"
        entry = f"models: {{{model[:80]}: {{input: 3.00, output: 15.00}}}}"
        raise RemitError(
            "price.unknown",
            error.message,
            cause=f"the nearest names are {', '.join(near)}" if near else "no name is near it",
            remedy=f"write its price in USD per million tokens, such as `{entry}`, into {path}",
        ) from error


def tenant_cap(environment: Mapping[str, str]) -> TenantCap | None:
    """REMIT_TENANT_DAILY_USD: what each tenant may spend a day; REMIT_TIMEZONE: whose days.

    Raises: RemitError `usage.invalid`.
    """
    text = environment.get("REMIT_TENANT_DAILY_USD")
    if not text:
        return None
    zone = environment.get("REMIT_TIMEZONE", "UTC")
    try:
        dollars = Decimal(text)
        ZoneInfo(zone)
    except (InvalidOperation, ZoneInfoNotFoundError, ValueError, OSError) as error:
        message = f"REMIT_TENANT_DAILY_USD={text!r}, REMIT_TIMEZONE={zone!r} are no amount and no zone"
        raise RemitError("usage.invalid", message, remedy="write 100.00 and Europe/Berlin") from error
    if not 0 <= dollars <= 10**9:  # NaN and infinity are neither
        raise RemitError("usage.invalid", "REMIT_TENANT_DAILY_USD is out of range", remedy="write 100.00")
    return TenantCap(day_nano_usd=nano_usd(dollars), timezone=zone)


def unpriced(remit: Remit, environment: Mapping[str, str]) -> list[str]:
    """The models of the remit that have no price, so that every call of them is refused."""
    prices = open_prices(environment)
    found = []
    for model in (remit.model, *remit.fallback_models):
        try:
            prices.explain(model)
        except RemitError as error:
            if error.code != "price.unknown":
                raise
            found.append(model)
    return found
