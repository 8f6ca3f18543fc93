"""`{{ path }}` in a script's texts and arguments: it resolves, or it is an error; never a silent empty.

Roots: `task`, `task_words`, `context`, `match` (named groups of the script's pattern), `results` (all
earlier tool results), `last` (the latest one), `tools` (those on offer). `a or b` is the first that
resolves; `'text'` is that text. A reference that is the whole value keeps its type.
"""

from __future__ import annotations

import json
import re
from typing import Any

from remit.testing.model_server.conversation import View, task_words

ROOTS = ("task", "task_words", "context", "match", "results", "last", "tools")

_REFERENCE = re.compile(r"\{\{((?:(?!\}\}).)*)\}\}", re.DOTALL)
_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[\w-]+|\[\d+\])*")
_LITERAL = re.compile(r"'[^']*'")
_OR = re.compile(r"\s+or\s+(?=(?:[^']*'[^']*')*[^']*\Z)")  # an `or` outside quotes
_STEP = re.compile(r"\.([\w-]+)|\[(\d+)\]")


class Unresolved(Exception):
    """A reference names what is not there."""


def check(value: Any) -> None:
    """Whether every reference in `value` can be read. Raises: ValueError."""
    if isinstance(value, str):
        for source in _REFERENCE.findall(value):
            check_path(source)
        if value.replace("{{", "").count("}}") != value.count("{{") and "{{" in value:
            raise ValueError(f"a reference is not closed: {value!r}")
    elif isinstance(value, dict):
        for item in value.values():
            check(item)
    elif isinstance(value, list):
        for item in value:
            check(item)


def check_path(source: str) -> None:
    """Whether `source` is a path, or paths joined by `or`. Raises: ValueError."""
    for path in _OR.split(source):
        text = path.strip()
        if _LITERAL.fullmatch(text):
            continue
        if not _PATH.fullmatch(text):
            raise ValueError(f"{text!r} is not a reference; write a path such as results[0].title")
        root = re.split(r"[.\[]", text, maxsplit=1)[0]
        if root not in ROOTS:
            raise ValueError(f"{root!r} is nothing that can be referred to; there are {', '.join(ROOTS)}")


def fill(value: Any, view: View) -> Any:
    """`value` with every reference replaced. Raises: Unresolved."""
    if isinstance(value, str):
        whole = _REFERENCE.fullmatch(value.strip())
        if whole:
            return resolve(whole.group(1), view)
        return _REFERENCE.sub(lambda found: _text(resolve(found.group(1), view)), value)
    if isinstance(value, dict):
        return {key: fill(item, view) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, view) for item in value]
    return value


def fill_text(value: str, view: View) -> str:
    """`value` with every reference replaced, as text. Raises: Unresolved."""
    return _text(fill(value, view))


def holds(condition: str, view: View) -> bool:
    """Whether the condition (`path`, or `not path`) names something that is there and not empty.

    A tool result that is not there at all is an error of the script, so it raises Unresolved.
    """
    source = condition.removeprefix("not ")
    negated = source != condition
    try:
        found = bool(resolve(source, view))
    except Unresolved:
        if source.startswith("results["):
            resolve(source[: source.index("]") + 1], view)
        found = False
    return found is not negated


def resolve(source: str, view: View) -> Any:
    """The value that the first resolvable path of `source` names. Raises: Unresolved."""
    missing = Unresolved(f"{source.strip()!r} names nothing")
    for path in _OR.split(source):
        try:
            return _walk(path.strip(), view)
        except Unresolved as error:
            missing = error
    raise missing


def _walk(path: str, view: View) -> Any:
    if _LITERAL.fullmatch(path):
        return path[1:-1]
    root, value = _root(path, view)
    for name, index in _STEP.findall(path[len(root) :]):
        if index and isinstance(value, list | tuple) and int(index) < len(value):
            value = value[int(index)]
        elif name and isinstance(value, dict) and name in value:
            value = value[name]
        else:
            raise Unresolved(f"{path!r} names nothing (at {name or index!r})")
    return value


def _root(path: str, view: View) -> tuple[str, Any]:
    root = re.split(r"[.\[]", path, maxsplit=1)[0]
    match root:
        case "task":
            return root, view.task
        case "task_words":
            return root, task_words(view.task)
        case "context":
            return root, dict(view.context)
        case "match":
            return root, dict(view.match)
        case "results":
            return root, view.results
        case "tools":
            return root, dict.fromkeys(view.tools, True)
        case "last" if view.results:
            return root, view.results[-1]
    raise Unresolved(f"{path!r} names nothing")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
