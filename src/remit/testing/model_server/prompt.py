"""How prompts and answers are counted, and what of a prompt was cached before: deterministic, no tokenizer.

Four bytes of JSON are a token; an image counts by its size, a document by its pages.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import orjson

from remit.ports.services import Clock
from remit.testing.model_server.conversation import BadRequest, Call, Reply
from remit.testing.model_server.wire import Answer, Asked, Lifetime, Segment, Stop, Tokens

CACHED_TOKENS_MIN = 1_024
CACHED_TOKENS_STEP = 128
LOOKBACK = 20
PREFIXES_MAX = 16_384
IMAGE_TOKENS_MAX = 1_568
PAGE_TOKENS = 1_500
CALL_TOKENS = 6
_LIFETIME_US: Mapping[Lifetime, int] = {"5m": 300_000_000, "1h": 3_600_000_000}
_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")


class PromptReader:
    """Adds up a prompt piece by piece; every piece's digest covers all before it."""

    def __init__(self, model: str) -> None:
        self._digest = hashlib.sha256(model.encode("utf-8", "replace")).digest()
        self._bytes = 0
        self._extra = 0
        self._segments: list[Segment] = []

    def add(self, piece: Any, *, mark: Lifetime | None = None, tokens: int = 0, uncounted: str = "") -> None:
        """One piece. `uncounted` is base64 within it, which counts as `tokens` instead of by its length.

        Raises: BadRequest where it is nested too deeply.
        """
        try:
            data = orjson.dumps(piece)
        except orjson.JSONEncodeError as error:
            raise BadRequest("the request is nested too deeply") from error
        self._digest = hashlib.sha256(self._digest + data).digest()
        self._bytes += len(data) - len(uncounted)
        self._extra += tokens
        total = -(-self._bytes // 4) + self._extra
        self._segments.append(Segment(digest=self._digest, tokens=total, mark=mark))

    @property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(self._segments)


def image_tokens(data: str, place: str) -> int:
    """Tokens of a base64 image: by the pixels of a PNG, the most there can be for others. Raises: BadRequest."""
    raw = _decoded(data, place)
    if raw.startswith(b"\x89PNG\r\n\x1a\n") and len(raw) >= 24:
        pixels = int.from_bytes(raw[16:20]) * int.from_bytes(raw[20:24])
        return max(min(-(-pixels // 750), IMAGE_TOKENS_MAX), 1)
    return IMAGE_TOKENS_MAX


def document_tokens(data: str, place: str) -> int:
    """Tokens of a base64 PDF, by its pages. Raises: BadRequest where it is none."""
    raw = _decoded(data, place)
    if not raw.startswith(b"%PDF-"):
        raise BadRequest(f"{place}: The PDF specified was not valid.")
    return PAGE_TOKENS * max(len(_PAGE.findall(raw)), 1)


def _decoded(data: str, place: str) -> bytes:
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{place}: invalid base64 data") from error
    if not raw:
        raise BadRequest(f"{place}: data is empty")
    return raw


class PrefixCache:
    """Prefixes that were seen: 5 minutes or an hour after they were last used, at most PREFIXES_MAX."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_us: dict[bytes, int] = {}

    def clear(self) -> None:
        """Forget all."""
        self._until_us.clear()

    def count(self, asked: Asked, *, tells_writes: bool) -> Tokens:
        """The prompt's tokens: how many were in the cache, are put into it, and neither. Remembers them."""
        now_us = self._clock.now_us()
        if asked.cache == "marked":
            return self._marked(asked, now_us)
        return self._automatic(asked, now_us, tells_writes)

    def _marked(self, asked: Asked, now_us: int) -> Tokens:
        segments = asked.segments
        marks = [
            index
            for index, segment in enumerate(segments)
            if segment.mark is not None and segment.tokens >= CACHED_TOKENS_MIN
        ]
        read = self._longest_behind(segments, marks, now_us)
        written: dict[Lifetime, int] = {"5m": 0, "1h": 0}
        reached = read
        for index in marks:
            segment = segments[index]
            lifetime = segment.mark or "5m"
            written[lifetime] += max(segment.tokens - reached, 0)
            reached = max(reached, segment.tokens)
            self._keep(segment.digest, now_us + _LIFETIME_US[lifetime])
        return Tokens(
            input=asked.prompt_tokens - reached,
            cache_read=read,
            cache_write_5m=written["5m"],
            cache_write_1h=written["1h"],
        )

    def _longest_behind(self, segments: tuple[Segment, ...], marks: list[int], now_us: int) -> int:
        """Tokens of the longest known prefix that ends at a mark or up to 20 pieces before it."""
        for mark in reversed(marks):
            for segment in reversed(segments[max(mark - LOOKBACK, 0) : mark + 1]):
                if self._until_us.get(segment.digest, 0) > now_us:
                    return segment.tokens
        return 0

    def _automatic(self, asked: Asked, now_us: int, tells_writes: bool) -> Tokens:
        known = [one for one in asked.segments if self._until_us.get(one.digest, 0) > now_us]
        read = _in_steps(known[-1].tokens) if known else 0
        written = _in_steps(asked.prompt_tokens) - read if tells_writes else 0
        for segment in asked.segments:
            if segment.tokens >= CACHED_TOKENS_MIN:
                self._keep(segment.digest, now_us + 2 * _LIFETIME_US["5m"])
        return Tokens(
            input=asked.prompt_tokens - read - written, cache_read=read, cache_write_5m=max(written, 0)
        )

    def _keep(self, digest: bytes, until_us: int) -> None:
        until_us = max(until_us, self._until_us.pop(digest, 0))
        if len(self._until_us) >= PREFIXES_MAX:
            del self._until_us[next(iter(self._until_us))]
        self._until_us[digest] = until_us


def _in_steps(tokens: int) -> int:
    return tokens // CACHED_TOKENS_STEP * CACHED_TOKENS_STEP if tokens >= CACHED_TOKENS_MIN else 0


def compose(reply: Reply, asked: Asked, prompt: Tokens, created_s: int) -> Answer:
    """What is answered: `reply`, cut where a stop sequence stands and to the tokens asked for."""
    text, sequence = _stopped(reply.text, asked.stops)
    left = asked.output_tokens_max
    think, left = _cut(reply.think if asked.thinks else "", left)
    reasoning = asked.output_tokens_max - left
    said, left = _cut(text, left)
    calls: list[Call] = []
    for call in reply.calls:
        size = CALL_TOKENS + -(-len(orjson.dumps([call.tool, call.args])) // 4)
        if size > left or sequence is not None:
            break
        calls.append(call)
        left -= size
    declined, left = _cut(reply.refusal or "", left)
    stop: Stop = "tool_use" if calls else "end"
    if reply.refusal is not None:
        stop = "refusal"
    elif sequence is not None and said == text:
        stop = "stop_sequence"
    elif (said, len(calls)) != (text, len(reply.calls)):
        stop, calls = "max_tokens", []
    output = max(asked.output_tokens_max - left, 1)
    return Answer(
        asked=asked,
        created_s=created_s,
        think=think,
        text=said,
        calls=tuple(calls),
        refusal=None if reply.refusal is None else declined,
        stop=stop,
        stop_sequence=sequence if stop == "stop_sequence" else None,
        tokens=Tokens(
            input=prompt.input,
            cache_read=prompt.cache_read,
            cache_write_5m=prompt.cache_write_5m,
            cache_write_1h=prompt.cache_write_1h,
            output=asked.output_tokens_max if stop == "max_tokens" else output,
            reasoning=reasoning,
        ),
        served=reply.served,
    )


def _stopped(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    found = [(text.index(stop), stop) for stop in stops if stop in text]
    if not found:
        return text, None
    place, stop = min(found)
    return text[:place], stop


def _cut(text: str, tokens: int) -> tuple[str, int]:
    """What of `text` fits into `tokens`, and how many are left."""
    data = text.encode()
    return data[: tokens * 4].decode(errors="ignore"), max(tokens - -(-len(data) // 4), 0)
