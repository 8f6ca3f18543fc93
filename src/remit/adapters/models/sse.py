"""Server-sent events from the bytes of a response, however they are cut into chunks.

Only `data` is read: the providers repeat an event's name in it. An event that the stream breaks off in is
no event. Source: the HTML standard, 9.2.6, Interpreting an event stream.
"""

from __future__ import annotations

from collections.abc import Iterator

from remit.adapters.models.replies import malformed

EVENT_BYTES_MAX = 32 * 2**20


class SseDecoder:
    """Takes chunks, gives the data of each whole event."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._is_first = True

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of the events that end in `chunk`. Raises: EffectFailed where one is beyond all bounds."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]  # the second half of a line's end
        if chunk:
            self._after_cr = chunk.endswith(b"\r")
        for piece in chunk.splitlines(keepends=True):
            self._size += len(piece)
            if self._size > EVENT_BYTES_MAX:
                raise malformed("an event of the stream is too large")
            self._line += piece
            if not piece.endswith((b"\n", b"\r")):
                break  # the last one: the rest of its line is still to come
            line = bytes(self._line).rstrip(b"\r\n")
            self._line.clear()
            if line:
                self._take(line)
            elif self._data:
                data, self._data, self._size = b"\n".join(self._data), [], 0
                yield data
            else:
                self._size = 0

    def _take(self, line: bytes) -> None:
        if self._is_first:
            line, self._is_first = line.removeprefix(b"\xef\xbb\xbf"), False
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
