"""`remit costs`: what was spent on what, what of it was saved or wasted, and whether the provider agrees."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Sequence
from typing import Any, get_args

import click

from remit.cli.asynchronous import run_async
from remit.cli.costs_forecast import show_forecast
from remit.cli.costs_period import Period, period_options
from remit.cli.costs_prices import prices
from remit.cli.costs_reconcile import reconcile_export
from remit.cli.output import dim, json_option, print_json, print_table
from remit.core.errors import RemitError
from remit.core.messages import Usage
from remit.core.money import format_usd, usd_text
from remit.ports.journal import CostDimension, CostQuery, CostRow
from remit.wiring.deployment import Deployment, open_reader

_DIMENSIONS: tuple[CostDimension, ...] = get_args(CostDimension)
_AMOUNTS = ("cost", "saved", "wasted", "repeated", "presumed", "held")
_GIVEN = click.core.ParameterSource.COMMANDLINE
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n"
    "  remit costs --since 7d --timezone Europe/Berlin\n"
    "  remit costs --by agent,tool --json\n"
    "  remit costs --by run --since 2h --csv > runs.csv\n"
    "  remit costs forecast agent-config.yaml\n"
    "  remit costs prices gpt-5.2\n"
    "  remit costs reconcile november.csv\n",
)
@click.option(
    "--by",
    default="day,agent,model",
    show_default=True,
    help=f"What to group by, one or several of: {', '.join(_DIMENSIONS)}.",
)
@period_options
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.pass_context
def command(context: click.Context, by: str, period: Period, as_json: bool, as_csv: bool) -> None:
    """Say what was spent: by model calls, and by tool calls that have a price.

    \b
    cached   the share of the input tokens that came from the prompt cache
    saved    what the cache saved of the plain input price; below zero where writing it cost more
    wasted   what bought nothing: calls that failed or that nobody could confirm (presumed), and all calls
             of runs that ended failed, timed_out, refused or cancelled
    repeats  calls whose very content the same run had asked before, and what these cost
    """
    if context.invoked_subcommand is not None:
        given = [name for name in context.params if context.get_parameter_source(name) is _GIVEN]
        if given:
            message = f"--{given[0].removeprefix('as_')} stands before {context.invoked_subcommand}"
            raise RemitError(
                "usage.invalid", message, remedy="give options after the command that they are for"
            )
        return
    dimensions = _dimensions(by)
    deployment = Deployment(home=context.obj, environment=os.environ)
    query = CostQuery(
        by=dimensions, since_us=period.since_us, until_us=period.until_us, timezone=period.timezone
    )
    rows = run_async(read_costs(deployment, query))
    if as_json and as_csv:
        raise RemitError("usage.invalid", "--json and --csv exclude each other")
    if as_json:
        print_json([row_json(dimensions, row) for row in rows])
    elif as_csv:
        _print_csv(dimensions, rows)
    elif rows:
        _print_table(dimensions, rows, period.timezone)
    else:
        print("nothing was spent")


command.add_command(show_forecast)
command.add_command(prices)
command.add_command(reconcile_export)


def _dimensions(by: str) -> tuple[CostDimension, ...]:
    names = [name.strip() for name in by.split(",")]
    chosen = tuple(known for name in names for known in _DIMENSIONS if known == name)
    if len(chosen) < len(names) or len(set(chosen)) < len(chosen):
        remedy = f"name each of {', '.join(_DIMENSIONS)} once at most, with commas between"
        raise RemitError("usage.invalid", f"nothing to group by: {by[:80]!r}", remedy=remedy)
    return chosen


async def read_costs(deployment: Deployment, query: CostQuery) -> Sequence[CostRow]:
    """The costs in the journal; none where there is no journal yet."""
    async with open_reader(deployment) as journal:
        return [] if journal is None else await journal.costs(query)


def row_json(dimensions: Sequence[CostDimension], row: CostRow) -> dict[str, Any]:
    """A row as programs read it: names that stay, tokens, exact dollars as text, and nano-USD."""
    usage = row.usage
    fields: dict[str, Any] = dict(zip(dimensions, row.group, strict=True)) | {
        "calls": row.calls,
        "input_tokens": usage.prompt_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
    }
    for name in _AMOUNTS:
        nano_usd = getattr(row, f"{name}_nano_usd")
        fields |= {f"{name}_usd": usd_text(nano_usd), f"{name}_nano_usd": nano_usd}
    return fields | {"repeats": row.repeats, "assumed_calls": row.assumed_calls}


def _print_csv(dimensions: Sequence[CostDimension], rows: Sequence[CostRow]) -> None:
    empty = row_json(dimensions, _total([], len(dimensions)))
    writer = csv.writer(sys.stdout)  # RFC 4180: its line ends too
    writer.writerow(empty)
    for row in rows:
        fields = row_json(dimensions, row)
        writer.writerow([_safe(value) if name in dimensions else value for name, value in fields.items()])


def _safe(value: str | None) -> str:
    """A name from outside as a cell that no spreadsheet takes for a formula."""
    text = value or ""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _print_table(dimensions: Sequence[CostDimension], rows: Sequence[CostRow], timezone: str) -> None:
    header = [f"day ({timezone})" if name == "day" else name for name in dimensions]
    header += ["calls", "tokens in", "cached", "out", "cost", "saved", "wasted", "repeats"]
    total = _total(rows, len(dimensions))
    lines = [[*(value or "-" for value in row.group), *_numbers(row)] for row in rows]
    if len(rows) > 1:
        lines.append(["total", *("" for _ in dimensions[1:]), *_numbers(total)])
    print_table(header, lines, right=frozenset(range(len(dimensions), len(header))))
    notes = []
    if total.held_nano_usd:
        notes.append(f"{format_usd(total.held_nano_usd)} more is held for calls under way")
    if total.presumed_nano_usd:
        notes.append(
            f"{format_usd(total.presumed_nano_usd)} of the cost is presumed spent: nobody could confirm it"
        )
    if total.assumed_calls:
        notes.append(
            f"{total.assumed_calls} calls are priced at the dearest known rate: their service tier or place has no price"
        )
    for note in notes:
        print(dim(note))


def _numbers(row: CostRow) -> list[str]:
    usage = row.usage
    cached = f"{usage.cache_read_tokens * 100 // usage.prompt_tokens} %" if usage.prompt_tokens else "-"
    repeats = f"{row.repeats} ({format_usd(row.repeated_nano_usd)})" if row.repeats else "-"
    return [
        str(row.calls),
        str(usage.prompt_tokens),
        cached,
        str(usage.output_tokens),
        format_usd(row.cost_nano_usd),
        format_usd(row.saved_nano_usd),
        format_usd(row.wasted_nano_usd),
        repeats,
    ]


def _total(rows: Sequence[CostRow], dimensions: int) -> CostRow:
    usage = sum((row.usage for row in rows), Usage())
    names = ("calls", *(f"{name}_nano_usd" for name in _AMOUNTS), "repeats", "assumed_calls")
    sums = {name: sum(getattr(row, name) for row in rows) for name in names}
    return CostRow(group=(None,) * dimensions, usage=usage, **sums)
