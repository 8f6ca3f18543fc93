"""Makes a peer's environment from its hashed lock, once; says why where it cannot be made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKING_S_MAX = 300


class PeerUnavailable(Exception):
    """The peer's environment cannot be made; the message says why."""


def python_of(peer: str) -> Path:
    """The Python of `peer`'s environment, which is made where it is missing or its lock is newer.

    Raises: PeerUnavailable.
    """
    lock = ROOT / "requirements" / f"peers-{peer}.lock"
    folder = ROOT / "benchmarks" / ".venvs" / peer
    python = folder / "bin" / "python"
    stamp = folder / ".complete"
    if stamp.exists() and stamp.stat().st_mtime >= lock.stat().st_mtime:
        return python
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise PeerUnavailable("uv is not there to make its environment (make setup)")
    print(f"benchmarks: making the environment of {peer} ...", file=sys.stderr, flush=True)
    _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    _run([uv, "pip", "install", "--quiet", "--compile-bytecode", "--require-hashes", "-r", str(lock)], folder)
    stamp.touch()
    return python


def _run(command: list[str], environment: Path | None = None) -> None:
    variables = dict(os.environ)
    if environment is not None:
        variables["VIRTUAL_ENV"] = str(environment)
    try:
        done = subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=MAKING_S_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerUnavailable(f"its environment could not be made: {error}") from error
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise PeerUnavailable(f"its environment could not be made: {last[:200]}")
