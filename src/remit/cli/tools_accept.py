"""`remit tools accept`: what an MCP server says of its tools, looked at and accepted by a person."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from remit.cli.asynchronous import run_async
from remit.cli.output import dim, json_option, paint, print_json
from remit.core.errors import Exit
from remit.wiring.accepting import Offer, offered


@click.command(
    "accept",
    epilog="\b\nExamples:\n"
    "  remit tools accept agent-config.yaml files\n"
    "  remit tools accept agent-config.yaml files read_file     one tool, and the others as they were\n"
    "  remit tools accept agent-config.yaml files --yes\n",
)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("toolset")
@click.argument("tools", nargs=-1, metavar="[TOOL]...")
@click.option("--yes", is_flag=True, help="Accept without a question.")
@json_option
def accept(config: Path, toolset: str, tools: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Show what the MCP server TOOLSET of CONFIG says of its listed tools, or of TOOLs by its names, and accept it.

    The server is started or connected to. Until its tools are accepted, and whenever one says something else of itself
    afterwards, they are refused. Each difference is shown at its place, the old (-) and the new (+); what cannot be seen
    in a text is shown as its number.
    """
    offer = run_async(offered(config, toolset, os.environ, tools))
    # what the server calls itself is no reason to refuse it, and is written down with the tools
    is_new = bool(offer.changed or (offer.accepted_server and not tools))
    if not as_json:
        _show(offer)
    accepted = is_new and (yes or _asked(offer.server))
    if accepted:
        offer.accept()
    if as_json:
        differences = {name: [asdict(one) for one in found] for name, found in offer.changed.items()}
        print_json(
            {
                "server": offer.server,
                "accepted_server": offer.accepted_server or offer.server,
                "changed": sorted(offer.changed),
                "differences": differences,
                "accepted": accepted,
            }
        )
    elif not is_new:
        print("nothing has changed since it was accepted")
    else:
        print(f"accepted, in {offer.file}" if accepted else "not accepted")
    if offer.changed and not accepted:
        sys.exit(Exit.REFUSED)


def _show(offer: Offer) -> None:
    if offer.accepted_server:
        print(f"the server: {offer.server}, which was {offer.accepted_server}")
    for name, found in offer.changed.items():
        print(f"{name}:")
        for one in found:
            print(dim(f"  {one.place}"))
            for line in one.old:
                print(paint(f"    - {line}", "red"))
            for line in one.new:
                print(paint(f"    + {line}", "green"))
    if offer.unlisted:
        print(f"not listed, and so not there: {', '.join(offer.unlisted)}")


def _asked(server: str) -> bool:
    return sys.stdin.isatty() and click.confirm(f"accept these tools of {server}?", default=False)
