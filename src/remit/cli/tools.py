"""`remit tools`: the tools there are and what each declares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from remit.cli.controls import set_control, told
from remit.cli.output import clean_text, json_option, print_json, print_table
from remit.cli.people import as_option, reason_option
from remit.cli.tools_accept import accept
from remit.cli.tools_call import call
from remit.cli.tools_import import import_tools
from remit.cli.tools_test import test
from remit.core.errors import RemitError
from remit.core.tools import ToolSpec
from remit.wiring.remits import load_remit, tool_declarations


@click.group(
    epilog="\b\nExamples:\n  remit tools list\n  remit tools call agent-config.yaml search_kb --args '{\"query\": \"refunds\"}'\n  remit tools pause send_email --reason 'the server is down'\n"
)
def command() -> None:
    """The tools there are, and a switch to stop each of them."""


command.add_command(accept)
command.add_command(call)
command.add_command(import_tools)
command.add_command(test)
_config_argument = click.argument("config", type=click.Path(path_type=Path), required=False)


@command.command(
    "list", epilog="\b\nExamples:\n  remit tools list\n  remit tools list agent-config.yaml --json\n"
)
@_config_argument
@json_option
def list_tools(config: Path | None, as_json: bool) -> None:
    """List every tool that a governance file can name; with CONFIG, those of its toolsets as well."""
    remit = None if config is None else load_remit(config)
    tools = tool_declarations(remit)
    if as_json:
        print_json([_declaration(tool) for tool in tools])
        return
    granted = {} if remit is None else dict.fromkeys(remit.reachable_tools, "within calls")
    granted |= {} if remit is None else dict.fromkeys(remit.allowed_tools, "yes")
    rows = []
    for tool in tools:
        classes = ",".join(tool.classes) or "-"
        keyed = f"{tool.rate_group or '-'}{' by ' + tool.rate_key if tool.rate_key else ''}"
        row = (tool.name, tool.effect, tool.idempotency, classes, keyed, tool.result_trust)
        rows.append(row if remit is None else (*row, granted.get(tool.name, "-")))
    header = ("tool", "effect", "idempotency", "returns", "rate group", "result")
    print_table(header if remit is None else (*header, "granted"), rows)


@command.command(
    "show", epilog="\b\nExamples:\n  remit tools show send_email\n  remit tools show query_shop shop.yaml\n"
)
@click.argument("name")
@_config_argument
@json_option
def show(name: str, config: Path | None, as_json: bool) -> None:
    """Show what the tool NAME declares: what it takes and returns, and what is known of it."""
    tools = {tool.name: tool for tool in tool_declarations(None if config is None else load_remit(config))}
    if name not in tools:
        raise RemitError("tool.unknown", f"there is no tool {name!r}", cause=f"there are {', '.join(tools)}")
    declaration = _declaration(tools[name])
    if as_json:
        print_json(declaration)
        return
    print(clean_text(str(declaration.pop("description"))))
    for key, value in declaration.items():
        if isinstance(value, dict) and value:
            print(f"{key}:")
            print("\n".join(f"  {line}" for line in json.dumps(value, indent=2).splitlines()))
        elif value:
            print(f"{key + ':':<16}{', '.join(value) if isinstance(value, list) else value}")


def _declaration(tool: ToolSpec) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "effect": tool.effect,
        "idempotency": tool.idempotency,
        "classes": list(tool.classes),
        "field_classes": dict(tool.field_classes),
        "result_trust": tool.result_trust,
        "rate_group": tool.rate_group,
        "rate_key": tool.rate_key,
        "timeout_s": tool.timeout_s,
        "isolation": tool.isolation,
        "args_schema": dict(tool.args_schema),
        "result_schema": None if tool.result_schema is None else dict(tool.result_schema),
    }


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
