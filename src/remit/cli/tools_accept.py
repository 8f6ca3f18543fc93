"""`remit tools accept`: what an MCP server says of its tools, looked at and accepted by a person."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from remit.cli.asynchronous import run_async
from remit.cli.output import json_option, paint, print_json
from remit.core.errors import Exit
from remit.wiring.accepting import offered

_COLOURS = {"+": "green", "-": "red"}


@click.command(
    "accept",
    epilog="\b\nExamples:\n  remit tools accept agent-config.yaml files\n  remit tools accept agent-config.yaml files --yes\n",
)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("toolset")
@click.option("--yes", is_flag=True, help="Accept without a question.")
@json_option
def accept(config: Path, toolset: str, yes: bool, as_json: bool) -> None:
    """Show what the MCP server TOOLSET of CONFIG says of its listed tools, and accept it.

    The server is started or connected to. Until its tools are accepted, and whenever one says something else of itself
    afterwards, they are refused. What cannot be seen in a text is shown as its number.
    """
    offer = run_async(offered(config, toolset, os.environ))
    if not as_json:
        for name, lines in offer.changed.items():
            print(f"{name}:")
            for sign, line in lines:
                print(paint(f"  {sign} {line}", _COLOURS[sign]))
        if offer.unlisted:
            print(f"not listed, and so not there: {', '.join(offer.unlisted)}")
    accepted = bool(offer.changed) and (yes or _asked(offer.server))
    if accepted:
        offer.accept()
    if as_json:
        print_json({"server": offer.server, "changed": sorted(offer.changed), "accepted": accepted})
    elif not offer.changed:
        print("nothing has changed since it was accepted")
    else:
        print(f"accepted, in {offer.file}" if accepted else "not accepted")
    if offer.changed and not accepted:
        sys.exit(Exit.REFUSED)


def _asked(server: str) -> bool:
    return sys.stdin.isatty() and click.confirm(f"accept these tools of {server}?", default=False)
