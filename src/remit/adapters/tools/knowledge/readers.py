"""Reads a file as a page: Markdown, plain text, HTML and PDF become a title, a body in paragraphs, and a visibility."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from io import BytesIO
from pathlib import PurePath
from typing import Any, Literal, TypeAlias

Visibility: TypeAlias = Literal["public", "internal"]

PDF_PAGES_MAX = 2_000
_PDF_BYTES, _PDF_PACKED, _PDF_OPERATION = 1_000_000, 20, 10
_BYTES_MAX = {"md": 1_000_000, "txt": 1_000_000, "html": 5_000_000, "htm": 5_000_000, "pdf": 50_000_000}
_TITLE_CHARS_MAX = 200
# one match a line, and nothing in it that two parts of a pattern could share: what is read may be made to be slow
_VISIBILITY = re.compile(r"^[ \t]*[\"']?visibility[\"']?[ \t]*:(.*)$", re.MULTILINE | re.IGNORECASE)
_TITLE = re.compile(r"^title[ \t]*:(.*)$", re.MULTILINE)
_HEADING = re.compile(r"^#[ \t]+([^ \t#].*)$", re.MULTILINE)
_HTML_CHUNK = 256 * 1024
_HTML_REST_MAX = 4_096
_FRONT = re.compile(r"\A\ufeff?---[ \t]*\n(.*?)^---[ \t]*$\n?", re.MULTILINE | re.DOTALL)
_SILENT = frozenset({"script", "style", "template", "noscript", "svg", "nav", "head"})
_INLINE = frozenset(
    {
        "a",
        "abbr",
        "b",
        "code",
        "em",
        "i",
        "kbd",
        "mark",
        "q",
        "s",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "u",
        "var",
    }
)


class Unreadable(Exception):
    """A file that is no page. Its message says why, and is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A file, read."""

    title: str
    visibility: Visibility
    body: str


def is_page(name: str) -> bool:
    """Whether a file of that name is read at all."""
    return _kind(name) in _BYTES_MAX


def bytes_max(name: str) -> int:
    """How large a page of that name may be."""
    return _BYTES_MAX[_kind(name)]


def read_page(name: str, content: bytes, otherwise: Visibility = "internal") -> Page:
    """The page of a file; `otherwise`: its visibility, where it does not say. Raises: Unreadable."""
    kind = _kind(name)
    if len(content) > bytes_max(name):
        raise Unreadable(f"it is larger than {bytes_max(name) // 1_000_000} MB")
    return _READERS[kind](content, PurePath(name).stem, otherwise)


def parse_page(text: str, name: str, otherwise: Visibility = "internal") -> Page:
    """Markdown with its front matter applied; without a title, the first heading or `name` is the title."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    front = _FRONT.match(text)
    body = text[front.end() :] if front else text
    fields = front[1] if front else ""
    title, heading = _TITLE.search(fields), _HEADING.search(body)
    told = title[1].strip(" \t\"'") if title else heading[1].rstrip(" \t#") if heading else ""
    declared = [one.partition("#")[0].strip(" \t\"'") for one in _VISIBILITY.findall(fields)]
    return _page(told or name, body, declared, otherwise)


def _page(title: str, body: str, declared: list[str], otherwise: Visibility) -> Page:
    """What says plainly that it is public, or says nothing in a public place, is public."""
    is_public = declared == ["public"] or (not declared and otherwise == "public")
    return Page(
        title=title[:_TITLE_CHARS_MAX],
        visibility="public" if is_public else "internal",
        body=body.replace("\x02", " ").replace("\x03", " ").strip(),  # they mark what a search found
    )


def _kind(name: str) -> str:
    return PurePath(name).suffix.lower().removeprefix(".")


def _text(content: bytes, name: str, otherwise: Visibility) -> Page:
    return parse_page(content.decode(errors="replace"), name, otherwise)


class _Html(HTMLParser):
    """The text of a document: blocks become paragraphs, what is not shown is left out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.declared: list[str] = []
        self.parts: list[str] = []
        self._silent = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "meta" and (given.get("name") or "").lower() == "visibility":
            self.declared.append(given.get("content") or "")
        self._in_title = tag == "title"
        self._silent += tag in _SILENT
        if tag not in _INLINE:
            self.parts.append("\n\n" if tag not in ("br", "li", "tr") else "\n")

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False
        self._silent = max(self._silent - (tag in _SILENT), 0)
        if tag not in _INLINE:
            self.parts.append("\n\n" if tag not in ("li", "tr", "td", "th") else " ")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._silent:
            self.parts.append(re.sub(r"\s+", " ", data))


def _html(content: bytes, name: str, otherwise: Visibility) -> Page:
    reader = _Html()
    text = content.decode(errors="replace")
    # the library looks for the end of what is open from its beginning, for each that is: so seldom, and never at the end
    for start in range(0, len(text), _HTML_CHUNK):
        reader.feed(text[start : start + _HTML_CHUNK])
    if len(reader.rawdata) < _HTML_REST_MAX:
        reader.close()
    body = "\n".join(line.strip(" \t") for line in "".join(reader.parts).split("\n"))
    title = " ".join(reader.title.split())
    return _page(title or name, re.sub(r"\n{3,}", "\n\n", body), reader.declared, otherwise)


class _Room:
    """How much of a file may be drawn: what is short when it is packed, or drawn again and again, may have no end."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> None:
        """Raises: Unreadable where there is no room for it."""
        self._left -= size
        if self._left < 0:
            raise Unreadable("it draws far more than a file of its size does")


def _text_of(page: Any, room: _Room) -> str:
    packed = page.get_contents()
    room.take(0 if packed is None else len(packed.get_data()))
    drawn: str = page.extract_text(visitor_operand_before=lambda *_: room.take(_PDF_OPERATION))
    return drawn


def _pdf(content: bytes, name: str, otherwise: Visibility) -> Page:
    try:
        # an extra: most folders have none
        import pypdf  # noqa: PLC0415
        from pypdf.errors import PyPdfError  # noqa: PLC0415
    except ImportError as error:
        raise Unreadable("PDF files need remit[knowledge]") from error
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it finds wrong, it tells by raising
    try:
        reader = pypdf.PdfReader(BytesIO(content))
        if len(reader.pages) > PDF_PAGES_MAX:
            raise Unreadable(f"it has more than {PDF_PAGES_MAX} pages")
        room = _Room(_PDF_BYTES + len(content) * _PDF_PACKED)
        body = "\n\n".join(_text_of(page, room) for page in reader.pages)
        title = str((reader.metadata and reader.metadata.title) or name)
    # pypdf raises whatever its reading of a broken file comes upon
    except (
        PyPdfError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        RecursionError,
        OSError,
    ) as error:
        raise Unreadable(f"it is no PDF that can be read ({type(error).__name__})") from error
    if not body.strip():
        raise Unreadable("it holds no text: it may be a scan")
    return _page(" ".join(title.split()) or name, body, [], otherwise)


_READERS: Mapping[str, Callable[[bytes, str, Visibility], Page]] = {
    "md": _text,
    "txt": _text,
    "html": _html,
    "htm": _html,
    "pdf": _pdf,
}
