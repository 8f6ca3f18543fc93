"""Reads the docstring of a tool in Google's style: what it does, and what each argument is."""

from __future__ import annotations

import inspect
import re
from typing import NamedTuple

_SECTION = re.compile(r"(Args|Arguments|Returns|Raises|Yields|Examples?|Notes?):\s*")
_ARGUMENT = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)")


class Documented(NamedTuple):
    """What a docstring says: the text before any section, and its arguments by name."""

    summary: str
    arguments: dict[str, str]


def parse(docstring: str | None) -> Documented:
    """The parts of `docstring`."""
    summary: list[str] = []
    arguments: dict[str, str] = {}
    section, current, indent = "", "", 0
    for line in inspect.cleandoc(docstring or "").splitlines():
        heading = _SECTION.fullmatch(line)
        if heading is not None:
            section, current, indent = heading[1], "", 0
            continue
        if not section:
            summary.append(line.strip())
        elif section in ("Args", "Arguments") and line.strip():
            depth = len(line) - len(line.lstrip())
            indent = indent or depth
            found = _ARGUMENT.fullmatch(line.strip()) if depth <= indent else None
            if found is not None:
                current = found[1]
                arguments[current] = found[2].strip()
            elif current:
                arguments[current] = f"{arguments[current]} {line.strip()}".strip()
    return Documented("\n".join(summary).strip(), arguments)
