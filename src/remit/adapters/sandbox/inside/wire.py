"""Messages on a stream: four bytes of length, then JSON. What is too long is not read."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

HEAD = struct.Struct("!I")
CONTROL = struct.Struct("!cI")
"""What the zygote is told: `s` spawn (with two descriptors) or `k` kill, and the number of the process."""

SPAWN = b"s"
KILL = b"k"


class Closed(Exception):
    """The other side has gone."""


_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


def encode(message: Any) -> bytes:
    """The bytes of a message. Raises: ValueError, TypeError where it is no JSON."""
    body = _encode(message).encode()
    return HEAD.pack(len(body)) + body


def send(channel: socket.socket, message: Any) -> None:
    """Send a message. Raises: OSError, ValueError, TypeError."""
    channel.sendall(encode(message))


def receive(channel: socket.socket) -> Any:
    """The next message. Raises: Closed, OSError."""
    (length,) = HEAD.unpack(_exactly(channel, HEAD.size))
    return json.loads(_exactly(channel, length))


def _exactly(channel: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        piece = channel.recv(size - len(received))
        if not piece:
            raise Closed
        received += piece
    return bytes(received)
