"""The input items of OpenAI's Responses protocol: checked, counted, and read as the turns of a conversation.

A turn of the model is what stands between two inputs of others: its reasoning, its texts, its calls.
"""

from __future__ import annotations

from typing import Any

from remit.testing.model_server import openai_parts as parts
from remit.testing.model_server import signatures
from remit.testing.model_server.conversation import BadRequest, read_result
from remit.testing.model_server.prompt import PromptReader

_KINDS = ("message", "function_call", "function_call_output", "reasoning")
_ROLES = ("user", "assistant", "system", "developer")


class ItemReader:
    """Reads the items in order."""

    def __init__(self, reader: PromptReader, *, stores: bool) -> None:
        self._reader = reader
        self._stores = stores
        self._turns: list[list[str]] = []
        self._results: dict[str, Any] = {}
        self._calls: set[str] = set()
        self._speaks = False
        self._marks: set[str | None] = {None}
        self._thought_id: str | None = None

    def read(self, items: list[Any]) -> tuple[tuple[Any, ...], ...]:
        """The results that came after each turn of the model, in the order of its calls. Raises: BadRequest."""
        for index, item in enumerate(items):
            self._read_item(item, f"input[{index}]")
        self._follow(None)
        for call_id in (name for turn in self._turns for name in turn):
            if call_id not in self._results:
                raise parts.bad(f"No tool output found for function call {call_id}.", "input")
        return tuple(tuple(self._results[name] for name in turn) for turn in self._turns)

    def _read_item(self, item: Any, place: str) -> None:
        parts.check_type(item, dict, place)
        kind = parts.check_choice(item.get("type", "message"), _KINDS, f"{place}.type")
        tokens, uncounted = 0, ""
        by_model = kind in ("function_call", "reasoning")
        if kind == "message":
            role = parts.check_choice(item.get("role"), _ROLES, f"{place}.role")
            by_model = role == "assistant"
            content = item.get("content")
            if not isinstance(content, str):
                tokens, uncounted = _read_content(content, by_model, f"{place}.content")
        self._speak(by_model)
        if by_model and kind != "reasoning":
            self._follow(item.get("id"))
        if kind == "reasoning":
            self._read_reasoning(item, place)
        elif kind == "function_call":
            self._read_call(item, place)
        elif kind == "function_call_output":
            tokens, uncounted = self._read_output(item, place)
        elif not by_model:
            self._follow(None)
        self._reader.add(item, tokens=tokens, uncounted=uncounted)

    def _speak(self, by_model: bool) -> None:
        if by_model and not self._speaks:
            self._turns.append([])
            self._marks = {None}
        self._speaks = by_model

    def _follow(self, item_id: Any) -> None:
        """What follows reasoning is what the model said after it, and its own item names it."""
        thought_id, self._thought_id = self._thought_id, None
        if not self._speaks or item_id is None:
            if thought_id is not None and not self._speaks:
                why = "of type 'reasoning' was provided without its required following item."
                raise parts.bad(f"Item '{thought_id}' {why}", "input")
            return
        mark = signatures.mark_in(item_id) if isinstance(item_id, str) else None
        if mark not in self._marks:
            why = "was provided without its required 'reasoning' item."
            raise parts.bad(f"Item '{item_id}' {why}", "input")

    def _read_reasoning(self, item: dict[str, Any], place: str) -> None:
        item_id = parts.check_type(item.get("id"), str, f"{place}.id")
        parts.check_type(item.get("summary"), list, f"{place}.summary")
        sealed = item.get("encrypted_content")
        if sealed is None:
            if not self._stores:
                message = f"Item with id '{item_id}' not found. Items are not persisted when `store` is set to false."
                raise BadRequest(message, status=404, param="input")
            self._marks.add(signatures.mark_in(item_id))
        else:
            parts.check_type(sealed, str, f"{place}.encrypted_content")
            thought = signatures.unseal(sealed)
            if thought is None:
                message = f"The encrypted content for item {item_id} could not be verified."
                raise parts.bad(message, "input", "invalid_encrypted_content")
            self._marks.add(signatures.mark(thought))
        self._thought_id = item_id

    def _read_call(self, item: dict[str, Any], place: str) -> None:
        for name in ("call_id", "name", "arguments"):
            parts.check_type(item.get(name), str, f"{place}.{name}")
        if item["call_id"] in self._calls:
            raise parts.bad(f"Duplicate function call {item['call_id']}.", f"{place}.call_id")
        self._calls.add(item["call_id"])
        self._turns[-1].append(item["call_id"])

    def _read_output(self, item: dict[str, Any], place: str) -> tuple[int, str]:
        call_id = parts.check_type(item.get("call_id"), str, f"{place}.call_id")
        if call_id not in self._calls or call_id in self._results:
            message = f"No tool call found for function call output with call_id {call_id}."
            raise parts.bad(message, "input")
        output: Any = item.get("output")
        tokens, uncounted = 0, ""
        if not isinstance(output, str):
            tokens, uncounted = _read_content(output, False, f"{place}.output")
            output = "".join(part["text"] for part in output if part["type"] == "input_text")
        self._results[call_id] = read_result(output, False)
        return tokens, uncounted


def _read_content(content: Any, by_model: bool, place: str) -> tuple[int, str]:
    """The tokens of images and files within, and the base64 that they stand for."""
    parts.check_type(content, list, place)
    tokens, uncounted = 0, ""
    allowed = ("output_text", "refusal") if by_model else ("input_text", "input_image", "input_file")
    for index, part in enumerate(content):
        here = f"{place}[{index}]"
        parts.check_type(part, dict, here)
        kind = parts.check_choice(part.get("type"), allowed, f"{here}.type")
        more, data = 0, ""
        if kind == "input_image":
            more, data = parts.image_url_tokens(part.get("image_url"), f"{here}.image_url")
        elif kind == "input_file":
            more, data = parts.file_tokens(part, here)
        else:
            name = "refusal" if kind == "refusal" else "text"
            parts.check_type(part.get(name), str, f"{here}.{name}")
        tokens, uncounted = tokens + more, uncounted + data
    return tokens, uncounted
