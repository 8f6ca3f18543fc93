"""The reference pages that are made from the code: run as `python -m remit.cli.reference FOLDER`.

A test compares the pages in the repository with what this makes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import orjson

from remit.core.errors import CODES
from remit.governance.schema import json_schema

_EXITS = {0: "done", 1: "failed", 2: "usage", 3: "refused", 4: "suspended"}


def pages() -> dict[str, str]:
    """The pages by their path below `docs`."""
    schema = orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
    return {"agent-config.schema.json": schema, "reference/errors.md": errors_page()}


def errors_page() -> str:
    """Every error code with how it is answered and what to do."""
    lines = [
        "# Error codes",
        "",
        "Codes never change their meaning and are never reused. Made from `core/errors.py`.",
        "",
        "| code | HTTP | exit | retry can help | remedy |",
        "|---|---|---|---|---|",
    ]
    for code, kind in CODES.items():
        retry = "yes" if kind.retryable else ""
        lines.append(
            f"| `{code}` | {kind.http} | {kind.exit} {_EXITS[kind.exit]} | {retry} | {kind.remedy} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name, text in pages().items():
        (Path(sys.argv[1]) / name).write_text(text)
