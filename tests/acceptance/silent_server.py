"""A server that takes connections and never says a word: a mail server that hangs."""

from __future__ import annotations

import contextlib
import socket
import threading


class SilentServer:
    """Listens on loopback, on a free port, until it is closed."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._taken: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self.url = f"smtp://127.0.0.1:{self._socket.getsockname()[1]}?starttls=no"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._taken.append(self._socket.accept()[0])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for taken in self._taken:
            taken.close()
