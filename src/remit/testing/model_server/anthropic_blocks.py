"""Anthropic's content blocks: checked as the real API checks them, and what they are to the prompt's count."""

from __future__ import annotations

from typing import Any

from remit.testing.model_server import signatures
from remit.testing.model_server.conversation import BadRequest
from remit.testing.model_server.prompt import IMAGE_TOKENS_MAX, PAGE_TOKENS, document_tokens, image_tokens

_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})


def check_block(block: Any, role: str, place: str) -> None:
    """Whether a message of `role` may hold `block`. Raises: BadRequest."""
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "text":
        check_text(block, place)
    elif kind == "tool_use" and role == "assistant":
        if not isinstance(block.get("id"), str) or not isinstance(block.get("name"), str):
            raise BadRequest(f"{place}.tool_use: id and name are required")
        if not isinstance(block.get("input"), dict):
            raise BadRequest(f"{place}.tool_use.input: Input should be a valid dictionary")
    elif kind == "tool_result" and role == "user":
        if not isinstance(block.get("tool_use_id"), str):
            raise BadRequest(f"{place}.tool_result.tool_use_id: Field required")
        result_text(block, place)
    elif kind in ("image", "document") and role == "user":
        _check_source(block, f"{place}.{kind}")
    elif kind == "thinking" and role == "assistant":
        _check_thinking(block, place)
    elif not (kind == "redacted_thinking" and role == "assistant"):
        raise BadRequest(f"{place}: Input tag {kind!r} is not expected in a message of the {role}")


def check_text(block: Any, place: str) -> None:
    """Whether `block` is a text that is not empty. Raises: BadRequest."""
    text = block.get("text") if isinstance(block, dict) else None
    if not isinstance(text, str):
        raise BadRequest(f"{place}.text.text: Field required")
    if not text:
        raise BadRequest("messages: text content blocks must be non-empty")


def result_text(block: dict[str, Any], place: str) -> str:
    """The text of a tool result. Raises: BadRequest."""
    content = block.get("content", "")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequest(f"{place}.tool_result.content: Input should be a valid string or list")
    texts: list[str] = []
    for index, item in enumerate(content):
        kind = item.get("type") if isinstance(item, dict) else None
        if kind in ("image", "document"):
            _check_source(item, f"{place}.tool_result.content.{index}.{kind}")
        else:
            check_text(item, f"{place}.tool_result.content.{index}")
            texts.append(item["text"])
    return "".join(texts)


def _check_thinking(block: dict[str, Any], place: str) -> None:
    thought, signature = block.get("thinking"), block.get("signature")
    if not isinstance(thought, str):
        raise BadRequest(f"{place}.thinking.thinking: Field required")
    if not isinstance(signature, str):
        raise BadRequest(f"{place}.thinking.signature: Field required")
    if signature != signatures.sign(thought):
        raise BadRequest(f"{place}: Invalid `signature` in `thinking` block")


def _check_source(block: dict[str, Any], place: str) -> None:
    source = block.get("source")
    if not isinstance(source, dict):
        raise BadRequest(f"{place}.source: Field required")
    kind, data = source.get("type"), source.get("data")
    if kind == "url":
        if not isinstance(source.get("url"), str):
            raise BadRequest(f"{place}.source.url: Field required")
        return
    if kind not in ("base64", "text") or (kind == "text" and block["type"] == "image"):
        raise BadRequest(f"{place}.source: Input tag {kind!r} is not expected")
    if not isinstance(data, str) or not data:
        raise BadRequest(f"{place}.source.{kind}.data: Field required")
    allowed = (
        {"text/plain"} if kind == "text" else _IMAGES if block["type"] == "image" else {"application/pdf"}
    )
    media_type = source.get("media_type")
    if not isinstance(media_type, str) or media_type not in allowed:
        expected = " or ".join(f"'{name}'" for name in sorted(allowed))
        raise BadRequest(f"{place}.source.{kind}.media_type: Input should be {expected}")
    if kind == "base64":
        source_tokens(block)


def source_tokens(block: dict[str, Any]) -> tuple[int, str]:
    """The tokens of an image or document, and the base64 that they stand for. Raises: BadRequest."""
    source, is_image = block["source"], block["type"] == "image"
    if source["type"] == "url":
        return (IMAGE_TOKENS_MAX if is_image else PAGE_TOKENS), ""
    if source["type"] != "base64":
        return 0, ""
    place = f"messages: {block['type']}.source.base64"
    count = image_tokens if is_image else document_tokens
    return count(source["data"], place), source["data"]


def piece_of(block: dict[str, Any]) -> tuple[dict[str, Any], int, str]:
    """`block` as a piece of the prompt: without its cache marker, its tokens, and the base64 they stand for."""
    plain = {key: value for key, value in block.items() if key != "cache_control"}
    if block.get("type") in ("image", "document"):
        return plain, *source_tokens(block)
    inner = block.get("content")
    if block.get("type") != "tool_result" or not isinstance(inner, list):
        return plain, 0, ""
    counts = [source_tokens(item) for item in inner if item.get("type") in ("image", "document")]
    return plain, sum(tokens for tokens, _ in counts), "".join(data for _, data in counts)
