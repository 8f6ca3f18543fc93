"""The providers' words for what the conformance suite wants said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx2

from remit.adapters.models import AnthropicModel, OpenAIModel, OpenAIOptions
from remit.testing.model_suite import KEY, ClosableModel, Said


def event(value: dict[str, Any], name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value)}\n\n".encode()


def pieces(text: str, size: int = 4) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


ANTHROPIC_STOPS = {"end": "end_turn", "tool_use": "tool_use", "max_tokens": "max_tokens"}
CHAT_STOPS = {"end": "stop", "tool_use": "tool_calls", "max_tokens": "length"}


class AnthropicWire:
    provider = "anthropic"
    model = "claude-sonnet-4-20260514"

    def open(self, base_url: str, client: httpx2.AsyncClient | None, timeout_s: float) -> ClosableModel:
        root = base_url.removesuffix("/v1")
        return AnthropicModel(KEY, base_url=root, timeout_s=timeout_s, http_client=client)

    def body(self, said: Said) -> bytes:
        blocks: list[str] = []
        if said.reasons:
            blocks.append('{"type": "thinking", "thinking": "hm, so", "signature": "c2ln"}')
            blocks.append('{"type": "redacted_thinking", "data": "eA=="}')
        if said.text:
            blocks.append(json.dumps({"type": "text", "text": said.text}))
        for call_id, name, args in said.calls:
            # as text, because arguments may hold what Python does not write
            blocks.append(
                f'{{"type": "tool_use", "id": {json.dumps(call_id)}, "name": {json.dumps(name)}, "input": {args}}}'
            )
        head = json.dumps(
            self._head(said) | {"stop_reason": ANTHROPIC_STOPS[said.stop], "usage": self._usage(said)}
        )
        return (head[:-1] + ', "content": [' + ", ".join(blocks) + "]}").encode()

    def events(self, said: Said) -> Sequence[bytes]:
        usage = self._usage(said)
        started = {**usage, "output_tokens": 1}
        out = [self._event("message_start", message=self._head(said) | {"content": [], "usage": started})]
        out.append(self._event("ping"))
        for index, (start, deltas) in enumerate(self._blocks(said)):
            out.append(self._event("content_block_start", index=index, content_block=start))
            out += [self._event("content_block_delta", index=index, delta=delta) for delta in deltas]
            out.append(self._event("content_block_stop", index=index))
        delta = {"stop_reason": ANTHROPIC_STOPS[said.stop], "stop_sequence": None}
        out.append(self._event("message_delta", delta=delta, usage={"output_tokens": usage["output_tokens"]}))
        return [*out, self._event("message_stop")]

    def _blocks(self, said: Said) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
        if said.reasons:
            thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in ("hm,", " so")]
            signed = {"type": "signature_delta", "signature": "c2ln"}
            blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, [*thoughts, signed]))
            blocks.append(({"type": "redacted_thinking", "data": "eA=="}, []))
        if said.text:
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces(said.text)]
            blocks.append(({"type": "text", "text": ""}, deltas))
        for call_id, name, args in said.calls:
            deltas = [
                {"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces(args, 700)]
            ]
            blocks.append(({"type": "tool_use", "id": call_id, "name": name, "input": {}}, deltas))
        return blocks

    def _head(self, said: Said) -> dict[str, Any]:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "stop_reason": None,
        }

    def _usage(self, said: Said) -> dict[str, Any]:
        return {
            "input_tokens": said.usage.input_tokens,
            "output_tokens": said.usage.output_tokens,
            "cache_read_input_tokens": said.usage.cache_read_tokens,
            "cache_creation_input_tokens": said.usage.cache_write_tokens,
        }

    def _event(self, kind: str, **fields: Any) -> bytes:
        return event({"type": kind, **fields}, kind)


class ResponsesWire:
    provider = "openai"
    model = "gpt-5.2"

    def open(self, base_url: str, client: httpx2.AsyncClient | None, timeout_s: float) -> ClosableModel:
        options = OpenAIOptions(timeout_s=timeout_s)
        return OpenAIModel(KEY, base_url=base_url, options=options, http_client=client)

    def body(self, said: Said) -> bytes:
        return json.dumps(self.response(said)).encode()

    def response(self, said: Said) -> dict[str, Any]:
        cut = said.stop == "max_tokens"
        usage = said.usage
        return {
            "id": "resp_1",
            "object": "response",
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "error": None,
            "model": self.model,
            "output": self.items(said),
            "usage": {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {
                    "cached_tokens": usage.cache_read_tokens,
                    "cache_write_tokens": usage.cache_write_tokens,
                },
                "output_tokens": usage.output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.prompt_tokens + usage.output_tokens,
            },
        }

    def items(self, said: Said) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        if said.reasons:
            items.append({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "eA=="})
        if said.text:
            content = [{"type": "output_text", "text": said.text, "annotations": []}]
            items.append(
                {
                    "type": "message",
                    "id": "m1",
                    "role": "assistant",
                    "status": "completed",
                    "content": content,
                }
            )
        for index, (call_id, name, args) in enumerate(said.calls):
            items.append(
                {
                    "type": "function_call",
                    "id": f"fc_{index}",
                    "call_id": call_id,
                    "name": name,
                    "arguments": args,
                }
            )
        return items

    def events(self, said: Said) -> Sequence[bytes]:
        final = self.response(said)
        begun = {**final, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
        out = [self._event("response.created", response=begun)]
        for index, item in enumerate(self.items(said)):
            out.append(self._event("response.output_item.added", output_index=index, item=item))
            place = {"output_index": index, "item_id": item["id"]}
            if item["type"] == "message":
                place["content_index"] = 0
                part = {"type": "output_text", "text": "", "annotations": []}
                out.append(self._event("response.content_part.added", **place, part=part))
                out += [
                    self._event("response.output_text.delta", **place, delta=piece)
                    for piece in pieces(said.text)
                ]
            if item["type"] == "function_call":
                out.append(
                    self._event("response.function_call_arguments.done", **place, arguments=item["arguments"])
                )
            out.append(self._event("response.output_item.done", output_index=index, item=item))
        return [*out, self._event(f"response.{final['status']}", response=final)]

    def _event(self, kind: str, **fields: Any) -> bytes:
        return event({"type": kind, "sequence_number": 0, **fields}, kind)


class ChatWire:
    provider = "openai"
    model = "openai-compatible/llama3.3"

    def open(self, base_url: str, client: httpx2.AsyncClient | None, timeout_s: float) -> ClosableModel:
        options = OpenAIOptions(protocol="chat", prefix="openai-compatible/", timeout_s=timeout_s)
        return OpenAIModel(KEY, base_url=base_url, options=options, http_client=client)

    def body(self, said: Said) -> bytes:
        calls = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": args}}
            for call_id, name, args in said.calls
        ]
        message = {
            "role": "assistant",
            "content": said.text or None,
            **({"tool_calls": calls} if calls else {}),
        }
        choice = {"index": 0, "message": message, "finish_reason": CHAT_STOPS[said.stop]}
        return json.dumps(
            {
                "id": "c1",
                "object": "chat.completion",
                "model": "llama3.3",
                "choices": [choice],
                "usage": self._usage(said),
            }
        ).encode()

    def events(self, said: Said) -> Sequence[bytes]:
        out = [self._chunk({"role": "assistant", "content": ""})]
        out += [self._chunk({"content": piece}) for piece in pieces(said.text)]
        for index, (call_id, name, args) in enumerate(said.calls):
            begun = {"index": index, "id": call_id, "type": "function"}
            out.append(self._chunk({"tool_calls": [begun | {"function": {"name": name, "arguments": ""}}]}))
            for piece in pieces(args, 700):
                out.append(self._chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
        out.append(self._chunk({}, CHAT_STOPS[said.stop]))
        out.append(event({"object": "chat.completion.chunk", "choices": [], "usage": self._usage(said)}))
        return [*out, b"data: [DONE]\n\n"]

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return event(
            {"object": "chat.completion.chunk", "model": "llama3.3", "choices": [choice], "usage": None}
        )

    def _usage(self, said: Said) -> dict[str, Any]:
        usage = said.usage
        return {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.prompt_tokens + usage.output_tokens,
            "prompt_tokens_details": {
                "cached_tokens": usage.cache_read_tokens,
                "cache_write_tokens": usage.cache_write_tokens,
            },
        }
