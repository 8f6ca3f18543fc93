"""A provider's cost export as CSV, read strictly: what is not understood is an error with its line, never skipped."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn, TypeAlias
from zoneinfo import ZoneInfo

from remit.core.errors import RemitError
from remit.core.money import NANO_PER_USD
from remit.governance.reconciliation import Billed, Key

BYTES_MAX = 100 * 2**20
_SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "day": (
            "date",
            "day",
            "usage_date",
            "usage_date_utc",
            "date_utc",
            "start_date",
            "start_time",
            "bucket_start",
        ),
        "model": ("model", "model_name", "model_id", "model_version", "snapshot_id"),
        "cost": (
            "cost",
            "cost_usd",
            "amount",
            "amount_usd",
            "amount_value",
            "total_cost",
            "cost_in_usd",
            "usd",
        ),
        "currency": ("currency", "amount_currency"),
        "input": ("input_tokens", "prompt_tokens", "uncached_input_tokens", "usage_input_tokens_no_cache"),
        "output": ("output_tokens", "completion_tokens", "usage_output_tokens"),
    }
)
_AMOUNT = re.compile(r"-?\$?-?(\d+|\d{1,3}(,\d{3})+)?(\.\d+)?([eE]-\d{1,2})?")
_YEARS = range(1970, 3000)
_COUNT = re.compile(r"\d{1,18}")

Columns: TypeAlias = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What was billed, by day and model, and the columns that say nothing of it to us."""

    billed: Mapping[Key, Billed]
    unused: tuple[str, ...]


class _Place:
    """A line of the file, for errors."""

    def __init__(self, path: Path, line: int) -> None:
        self._where = f"{path}:{line}"

    def fail(self, message: str, remedy: str = "") -> NoReturn:
        raise RemitError("export.invalid", f"{self._where}: {message}", remedy=remedy)


def read_export(path: Path, timezone: str) -> Export:
    """The export in the file at `path`; a time that says its zone counts for the day of `timezone`.

    Raises: RemitError `export.invalid` with `file:line`.
    """
    try:
        if path.stat().st_size > BYTES_MAX:
            _Place(path, 1).fail(f"the file is larger than {BYTES_MAX} bytes", "export a shorter time")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RemitError("export.invalid", f"{path} cannot be read", cause=str(error)) from error
    except UnicodeDecodeError as error:
        raise RemitError("export.invalid", f"{path} is not UTF-8 text", cause=str(error)) from error
    billed: dict[Key, Billed] = {}
    header: tuple[str, ...] | None = None
    columns: Columns = {}
    for place, cells in _rows(path, text):
        if header is None:
            header, columns = tuple(cells), _columns(place, cells)
        elif len(cells) != len(header):
            place.fail(f"{len(cells)} cells under a header of {len(header)}")
        else:
            key, line = _line(place, columns, cells, timezone)
            billed[key] = billed[key] + line if key in billed else line
    if header is None:
        _Place(path, 1).fail("the file is empty")
    used = set(columns.values())
    return Export(billed=billed, unused=tuple(name for index, name in enumerate(header) if index not in used))


def _rows(path: Path, text: str) -> Iterator[tuple[_Place, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _Place(path, reader.line_num), [cell.strip() for cell in cells]
    except csv.Error as error:
        _Place(path, reader.line_num).fail(f"this is no CSV: {error}")


def _columns(place: _Place, header: list[str]) -> Columns:
    """Where each thing stands; a header that could mean two columns is refused."""
    names = [re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in header]
    found: dict[str, int] = {}
    for meaning, synonyms in _SYNONYMS.items():
        matching = [index for index, name in enumerate(names) if name in synonyms]
        if len(matching) > 1:
            place.fail(
                f"two columns for the {meaning}: {', '.join(header[index][:40] for index in matching)}"
            )
        if matching:
            found[meaning] = matching[0]
    for meaning in ("day", "model", "cost"):
        if meaning not in found:
            place.fail(
                f"no column for the {meaning} in: {', '.join(header)[:200]}",
                f"name one of its columns {', '.join(_SYNONYMS[meaning])}",
            )
    return found


def _line(place: _Place, columns: Columns, cells: list[str], timezone: str) -> tuple[Key, Billed]:
    if "currency" in columns and cells[columns["currency"]].upper() != "USD":
        place.fail(f"the currency is {cells[columns['currency']][:20]!r}", "export in USD")
    day = _day(place, cells[columns["day"]], timezone)
    model = cells[columns["model"]]
    if not model:
        place.fail("the model is missing")
    cost, rounding = _amount(place, cells[columns["cost"]])
    return (day, model), Billed(
        cost_nano_usd=cost,
        rounding_nano_usd=rounding,
        input_tokens=_count(place, columns, cells, "input"),
        output_tokens=_count(place, columns, cells, "output"),
    )


def _day(place: _Place, text: str, timezone: str) -> str:
    try:
        moment: date
        if len(text) <= 10:
            moment = date.fromisoformat(text)
        else:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                moment = moment.astimezone(ZoneInfo(timezone))
        if moment.year not in _YEARS:
            raise ValueError
    except (ValueError, OverflowError):
        place.fail(f"{text[:40]!r} is no day", "write days as 2026-11-22; leave sums out")
    return f"{moment:%Y-%m-%d}"


def _amount(place: _Place, text: str) -> tuple[int, int]:
    """An amount in nano-USD, and half of its last digit's worth."""
    plain = text.replace("$", "").replace(",", "")
    try:
        if not text or len(text) > 40 or not _AMOUNT.fullmatch(text):
            raise InvalidOperation
        amount = Decimal(plain)
    except InvalidOperation:
        place.fail(f"{text[:40]!r} is no amount", "write amounts in USD, such as 12.345678")
    digits = amount.as_tuple().exponent
    assert isinstance(digits, int)  # neither NaN nor infinity passes the pattern
    last = Decimal(1).scaleb(min(digits, 0) + 9) / 2
    nano = (amount * NANO_PER_USD).to_integral_value(rounding=ROUND_HALF_EVEN)
    return int(nano), int(last)


def _count(place: _Place, columns: Columns, cells: list[str], meaning: str) -> int | None:
    if meaning not in columns:
        return None
    text = cells[columns[meaning]].replace(",", "")
    if not _COUNT.fullmatch(text):
        place.fail(f"{text[:40]!r} is no number of tokens")
    return int(text)
