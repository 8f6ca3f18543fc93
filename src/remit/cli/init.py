"""`remit init`: a new agent that runs at once, to be changed line by line."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import click

from remit.core.errors import RemitError

_TEMPLATE = "template"


@click.command(epilog="\b\nExamples:\n  remit init my-agent\n")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("."))
def command(folder: Path) -> None:
    """Make a new agent in FOLDER: configuration, knowledge base, customer data and a model script.

    Files that are there already are never changed: if one stands in the way, nothing is written.
    """
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
