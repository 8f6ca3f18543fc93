"""Price files: strict, exact decimals, nothing below zero, every error with its line."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from remit.adapters.prices import yaml_source
from remit.adapters.prices.rates import Rates, Tier, rate
from remit.adapters.prices.yaml_source import YamlSource
from remit.core.errors import RemitError

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

    Raises: RemitError `config.missing`, `config.syntax`, `config.unknown_key`, `config.missing_key`,
    `config.out_of_range`, `config.wrong_type`, each naming `file:line`.
    """
    if not path.is_file():
        raise RemitError("config.missing", f"the price file {path} does not exist")
    return _compile(yaml_source.read(path, "config.syntax", exact=True))


def packaged_prices() -> Mapping[str, Rates]:
    """The rates that come with this package, by model."""
    data = files(__package__).joinpath(PACKAGED).read_bytes()
    return _compile(yaml_source.parse(data, PACKAGED, "config.syntax", exact=True))


def _compile(source: YamlSource) -> Mapping[str, Rates]:
    try:
        file = _File.model_validate(source.value)
    except ValidationError as error:
        raise _first(source, error) from error
    return {name: _rates(source, name, model) for name, model in file.models.items()}


def _rates(source: YamlSource, name: str, model: _Model) -> Rates:
    tiers = [_tier(-1, model)]
    for index, long in enumerate(model.long_context):
        if long.above_input_tokens <= tiers[-1].above_input_tokens:
            place = source.place(("models", name, "long_context", index))
            raise RemitError("config.out_of_range", f"{place}: above_input_tokens must ascend")
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


def _first(source: YamlSource, error: ValidationError) -> RemitError:
    detail = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = source.place([step for step in detail["loc"] if isinstance(step, str | int)])
    name = ".".join(str(step) for step in detail["loc"])
    match detail["type"]:
        case "extra_forbidden":
            code = "config.unknown_key"
        case "missing":
            code = "config.missing_key"
        case "greater_than_equal" | "less_than_equal" | "finite_number":
            code = "config.out_of_range"
        case _:
            code = "config.wrong_type"
    return RemitError(code, f"{place}: {name}: {detail['msg']}")
