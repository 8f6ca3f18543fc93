"""`remit mcp`: an agent's tools for other programs, within its remit."""

from __future__ import annotations

import asyncio
import os
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import click

from remit.cli.asynchronous import run_async
from remit.cli.output import json_option, print_json
from remit.cli.people import as_option, person
from remit.core.actions import Principal
from remit.core.errors import RemitError
from remit.runtime.clock import SystemClock
from remit.wiring.agent import AgentOptions, open_agent
from remit.wiring.deployment import Deployment
from remit.wiring.mcp_tokens import add_token
from remit.wiring.remits import load_remit
from remit.wiring.toolsets import extra

TOKENS = "REMIT_MCP_TOKENS"
TOKEN_BYTES = 32

tokens_option = click.option(
    "--tokens",
    "tokens",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar=TOKENS,
    help=f"The file of who has which token, by digest (or {TOKENS}).",
)


@click.group(epilog="\b\nExamples:\n  remit mcp serve agent-config.yaml\n")
def command() -> None:
    """The tools of an agent for any MCP client: an IDE, another agent."""


@command.command(
    "serve",
    epilog="\b\nExamples:\n"
    "  remit mcp serve agent-config.yaml --as ana\n"
    "  remit mcp serve agent-config.yaml --http 127.0.0.1:8765 --tokens tokens.json\n",
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--http", "address", metavar="HOST:PORT", help="Serve streamable HTTP, for whoever has a token."
)
@tokens_option
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME[:PORT]",
    help="A further name that clients reach this server by, such as that of a proxy. May be repeated.",
)
@as_option
@click.pass_obj
def serve(home: Path, /, config: Path, address: str | None, **given: Any) -> None:
    """Offer the tools that CONFIG grants to MCP clients: to one over standard input and output, or to many over HTTP.

    Each call is decided, limited, recorded and held for a person as one of the agent's own would be, in the name of
    whoever started this command (or --as), or of whoever the client's token stands for. The calls of one caller are a
    run in the journal, for as long as a run may last.
    """
    os.umask(0o077)  # what is kept of a run is for whoever runs it
    deployment = Deployment(home=home, environment=_quiet(os.environ))
    if address is None:
        if given["names"]:
            raise RemitError("usage.invalid", "--allow-host is for --http")
        run_async(_serve_stdio(deployment, config, person(given["as_name"])))
        return
    if given["as_name"]:
        raise RemitError("usage.invalid", "over HTTP a token says who calls, and not --as")
    if given["tokens"] is None:
        remedy = f"make one: remit mcp token NAME --tokens FILE; then set {TOKENS}, or --tokens"
        raise RemitError("usage.invalid", "HTTP needs a file of tokens", remedy=remedy)
    run_async(_serve_http(deployment, config, (*_address(address), given["names"]), given["tokens"]))


@command.command(
    "token", epilog="\b\nExamples:\n  remit mcp token ana --role support --tokens tokens.json >ana.token\n"
)
@click.argument("name")
@tokens_option
@click.option("--role", "roles", multiple=True, help="A role that the caller has. May be repeated.")
@click.option("--tenant", default="default", show_default=True, help="Whose the caller's work is.")
@click.option("--service", is_flag=True, help="It is a program, and no person.")
@json_option
def token(name: str, tokens: Path | None, roles: tuple[str, ...], **given: Any) -> None:
    """Make a token for NAME and print it, once: the file has only its digest. Remove its entry to withdraw it.

    A server that is running knows it at once.
    """
    if tokens is None:
        raise RemitError("usage.invalid", f"no file of tokens: set {TOKENS}, or --tokens")
    who = Principal(
        kind="service" if given["service"] else "user", id=name, tenant=given["tenant"], roles=roles
    )
    made = b64encode(SystemClock().entropy(TOKEN_BYTES), b"-_").decode().rstrip("=")
    add_token(tokens, made, who)
    if given["as_json"]:
        print_json({"token": made, "id": name, "file": str(tokens)})
    else:
        print(made)


async def _serve_stdio(deployment: Deployment, config: Path, who: Principal) -> None:
    with extra("mcp"):
        from remit.wiring.mcp_server import mcp_server, serve_stdio  # noqa: PLC0415 - an extra
    async with (
        open_agent(deployment, _options(config)) as agent,
        mcp_server(agent, lambda _: who) as server,
    ):
        await serve_stdio(server)


async def _serve_http(
    deployment: Deployment, config: Path, at: tuple[str, int, tuple[str, ...]], file: Path
) -> None:
    with extra("mcp"):
        from remit.wiring.mcp_server import (  # noqa: PLC0415 - an extra
            HttpOptions,
            Tokens,
            mcp_server,
            serve_http,
            who_by,
        )
    host, port, names = at
    tokens = Tokens(file)
    async with (
        open_agent(deployment, _options(config)) as agent,
        mcp_server(agent, who_by(tokens)) as server,
        serve_http(server, tokens, HttpOptions(host=host, port=port, names=names)) as url,
    ):
        print(f"remit: the tools of {agent.remit.agent} are at {url}", file=sys.stderr, flush=True)
        await asyncio.Event().wait()


def _options(config: Path) -> AgentOptions:
    # models are asked by the agents that stand behind tools, and by nobody else here
    remit = load_remit(config)
    asks = any(asked.tool.name in remit.allowed_tools for asked in remit.agents)
    return AgentOptions(config=config, asks_models=asks)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise RemitError("usage.invalid", f"{text!r} is no HOST:PORT", remedy="write --http 127.0.0.1:8765")
    return host, int(port)


def _quiet(environment: Any) -> dict[str, str]:
    """Standard output is the protocol's: no log goes there."""
    given = dict(environment)
    if given.get("REMIT_LOG") == "stdout":
        given["REMIT_LOG"] = "stderr"
    return given
