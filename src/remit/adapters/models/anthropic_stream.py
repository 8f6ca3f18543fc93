"""A message of Anthropic from its stream: the same reply as the same message in one piece."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from remit.adapters.models import anthropic_wire, failures
from remit.adapters.models.exchange import TextRelay
from remit.adapters.models.replies import malformed, tool_args_of_text
from remit.core.messages import ModelReply, ModelRequest, Usage
from remit.ports.effects import EffectFailed


class AnthropicStream:
    """Builds the message. Blocks come one after the other; those we do not know are kept as they are.

    Until the message has stopped, its output counts as billed up to `max_output_tokens`.
    """

    def __init__(self, request: ModelRequest, relay: TextRelay) -> None:
        self._request = request
        self._relay = relay
        self._message: dict[str, Any] | None = None
        self._usage: dict[str, Any] = {}
        self._blocks: list[dict[str, Any]] = []
        self._pieces: dict[str, list[str]] = {}
        self._is_open = False
        self._billed: Usage | None = None
        self.is_done = False

    @property
    def billed(self) -> Usage | None:
        """The exact input and, strictly, all the output that was allowed; None before the message began."""
        return self._billed

    @property
    def is_whole(self) -> bool:
        """Whether the message has stopped."""
        return self.is_done

    def end(self) -> None:
        """This provider gives no mark of its own at the end."""

    def take(self, event: dict[str, Any]) -> None:
        """Take the next event; those of unknown types are passed over. Raises: EffectFailed."""
        kind = event.get("type")
        if kind == "error":
            raise failures.of_event(event, self._billed)
        if kind == "message_start":
            self._start(event.get("message"))
        elif self._message is None:
            return
        elif kind == "content_block_start":
            self._open_block(event)
        elif kind == "content_block_delta":
            self._extend_block(event)
        elif kind == "content_block_stop":
            self._close_block(event)
        elif kind == "message_delta":
            self._change(event)
        elif kind == "message_stop":
            self.is_done = True

    def reply(self) -> ModelReply:
        """The whole message. Raises: EffectFailed `model.failed`."""
        if self._is_open:
            raise malformed("the message stops within a block")
        message = {**(self._message or {}), "content": self._blocks, "usage": self._usage}
        reply = anthropic_wire.read_message(message, self._request.model)
        self._relay.finish(reply.text)
        return reply

    def _start(self, message: Any) -> None:
        if self._message is not None or not isinstance(message, dict):
            raise malformed("a message starts twice, or is not an object")
        self._message = {"model": message.get("model"), "stop_reason": message.get("stop_reason")}
        self._count(message.get("usage"))

    def _change(self, event: dict[str, Any]) -> None:
        delta = event.get("delta")
        if isinstance(delta, dict) and "stop_reason" in delta and self._message is not None:
            self._message["stop_reason"] = delta["stop_reason"]
        self._count(event.get("usage"))

    def _count(self, usage: Any) -> None:
        """Later counts replace earlier ones: they are sums."""
        if isinstance(usage, dict):
            self._usage.update({name: count for name, count in usage.items() if count is not None})
        try:
            seen = anthropic_wire.read_usage(self._usage)
        except EffectFailed:
            self._billed = None  # nobody knows
            return
        self._billed = replace(seen, output_tokens=max(seen.output_tokens, self._request.max_output_tokens))

    def _open_block(self, event: dict[str, Any]) -> None:
        block = event.get("content_block")
        if self._is_open or event.get("index") != len(self._blocks) or not isinstance(block, dict):
            raise malformed("a block starts out of order, or is not an object")
        self._blocks.append(dict(block))
        self._pieces = {}
        self._is_open = True
        if block.get("type") == "text":
            self._relay.begin_part()
            self._add("text", block.get("text", ""))

    def _extend_block(self, event: dict[str, Any]) -> None:
        delta = event.get("delta")
        if not self._is_open or event.get("index") != len(self._blocks) - 1 or not isinstance(delta, dict):
            raise malformed("a block goes on out of order")
        kind = self._blocks[-1].get("type")
        match delta.get("type"):
            case "text_delta" if kind == "text":
                self._add("text", delta.get("text"))
            case "input_json_delta":
                self._add("input", delta.get("partial_json"))
            case "thinking_delta":
                self._add("thinking", delta.get("thinking"))
            case "signature_delta":
                self._add("signature", delta.get("signature"))
            case other if kind != "text":  # what a text has beside its letters is not kept anyway
                raise malformed(f"a block of type {str(kind)[:40]!r} goes on with {str(other)[:40]!r}")

    def _add(self, field: str, piece: Any) -> None:
        if not isinstance(piece, str):
            raise malformed(f"a piece of {field} is no text")
        self._pieces.setdefault(field, []).append(piece)
        if field == "text":
            self._relay.tell(piece)

    def _close_block(self, event: dict[str, Any]) -> None:
        if not self._is_open or event.get("index") != len(self._blocks) - 1:
            raise malformed("a block stops that is not open")
        self._is_open = False
        block = self._blocks[-1]
        for field, pieces in self._pieces.items():
            whole = "".join(pieces)
            if field == "input":
                if whole:  # none: the input stands in the block's start
                    block["input"] = tool_args_of_text(whole)
            elif field == "text":
                block["text"] = whole
            else:
                begun = block.get(field)
                block[field] = (begun if isinstance(begun, str) else "") + whole
