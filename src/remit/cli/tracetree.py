"""A run's trace as a tree for a terminal or a pipe, and as JSON.

Promises: pure (spans in, text or JSON out); every line is readable at any width and without colour; what a
model or a tool named cannot move the cursor, colour the screen or break a line.
`direct` is what a node cost by itself, `total` what it cost with all below it (see `tracenodes`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from remit.cli.tracenodes import Node, TraceView, build, node_json
from remit.core.money import format_usd

Line: TypeAlias = list[tuple[str, str]]
"""Pieces of text and their styles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Cells of each column; 0 leaves a column out."""

    label: int
    time: int = 9
    tokens: int = 0
    direct: int = 0
    total: int = 0
    bar: int = 0


_MARKS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "done": ("✓", "green"),
        "succeeded": ("✓", "green"),
        "refused": ("✗", "red"),
        "failed": ("✗", "red"),
        "timed_out": ("✗", "red"),
        "cancelled": ("✗", "red"),
        "suspended": ("⏸", "yellow"),
        "unknown": ("?", "magenta"),
        "running": ("…", "cyan"),
        "queued": ("…", "cyan"),
    }
)
_GAP: Final = 2
_LABEL_MIN: Final = 24
_BAR: Final = 24


def render(view: TraceView, *, width: int = 100, colour: bool = False) -> str:
    """The tree as lines, ending in a newline; `colour` adds a terminal's escape codes."""
    text = tree(view, width=width)
    if not colour:
        return text.plain + "\n"
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="standard", width=max(width, 1))
    console.print(text, soft_wrap=True)
    return out.getvalue()


def tree(view: TraceView, *, width: int = 100) -> Text:
    """The tree as a rich text; print it with `soft_wrap=True`."""
    root = build(view)
    lines = list(_walk(root, "", ""))
    layout = _layout(width, max(cell_len(guide + _label(node)) for guide, _, node in lines))
    status = f"{view.status} {view.code}".rstrip()
    parts: Line = [(f"{_clean(view.run_id)}  {_clean(view.agent)}  {_clean(status)}", "bold")]
    if view.message:
        parts.append((f"\n{_clean(view.message)}", ""))
    parts.append(("\n" + " " * layout.label, ""))
    parts.append((_columns(("time", "tokens", "direct", "total"), layout), "dim"))
    for guide, below, node in lines:
        parts += _node_line(guide, node, layout, root)
        parts += _note_lines(below, node, width)
    return Text.assemble(*parts, no_wrap=True)


def to_json(view: TraceView) -> dict[str, Any]:
    """The same tree as plain JSON: times in microseconds, money in integer nano-USD."""
    root = build(view)
    return {
        "run_id": view.run_id,
        "agent": view.agent,
        "status": view.status,
        "code": view.code,
        "message": view.message,
        "tree": node_json(root),
    }


def _walk(node: Node, guide: str, below: str) -> Iterator[tuple[str, str, Node]]:
    """Each node with the guides before its own line and before the lines of its notes."""
    yield guide, below + ("│ " if node.children else "  "), node
    for child in node.children:
        last = child is node.children[-1]
        yield from _walk(child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))


def _label(node: Node) -> str:
    return f"{_MARKS.get(node.state, ('?', ''))[0]} {_clean(node.label)}"


def _layout(width: int, label: int) -> _Layout:
    """Columns go, the least wanted first, until the labels have room; then the labels are cut."""
    wanted = max(label, _LABEL_MIN)
    for columns in (
        {"tokens": 15, "direct": 11, "total": 11, "bar": _BAR},
        {"tokens": 15, "direct": 11, "total": 11},
        {"direct": 11, "total": 11},
        {"total": 11},
        {},
    ):
        taken = 9 + _GAP + sum(cells + _GAP for cells in columns.values())
        room = width - taken
        # The bar is a luxury: no label is cut for it.
        if room >= (wanted if "bar" in columns else _LABEL_MIN):
            return _Layout(label=min(wanted, room), **columns)
    return _Layout(label=min(wanted, max(_LABEL_MIN, width - 9 - _GAP)))


def _node_line(guide: str, node: Node, layout: _Layout, root: Node) -> Line:
    mark, style = _MARKS.get(node.state, ("?", "magenta"))
    room = max(1, layout.label - cell_len(guide))
    label = _label(node)
    if cell_len(label) > room:
        label = set_cell_size(label, room - 1).rstrip() + "…"
    above = node.kind in ("run", "attempt")
    values = _columns(
        (
            _duration(node.duration_us),
            f"{node.input_tokens}→{node.output_tokens}" if node.input_tokens or node.output_tokens else "",
            format_usd(node.direct_nano_usd) if node.direct_nano_usd or above else "",
            format_usd(node.total_nano_usd) if node.total_nano_usd or above else "",
        ),
        layout,
    )
    bar = " " * _GAP + _bar(node, root, layout.bar) if layout.bar else ""
    rest = set_cell_size(label, room)[len(mark) :] + values
    if not bar.strip():
        rest, bar = rest.rstrip(), ""
    return [("\n", ""), (guide, "dim"), (mark, style), (rest, ""), (bar, "blue")]


def _columns(values: tuple[str, str, str, str], layout: _Layout) -> str:
    rooms = (layout.time, layout.tokens, layout.direct, layout.total)
    return "".join(
        " " * (_GAP + room - cell_len(value)) + value
        for value, room in zip(values, rooms, strict=True)
        if room
    )


def _note_lines(guide: str, node: Node, width: int) -> Line:
    """The notes, as many to a line as fit; what is wider than the width runs over, uncut."""
    lines: list[str] = []
    for note in (_clean(note) for note in node.notes):
        if lines and cell_len(guide) + cell_len(lines[-1]) + _GAP + cell_len(note) <= width:
            lines[-1] += " " * _GAP + note
        else:
            lines.append(note)
    style = "red" if node.state in ("refused", "failed") else "yellow"
    return [part for line in lines for part in (("\n", ""), (guide, "dim"), (line, style))]


def _bar(node: Node, root: Node, cells: int) -> str:
    whole = root.duration_us or 0
    if whole <= 0 or node.duration_us is None:
        return ""
    start = min(cells - 1, max(0, (node.started_us - root.started_us) * cells // whole))
    return " " * start + "━" * max(1, min(cells - start, node.duration_us * cells // whole))


def _duration(duration_us: int | None) -> str:
    if duration_us is None:
        return "-"
    if duration_us < 1_000:
        return f"{duration_us} µs"
    if duration_us < 1_000_000:
        return f"{duration_us / 1_000:.1f} ms"
    if duration_us < 60_000_000:
        return f"{duration_us / 1_000_000:.2f} s"
    minutes, rest = divmod(duration_us // 1_000_000, 60)
    return f"{minutes} m {rest:02d} s"


def _clean(text: str) -> str:
    return text if text.isprintable() else "".join(char if char.isprintable() else "�" for char in text)
