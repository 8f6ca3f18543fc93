"""`remit tools import`: a toolset from somebody else's description of a service."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import yaml

from remit.cli.asynchronous import run_async
from remit.cli.output import json_option, print_json, print_table
from remit.core.errors import RemitError
from remit.governance.source import ConfigErrors
from remit.wiring.imports import Described, describe_openapi, fetched
from remit.wiring.remits import load_remit, text_of

_TOLD_MAX = 20
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@click.group("import")
def import_tools() -> None:
    """Make a toolset of a description that a service has of itself."""


@import_tools.command(
    "openapi",
    epilog="\b\nExamples:\n"
    "  remit tools import openapi openapi.json --name crm --url https://api.example.com/v1\n"
    "  remit tools import openapi http://127.0.0.1:8099/openapi.json --name crm --config agent-config.yaml\n",
)
@click.argument("source")
@click.option("--name", required=True, help="The toolset's name.")
@click.option("--url", help="The address of the service; that of the document by default.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Write the section into this governance file, and the document beside it.",
)
@click.option("--only", multiple=True, help="Only this operation (may be repeated); all by default.")
@json_option
def openapi(source: str, as_json: bool, **given: Any) -> None:
    """Make a toolset of the OpenAPI document SOURCE, a file or a URL.

    No operation is granted by that: name those that the agent may use in allowed_tools.
    """
    config: Path | None = given["config"]
    if not _NAME.fullmatch(given["name"]):
        raise RemitError("usage.invalid", "a toolset's name is lower case letters, digits and _, such as crm")
    folder = Path() if config is None else config.parent
    content = (
        run_async(fetched(source)) if source.startswith(("http://", "https://")) else _read(Path(source))
    )
    variable = f"{given['name'].upper()}_KEY"
    described = describe_openapi(content, source, given["url"], given["only"], variable)
    file = f"{given['name']}.openapi{'.json' if content.lstrip()[:1] == b'{' else '.yaml'}"
    section = {given["name"]: described.section(file)}
    if config is not None:
        _write(config, section, folder / file, content)
    if as_json:
        print_json({"section": section, "operations": [one._asdict() for one in described.operations]})
        return
    header = ("tool", "effect", "idempotency", "method", "path")
    print_table(
        header,
        [(one.name, one.effect, one.idempotency, one.method, one.path) for one in described.operations],
    )
    _tell(described, section, config)


def _tell(described: Described, section: dict[str, Any], config: Path | None) -> None:
    for name, why in described.left_out.items():
        print(f"left out: {name} ({why})")
    if described.auth:
        (variable,) = (value for key, value in described.auth.items() if key.endswith("_env"))
        print(f"\nit asks for a key: set {variable} in the environment")
    if config is None:
        print("\ntoolsets:")
        print("".join(f"  {line}\n" for line in _yaml(section).splitlines()), end="")
    else:
        names = ", ".join(one.name for one in described.operations[:5])
        print(f"\nwritten into {config}. Next: name what the agent may use in allowed_tools, such as {names}")


def _write(config: Path, section: dict[str, Any], document: Path, content: bytes) -> None:
    """The section in the file, where the file is a good one with it, and nothing is changed where it is not."""
    lines = text_of(config).splitlines()
    at = next((place for place, line in enumerate(lines) if line.rstrip() == "  toolsets:"), None)
    inner = [f"    {line}" for line in _yaml(section).splitlines()]
    after = [*lines, "  toolsets:", *inner] if at is None else [*lines[: at + 1], *inner, *lines[at + 1 :]]
    was_there = document.exists()
    if was_there and document.read_bytes() != content:
        raise RemitError(
            "usage.invalid", f"{document} is there, and is another document", remedy="use another --name"
        )
    document.write_bytes(content)
    draft = config.with_name(f".{config.name}.{os.getpid()}")
    try:
        draft.write_text("\n".join(after) + "\n", encoding="utf-8")
        load_remit(draft)
        os.replace(draft, config)
    except ConfigErrors as errors:
        if not was_there:
            document.unlink()
        # they are of the file as it would be, which is not there to be looked at
        named = [replace(one, file=f"{config} (as it would be)") for one in errors.errors[:_TOLD_MAX]]
        raise ConfigErrors(named) from None
    finally:
        draft.unlink(missing_ok=True)


def _yaml(section: dict[str, Any]) -> str:
    return str(yaml.safe_dump(section, sort_keys=False, allow_unicode=True))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RemitError("config.missing", f"{path} cannot be read", cause=str(error)) from error
