"""`remit tools`: the tools there are and what each declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from remit.cli.controls import set_control, told
from remit.cli.output import json_option, print_json, print_table
from remit.cli.people import as_option, reason_option
from remit.core.errors import RemitError
from remit.wiring.remits import tool_declarations


@click.group(
    epilog="\b\nExamples:\n  remit tools list\n  remit tools pause send_email --reason 'the server is down'\n"
)
def command() -> None:
    """The tools there are, and a switch to stop each of them."""


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


@command.command("pause", epilog="\b\nExamples:\n  remit tools pause send_email --reason 'it is down'\n")
@click.argument("name")
@reason_option
@as_option
@json_option
@click.pass_obj
def pause(home: Path, /, name: str, **given: Any) -> None:
    """Stop a tool, for every agent in every process: calls are refused, and the models are told."""
    scope = _scope(name)
    set_control(home, scope, given["reason"], paused=True, as_name=given["as_name"])
    told(scope, paused=True, as_json=given["as_json"])


@command.command("resume", epilog="\b\nExamples:\n  remit tools resume send_email\n")
@click.argument("name")
@click.option("--reason", default="", help="Why; it is recorded.")
@as_option
@json_option
@click.pass_obj
def resume(home: Path, /, name: str, **given: Any) -> None:
    """Let a tool be called again."""
    scope = _scope(name)
    set_control(home, scope, given["reason"], paused=False, as_name=given["as_name"])
    told(scope, paused=False, as_json=given["as_json"])


def _scope(name: str) -> str:
    known = [tool.name for tool in tool_declarations()]
    if name not in known:
        raise RemitError("tool.unknown", f"there is no tool {name!r}", cause=f"there are {', '.join(known)}")
    return f"tool:{name}"
