"""Makes an environment of its own from a hashed lock, once; says why where it cannot be made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKING_S_MAX = 300


class PeerUnavailable(Exception):
    """The environment cannot be made; the message says why."""


def made_python(name: str) -> Path | None:
    """The Python of the environment of `requirements/NAME.lock`; None where it is not made or older than its lock."""
    lock, folder = _lock(name), _folder(name)
    stamp = folder / ".complete"
    is_made = stamp.exists() and stamp.stat().st_mtime >= lock.stat().st_mtime
    return folder / "bin" / "python" if is_made else None


def python_of(name: str) -> Path:
    """The Python of the environment of `requirements/NAME.lock`, made where it is missing or its lock is newer.

    Raises: PeerUnavailable.
    """
    python = made_python(name)
    if python is not None:
        return python
    lock, folder = _lock(name), _folder(name)
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise PeerUnavailable("uv is not there to make its environment (make setup)")
    print(f"benchmarks: making the environment {name} ...", file=sys.stderr, flush=True)
    _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    _run(
        [
            uv,
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--compile-bytecode",
            "--require-hashes",
            "-r",
            str(lock),
        ],
        folder,
    )
    (folder / ".complete").touch()
    return folder / "bin" / "python"


def _lock(name: str) -> Path:
    return ROOT / "requirements" / f"{name}.lock"


def _folder(name: str) -> Path:
    return ROOT / "benchmarks" / ".venvs" / name


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
