"""`remit init`: a new agent that runs at once, to be changed line by line."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import click

from remit.core.errors import RemitError

_TEMPLATE = "template"


_TOOL = '''"""Tools of this agent. Each call runs in the sandbox: no files but its own, no network, no environment."""

from typing import Annotated

from remit.tools import Length, tool


@tool(
    effect="pure",
    idempotency="idempotent",
    examples=[{"args": {"text": "two words"}, "result": {"words": 2}}],
)
def count_words(text: Annotated[str, Length(1, 10_000)]) -> dict[str, int]:
    """Count the words of a text.

    Args:
        text: What is counted.
    """
    return {"words": len(text.split())}
'''
_TOOL_SECTION = """
Write into agent-config.yaml, under `agent`:

  allowed_tools: [..., count_words]
  toolsets:
    mine: {kind: python, source: tools.py}
"""


@click.command(epilog="\b\nExamples:\n  remit init my-agent\n  remit init --tool my-agent\n")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("."))
@click.option(
    "--tool", "is_tool", is_flag=True, help="Make tools.py with a Python tool in it, and nothing else."
)
def command(folder: Path, is_tool: bool) -> None:
    """Make a new agent in FOLDER: configuration, knowledge base, customer data and a model script.

    Files that are there already are never changed: if one stands in the way, nothing is written.
    """
    if is_tool:
        _make_tool(folder / "tools.py")
        return
    with as_file(files("remit.cli") / _TEMPLATE) as template:
        # an installer may have compiled the template's test; what it made is nothing of the template
        sources = sorted(
            path for path in template.rglob("*") if path.is_file() and path.parent.name != "__pycache__"
        )
        targets = [folder / source.relative_to(template) for source in sources]
        standing = [str(target) for target in targets if target.exists()]
        if standing:
            message = f"{', '.join(standing[:3])} would be overwritten"
            raise RemitError("usage.invalid", message, remedy="name another folder, or move the files away")
        try:
            for source, target in zip(sources, targets, strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
        except OSError as error:
            raise RemitError("usage.invalid", f"{folder} cannot be written", cause=str(error)) from error
    for target in targets:
        print(f"  made {target}")
    here = "" if folder == Path(".") else f"cd {folder} && "
    print("\nNext:")
    print(f"  {here}remit check agent-config.yaml")
    print("  remit run agent-config.yaml --offline --task 'How do I reset my password?'")


def _make_tool(file: Path) -> None:
    if file.exists():
        raise RemitError("usage.invalid", f"{file} would be overwritten", remedy="name another folder")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_TOOL)
    except OSError as error:
        raise RemitError("usage.invalid", f"{file} cannot be written", cause=str(error)) from error
    print(f"  made {file}")
    print(_TOOL_SECTION)
    print("Next:\n  remit tools test agent-config.yaml")
