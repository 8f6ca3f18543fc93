"""`remit check`: what a governance file permits, or everything that is wrong with it."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from remit.cli.output import bold, dim, json_option, paint, print_json
from remit.governance.describe import describe
from remit.governance.schema import json_schema
from remit.runtime.clock import SystemClock
from remit.wiring.remits import load_remit, tool_declarations, unpriced

_COLOURS = {"may": "green", "must": "yellow", "may not": "red"}


@click.command(
    epilog="\b\nExamples:\n"
    "  remit check agent-config.yaml\n"
    "  remit check --schema > agent-config.schema.json\n"
)
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of governance files, for editors.")
@json_option
def command(config: Path | None, schema: bool, as_json: bool) -> None:
    """Say in plain words what the agent of CONFIG may and may not do.

    Wrong files: one line for each error, `file:line:column  code  message  remedy`, and exit code 2.
    """
    if schema:
        print_json(json_schema())
        return
    if config is None:
        raise click.UsageError("name a governance file, such as agent-config.yaml")
    remit = load_remit(config)
    for model in unpriced(remit, os.environ):
        print(f"remit: note: {model} has no price, so every call of it will be refused", file=sys.stderr)
    statements = describe(remit, tool_declarations(remit), SystemClock().now_us())
    if as_json:
        print_json(
            {"agent": remit.agent, "digest": remit.digest, "statements": [asdict(one) for one in statements]}
        )
        return
    print(f"{bold(remit.agent)}  {dim('remit ' + remit.digest[:12])}")
    text_width = max(len(statement.text) for statement in statements)
    for statement in statements:
        verdict = paint(f"{statement.verdict:<8}", _COLOURS[statement.verdict])
        print(f"  {verdict}{statement.text:<{text_width}}  {dim(statement.rule + '  ' + statement.source)}")
    print("Everything that is not named is denied.")
