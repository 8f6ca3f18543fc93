"""The types that keys of the governance file have, and what every section of it is: strict."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,63}$")]
ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,127}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]


def _number(value: object) -> object:
    """Decimals arrive exact from the reader, whole numbers as int; text and booleans are neither."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise PydanticCustomError("decimal_type", "Input should be a number")
    return Decimal(value)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise PydanticCustomError("time_zone", "must be an IANA time zone, such as Europe/Berlin") from error
    return name


Zone = Annotated[str, AfterValidator(_zone)]
Usd = Annotated[Decimal, BeforeValidator(_number, json_schema_input_type=float), Field(ge=0, le=1_000_000)]
Share = Annotated[
    Decimal,
    BeforeValidator(_number, json_schema_input_type=float),
    Field(gt=0, le=1, decimal_places=2),
]
Seconds = Annotated[Decimal, BeforeValidator(_number, json_schema_input_type=float), Field(gt=0, le=604_800)]


class Section(BaseModel):
    """Strict: an unknown key is an error, and no type is converted into another."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
