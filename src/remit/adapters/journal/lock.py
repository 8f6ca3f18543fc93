"""One worker process for one home: SQLite's caps are exact for one process, and a lock file keeps it so.

The kernel frees the lock when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from remit.core.errors import RemitError


class WorkerLock:
    """Holds the right to be the home's worker. Use as a context manager.

    Raises: RemitError `journal.locked` where another process holds it, `journal.unavailable`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def __enter__(self) -> WorkerLock:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"{self._path} cannot be opened"
            raise RemitError("journal.unavailable", message, cause=str(error)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise RemitError(
                "journal.locked",
                f"another worker already uses {self._path.parent}",
                cause=f"process {holder} holds {self._path}",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._file = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
