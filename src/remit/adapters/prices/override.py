"""Price files: strict, exact decimals, nothing below zero, every error with its line."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from remit.adapters.prices.rates import Rates, Tier, rate
from remit.core.errors import RemitError
from remit.governance import source
from remit.governance.source import ConfigErrors, Document

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


class _Model(_Prices):
    long_context: list[_Tier] = []


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[str, _Model]


def read_prices(path: Path) -> Mapping[str, Rates]:
    """The rates in the price file at `path`, by model.

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


def packaged_prices() -> Mapping[str, Rates]:
    """The rates that come with this package, by model."""
    return _compile(files(__package__).joinpath(PACKAGED).read_text(encoding="utf-8"), PACKAGED)


def _compile(text: str, name: str) -> Mapping[str, Rates]:
    document = source.read(text, name)
    try:
        file = _File.model_validate(document.value)
    except ValidationError as error:
        raise source.schema_errors(document, _File, error) from None
    return {model: _rates(document, model, prices) for model, prices in file.models.items()}


def _rates(document: Document, name: str, model: _Model) -> Rates:
    tiers = [_tier(-1, model)]
    for index, long in enumerate(model.long_context):
        if long.above_input_tokens <= tiers[-1].above_input_tokens:
            path = ("models", name, "long_context", index)
            message = "above_input_tokens must be more than that of the tier before"
            raise ConfigErrors(
                [document.error(path, "config.out_of_range", message, "put the tiers in order")]
            )
        tiers.append(_tier(long.above_input_tokens, long))
    return Rates(tiers=tuple(tiers))


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
