"""The bound on input tokens beside real tokenizers: whole requests of chance texts, by kind of text.

How providers lay a request out is not published, so each is laid out in the ways that are known of old: calls
as XML or JSON, schemas compact, spaced and indented, with letters escaped and not.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from benchmarks.figures import Measure, Options
from benchmarks.peers.environment import ROOT, PeerUnavailable, made_python, python_of
from remit.core.messages import Message, ModelRequest, Part, Text, ToolOffer, ToolResult, ToolUse
from remit.governance.bounds import input_tokens_max

ENVIRONMENT = "tokenizers"
NAMES = ("o200k", "cl100k", "Claude")
MODEL = "claude-sonnet-4-20260514"
MARKS_TOKENS = 4
"""Of special tokens around a message, which no text can hold."""

TOOLS_TOKENS = 530
"""Of the instructions that Anthropic adds where there are tools: the most that it documents."""

SHOWN_CHARS = 20


def _letters(*ranges: tuple[int, int]) -> Callable[[random.Random], str]:
    def make(chance: random.Random) -> str:
        first, last = chance.choice(ranges)
        return chr(chance.randint(first, last))

    return make


def _any(chance: random.Random) -> str:
    code = chance.randrange(0x110000)
    return chr(code) if not 0xD800 <= code < 0xE000 else "?"


def _expanding(chance: random.Random) -> str:
    return chance.choice(EXPANDERS)


def _zalgo(chance: random.Random) -> str:
    marks = "".join(chr(chance.randint(0x300, 0x36F)) for _ in range(chance.randint(1, 12)))
    return chance.choice("abcxyz") + marks


def _emoji(chance: random.Random) -> str:
    people = [chr(chance.randint(0x1F466, 0x1F469)) + chr(chance.randint(0x1F3FB, 0x1F3FF)) for _ in range(3)]
    return chance.choice(("\u200d".join(people), chr(chance.randint(0x1F300, 0x1FAFF)), "\u2764\ufe0f"))


def _word(chance: random.Random) -> str:
    return chance.choice(
        ("the ", "refund ", "of ", "customer ", "was ", "charged ", "twice. ", "Please ", "invoice\n")
    )


def _code(chance: random.Random) -> str:
    return chance.choice(
        ("    ", "\t", "if (x[", "] != null) {\n", "}\n", "&&", "self.", "0x1F", ";", "()", "=>", "\\n")
    )


def _json(chance: random.Random) -> str:
    return chance.choice(('{"a":1,', '"b":[1,2,', "]}", '"\\u00e9"', "null,", "-1e-9,", '"', "\\\\"))


EXPANDERS = tuple(
    chr(code)
    for code in range(0x110000)
    if not 0xD800 <= code < 0xE000
    and len(unicodedata.normalize("NFKC", chr(code)).encode()) > len(chr(code).encode())
)
"""Every letter that becomes longer when it is normalised; the Arabic ligatures most of all."""

KINDS: Mapping[str, Callable[[random.Random], str]] = MappingProxyType(
    {
        "English": _word,
        "code": _code,
        "JSON": _json,
        "base 64": lambda chance: chance.choice(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        ),
        "digits": lambda chance: chance.choice("0123456789., "),
        "punctuation": lambda chance: chance.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ \n"),
        "control": _letters((0, 0x1F), (0x7F, 0x9F)),
        "CJK": _letters((0x4E00, 0x9FFF), (0x3040, 0x30FF), (0xAC00, 0xD7A3)),
        "rare CJK": _letters((0x20000, 0x2EBE0), (0xF900, 0xFAD9)),
        "Arabic": _letters((0x600, 0x6FF)),
        "Thai": _letters((0xE01, 0xE5B)),
        "Indic": _letters((0x900, 0xDFF)),
        "emoji": _emoji,
        "zalgo": _zalgo,
        "expanders": _expanding,
        "ligatures": _letters((0xFB00, 0xFB06), (0xFDF0, 0xFDFC), (0x3300, 0x33FF)),
        "any": _any,
    }
)


def text(chance: random.Random, kind: str, length: int) -> str:
    """A text of `length` pieces of this kind."""
    return "".join(KINDS[kind](chance) for _ in range(length))


def request(chance: random.Random, kind: str) -> ModelRequest:
    """A whole request whose every text is of this kind: system, tools, task, calls and their results."""

    def some(most: int = 60) -> str:
        return text(chance, kind, chance.choice((1, 3, chance.randint(1, most))))

    def value(depth: int = 0) -> Any:
        lot = chance.randrange(6 if depth < 2 else 4)
        if lot < 4:
            return (some(20), chance.randint(-9, 10**9), [chance.randint(0, 9)] * 20, None)[lot]
        return [value(depth + 1), value(depth + 1)] if lot == 4 else {some(5): value(depth + 1)}

    offers = tuple(
        ToolOffer(
            name=f"tool_{number}",
            description=some(),
            args_schema={
                "type": "object",
                "properties": {some(4): {"description": some(), "enum": [value(1)]}},
            },
        )
        for number in range(chance.randint(0, 3))
    )
    messages = [Message(role="user", parts=(Text(text=some(400)),))]
    for turn in range(chance.randint(0, 3)):
        uses = tuple(
            ToolUse(
                id=f"call_{turn}_{index}", name=f"tool_{index}", args={some(3): value() for _ in range(5)}
            )
            for index in range(chance.randint(1, 3))
        )
        results: tuple[Part, ...] = tuple(ToolResult(call_id=use.id, content=some(200)) for use in uses)
        messages += [
            Message(role="assistant", parts=(Text(text=some()), *uses)),
            Message(role="user", parts=results),
        ]
    return ModelRequest(
        model=MODEL, system=some(), messages=tuple(messages), tools=offers, max_output_tokens=1
    )


def layouts(asked: ModelRequest) -> list[str]:
    """The request as one text, in each of the ways."""
    ways: tuple[dict[str, Any], ...] = (
        {"ensure_ascii": False, "separators": (",", ":")},
        {"ensure_ascii": False, "indent": 2},
        {"ensure_ascii": True},
    )
    return ["".join(_pieces(asked, way, is_xml=is_xml)) for way in ways for is_xml in (True, False)]


def _pieces(asked: ModelRequest, way: dict[str, Any], *, is_xml: bool) -> Iterator[str]:
    yield f"{asked.system}\n\n"
    for tool in asked.tools:
        told = {"description": tool.description, "name": tool.name, "parameters": tool.args_schema}
        yield f"<function>{json.dumps(told, **way)}</function>\n"
    for message in asked.messages:
        yield "\n\nHuman: " if message.role == "user" else "\n\nAssistant: "
        for part in message.parts:
            match part:
                case Text():
                    yield part.text
                case ToolUse() if is_xml:
                    yield f'<invoke id="{part.id}" name="{part.name}">\n'
                    for name, value in part.args.items():
                        yield f'<parameter name="{name}">{json.dumps(value, **way)}</parameter>\n'
                    yield "</invoke>\n"
                case ToolUse():
                    yield json.dumps({"id": part.id, "name": part.name, "arguments": part.args}, **way)
                case ToolResult():
                    yield f'<result id="{part.call_id}">\n{part.content}\n</result>\n'


class TokenCounter:
    """Real tokenizers, in a process of their own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def count(self, texts: list[str]) -> list[list[int]]:
        """For each text its tokens by each of NAMES."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(texts) + "\n")
        self._process.stdin.flush()
        counts: list[list[int]] = json.loads(self._process.stdout.readline())
        return counts

    def request_tokens(self, asked: ModelRequest) -> int:
        """The most that any tokenizer counts for any layout, with what providers add."""
        added = MARKS_TOKENS * (len(asked.messages) + 2) + (TOOLS_TOKENS if asked.tools else 0)
        return added + max(max(counts) for counts in self.count(layouts(asked)))


@contextmanager
def token_counter(*, make: bool) -> Iterator[TokenCounter | None]:
    """The counter; None where its environment is not there and is not to be made. Raises: PeerUnavailable."""
    python = python_of(ENVIRONMENT) if make else made_python(ENVIRONMENT)
    if python is None:
        yield None
        return
    command = [str(python), "-m", "benchmarks.token_counts"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        yield TokenCounter(process)


def measure(options: Options) -> list[Measure]:
    """The bound in tokens, by kind of text. Raises: AssertionError where a tokenizer counts more."""
    requests = options.pick(20, 300)
    try:
        with token_counter(make=True) as counter:
            assert counter is not None
            return [_measured(counter, kind, requests) for kind in KINDS]
    except PeerUnavailable as error:
        problem = str(error)
        return [
            Measure(topic="bound", name="all", unit="x tokens", samples=(), limited_by="", problem=problem)
        ]


def _measured(counter: TokenCounter, kind: str, requests: int) -> Measure:
    ratios = []
    for seed in range(requests):
        asked = request(random.Random(f"{kind}/{seed}"), kind)
        bound, tokens = input_tokens_max(asked), counter.request_tokens(asked)
        assert bound >= tokens, f"{kind}, seed {seed}: {tokens} tokens, and a bound of {bound}"
        ratios.append(bound / tokens)
    print(
        f"benchmarks: bound / tokens, {kind}: {min(ratios):.2f} to {max(ratios):.2f} in {requests} requests",
        file=sys.stderr,
        flush=True,
    )
    return Measure(
        topic="bound",
        name=f"bound / tokens, {kind} (max {max(ratios):.1f})",
        unit="x tokens",
        samples=tuple(ratios),
        limited_by="a token is at least a byte, and often four",
    )
