"""Tools that try what a tool may not do, and one that does its work."""

import socket
from typing import Annotated, Literal

from remit.tools import Context, Length, tool


@tool(
    effect="pure",
    idempotency="idempotent",
    examples=[
        {"args": {"text": "two words"}, "result": {"words": 2, "letters": 8}},
        {"args": {"text": "Zwei Wörter", "language": "de"}},
    ],
)
def count_words(
    text: Annotated[str, Length(1, 10_000)], ctx: Context, language: Literal["en", "de"] = "en"
) -> dict[str, int]:
    """Count the words of a text, and their letters.

    Args:
        text: What is counted.
        language: Of the text.
    """
    ctx.progress(f"counting in {language}")
    words = text.split()
    return {"words": len(words), "letters": sum(map(len, words))}


@tool(effect="read", idempotency="idempotent")
def read_passwords() -> str:
    """Try to read the passwords of this machine."""
    with open("/etc/shadow") as file:
        return file.read()


@tool(effect="read", idempotency="idempotent")
def call_home(host: str = "169.254.169.254") -> str:
    """Try to open a socket.

    Args:
        host: Where to.
    """
    with socket.create_connection((host, 80), timeout=1) as channel:
        return channel.recv(100).decode()


@tool(effect="pure", idempotency="idempotent")
def eat_memory() -> int:
    """Try to have more memory than a tool may."""
    return sum(len(one) for one in [bytearray(10_000_000) for _ in range(1_000)])
