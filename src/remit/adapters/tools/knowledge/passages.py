"""What a search asks for, and the passage of a page that answers it."""

from __future__ import annotations

import re
from typing import Final

WORDS_MAX = 32
PASSAGE_CHARS_MAX = 900
_MARKED = re.compile("\x02(.*?)\x03", re.DOTALL)
_WORD = re.compile(r"[^\W_]+")
_HEADINGS = re.compile(r"\A(?:#[^\n]*(?:\n|\Z))+")
# Words that stand on nearly every page; they only cost time and blur the ranking.
_STOP_WORDS = (
    "a an and are as at be but by can do does for from how i in is it me my of on or our so that the their "
    "there this to was we were what when where which who why will with you your"
)
_STOP: Final = frozenset(_STOP_WORDS.split())


def match_expression(query: str) -> str:
    """The FTS5 expression that finds pages with any word of `query`; "" where it has no word.

    Only letters and digits reach FTS5, each word in quotes, so no query can be an operator.
    """
    words = list(dict.fromkeys(word.lower() for word in _WORD.findall(query)))
    telling = [word for word in words if word not in _STOP] or words
    return " OR ".join(f'"{word}"' for word in telling[:WORDS_MAX])


def passage(marked: str) -> str:
    """The paragraphs that answer best, in the page's order, of at most about 900 characters.

    `marked` is a page where each word that was found stands between U+0002 and U+0003. Paragraphs with
    more different words come first, then those with more of them, then the earlier.
    """
    parts = (_HEADINGS.sub("", part.strip()).strip() for part in marked.split("\n\n"))
    paragraphs = [part for part in parts if part]
    ranked = sorted(enumerate(paragraphs), key=lambda entry: (_score(entry[1]), -entry[0]), reverse=True)
    chosen: dict[int, str] = {}
    room = PASSAGE_CHARS_MAX
    for place, paragraph in ranked:
        text = paragraph.replace("\x02", "").replace("\x03", "")
        if chosen and len(text) > room:
            continue
        chosen[place] = text if len(text) <= room else text[: room - 1] + "…"
        room -= len(chosen[place])
    return "\n".join(chosen[place] for place in sorted(chosen))


def _score(paragraph: str) -> tuple[int, int]:
    words = [word.lower() for word in _MARKED.findall(paragraph)]
    return len(set(words)), len(words)
