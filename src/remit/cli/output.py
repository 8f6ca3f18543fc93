"""How the commands print: JSON for programs, aligned tables for people, colour only on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from textwrap import indent
from typing import Any, TextIO
from zoneinfo import ZoneInfo

import click
import orjson

from remit.core.errors import RemitError

WIDTH_IN_PIPE = 120

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def has_colour() -> bool:
    """Whether to colour: on a terminal, unless NO_COLOR is set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def width() -> int:
    """The columns to use: the terminal's, or a fixed number in a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_IN_PIPE


def paint(text: str, style: str) -> str:
    """`text` in a colour of click's, on a terminal."""
    return click.style(text, fg=style) if has_colour() else text


def dim(text: str) -> str:
    """`text` in the background of attention, on a terminal."""
    return click.style(text, dim=True) if has_colour() else text


def bold(text: str) -> str:
    """`text` in the foreground of attention, on a terminal."""
    return click.style(text, bold=True) if has_colour() else text


def print_json(value: Any) -> None:
    """`value` as indented JSON and a newline."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()
) -> None:
    """An aligned table; the columns whose numbers are in `right` are flush right."""
    # rich's measures of wide characters, without its tables: 40 ms less
    from rich.cells import cell_len  # noqa: PLC0415

    cells = [[clean(cell) for cell in row] for row in rows]
    widths = [max(cell_len(row[index]) for row in [list(header), *cells]) for index in range(len(header))]
    for number, row in enumerate([list(header), *cells]):
        parts = []
        for index, cell in enumerate(row):
            gap = " " * (widths[index] - cell_len(cell))
            parts.append(gap + cell if index in right else cell + gap)
        line = "  ".join(parts).rstrip()
        print(dim(line) if number == 0 else line)


def clean(text: str, chars_max: int = 200) -> str:
    """One line that cannot move the cursor or colour the screen, however foreign the text."""
    shown = "".join(" " if character in "\r\n\t" else character for character in text[: chars_max + 1])
    shown = "".join(character if character.isprintable() else "�" for character in shown)
    return shown if len(shown) <= chars_max else shown[: chars_max - 1] + "…"


def clean_stream(text: str) -> str:
    """A piece of text that may break lines, and do nothing else to the screen."""
    return "".join(
        character if character == "\n" or character.isprintable() else " " if character == "\t" else "�"
        for character in text
    )


def clean_text(text: str) -> str:
    """Several lines, each of them clean."""
    return "\n".join(clean(line, 10_000) for line in text.splitlines())


def print_output(output: str, to: TextIO | None = None) -> None:
    """The end of what a tool printed before it failed, for its author; nothing where it printed nothing."""
    if output:
        print("  it printed, at last:", file=to or sys.stderr)
        print(indent(clean_text(output), "    "), file=to or sys.stderr)


def local_time(at_us: int | None) -> str:
    """A time for people, in UTC."""
    if at_us is None:
        return "-"
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def parse_since(text: str | None, now_us: int, timezone: str = "UTC") -> int | None:
    """`90s`, `15m`, `2h`, `7d` ago, or an ISO date or time (of `timezone`), in microseconds since 1970.

    Raises: RemitError `usage.invalid`.
    """
    if text is None:
        return None
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(text[-1:])
    if seconds is not None and text[:-1].isdecimal() and len(text) < 12:
        return max(now_us - int(text[:-1]) * seconds * 1_000_000, 0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        remedy = "write 15m, 2h, 7d or 2026-11-22T10:00"
        raise RemitError("usage.invalid", f"{text!r} is no time", remedy=remedy) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(timezone))
    return int(moment.timestamp() * 1_000_000)
