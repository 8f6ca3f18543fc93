"""The options of every command that opens an agent: how its governance file is read, and who answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--model", help="Ask this model instead of the configuration's."),
    click.option(
        "--answer-schema",
        type=click.Path(path_type=Path),
        help="The answer must be JSON that fits the JSON Schema in this file.",
    ),
    click.option("--offline", is_flag=True, help="Let the scripted model server answer: no key, no network."),
)


def agent_options(command: F) -> F:
    """Add `--model`, `--answer-schema` and `--offline` to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def changes_of(given: Mapping[str, Any]) -> dict[str, str]:
    """What these options put in the place of the configuration's keys. It makes another remit of it."""
    schema: Path | None = given["answer_schema"]
    changes = {"model": given["model"], "answer_schema": schema and str(schema.absolute())}
    return {key: value for key, value in changes.items() if value}
