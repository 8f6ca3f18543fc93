"""`remit tools`: the tools there are and what each declares."""

from __future__ import annotations

import click

from remit.cli.output import json_option, print_json, print_table
from remit.wiring.remits import tool_declarations


@click.group(epilog="\b\nExamples:\n  remit tools list\n")
def command() -> None:
    """The tools there are."""


@command.command("list")
@json_option
def list_tools(as_json: bool) -> None:
    """List every tool that a governance file can name."""
    tools = tool_declarations()
    if as_json:
        print_json(
            [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "effect": tool.effect,
                    "idempotency": tool.idempotency,
                    "classes": list(tool.classes),
                    "result_trust": tool.result_trust,
                    "rate_group": tool.rate_group,
                    "rate_key": tool.rate_key,
                    "args_schema": dict(tool.args_schema),
                }
                for tool in tools
            ]
        )
        return
    rows = []
    for tool in tools:
        classes = ",".join(tool.classes) or "-"
        keyed = f"{tool.rate_group or '-'}{' by ' + tool.rate_key if tool.rate_key else ''}"
        rows.append((tool.name, tool.effect, tool.idempotency, classes, keyed, tool.result_trust))
    print_table(("tool", "effect", "idempotency", "returns", "rate group", "result"), rows)
