"""Price files: strict, exact decimals, nothing below zero, every error with its line."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from remit.adapters.prices.rates import Rates, Tier, geo_percents, rate
from remit.core.errors import RemitError
from remit.governance import source
from remit.governance.source import ConfigErrors, Document
from remit.governance.source import Path as Keys

PACKAGED = "prices.yaml"


def _number(value: Any) -> Any:
    """Integers are exact too; text and booleans are not numbers."""
    return Decimal(value) if type(value) is int else value


_Usd = Annotated[
    Decimal,
    BeforeValidator(_number),
    Field(ge=0, le=1_000_000, allow_inf_nan=False, strict=True, description="US dollars per million tokens"),
]


class _Prices(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    input: _Usd
    output: _Usd
    cache_read: _Usd | None = None
    cache_write: _Usd | None = None
    cache_write_1h: _Usd | None = None


class _Tier(_Prices):
    above_input_tokens: int = Field(ge=0, strict=True)


class _ServiceTier(_Prices):
    long_context: list[_Tier] = []


_Word = Annotated[str, Field(pattern="^[a-z0-9_-]{1,32}$")]
_Percent = Annotated[int, Field(ge=0, le=1000, strict=True, description="percent on top of every rate")]


class _Model(_ServiceTier):
    service_tiers: dict[_Word, _ServiceTier] = {}
    geo_surcharge_percent: dict[_Word, _Percent] | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[str, _Model]


def read_prices(path: Path) -> Mapping[str, tuple[Rates, str]]:
    """The rates in the price file at `path` and the line where they stand, by model.

    Raises: ConfigErrors, with everything that is wrong; RemitError `config.missing`, `config.syntax`.
    """
    try:
        return _compile(path.read_text(encoding="utf-8-sig"), str(path))
    except OSError as error:
        raise RemitError(
            "config.missing", f"the price file {path} cannot be read", cause=str(error)
        ) from error
    except UnicodeDecodeError as error:
        raise RemitError("config.syntax", f"{path} is not UTF-8 text", cause=str(error)) from error


def packaged_prices() -> Mapping[str, tuple[Rates, str]]:
    """The rates that come with this package and the line where they stand, by model."""
    return _compile(files(__package__).joinpath(PACKAGED).read_text(encoding="utf-8"), PACKAGED)


def _compile(text: str, name: str) -> Mapping[str, tuple[Rates, str]]:
    document = source.read(text, name)
    try:
        file = _File.model_validate(document.value)
    except ValidationError as error:
        raise source.schema_errors(document, _File, error) from None
    return {
        model: (_rates(document, model, prices), document.place(("models", model)))
        for model, prices in file.models.items()
    }


def _rates(document: Document, name: str, model: _Model) -> Rates:
    path = ("models", name)
    surcharges = model.geo_surcharge_percent
    return Rates(
        tiers=_tiers(document, path, model),
        service_tiers={
            tier: _tiers(document, (*path, "service_tiers", tier), prices)
            for tier, prices in model.service_tiers.items()
        },
        geo_percents=geo_percents(name)
        if surcharges is None
        else {place: 100 + percent for place, percent in surcharges.items()},
    )


def _tiers(document: Document, path: Keys, prices: _ServiceTier) -> tuple[Tier, ...]:
    tiers = [_tier(-1, prices)]
    for index, long in enumerate(prices.long_context):
        if long.above_input_tokens <= tiers[-1].above_input_tokens:
            message = "above_input_tokens must be more than that of the tier before"
            where: Keys = (*path, "long_context", index)
            raise ConfigErrors(
                [document.error(where, "config.out_of_range", message, "put the tiers in order")]
            )
        tiers.append(_tier(long.above_input_tokens, long))
    return tuple(tiers)


def _tier(above: int, prices: _Prices) -> Tier:
    # What is not given costs as much as what it falls back to at the provider: a plain input token.
    write = prices.input if prices.cache_write is None else prices.cache_write
    return Tier(
        above_input_tokens=above,
        input=rate(prices.input),
        output=rate(prices.output),
        cache_read=rate(prices.input if prices.cache_read is None else prices.cache_read),
        cache_write=rate(write),
        cache_write_1h=rate(write if prices.cache_write_1h is None else prices.cache_write_1h),
    )
