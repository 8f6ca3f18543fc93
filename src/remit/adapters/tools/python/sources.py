"""Reads the sources of tools: the very texts that are digested are those that run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from remit.adapters.sandbox.inside.limits import Limits
from remit.adapters.sandbox.settings import SandboxSettings
from remit.core.errors import RemitError
from remit.governance.toolsets.python import PythonToolset

FILES_MAX = 500
BYTES_MAX = 5_000_000


def settings_of(name: str, section: PythonToolset, folder: Path) -> SandboxSettings:
    """The sandbox of a toolset in a governance file in `folder`. Raises: RemitError `config.missing`, `config.syntax`."""
    return SandboxSettings(
        name=name,
        sources=read_sources(folder / section.source),
        venv=folder / section.venv if section.venv is not None else None,
        readable=tuple(_there(folder / path) for path in section.reads),
        limits=Limits(memory_mb=section.memory_mb, cpu_s=section.cpu_s, work_mb=section.work_mb),
        isolation=section.isolation,
        warm=min(section.warm, section.processes),
        processes_max=section.processes,
    )


def read_sources(source: Path) -> Mapping[str, str]:
    """The texts of a file, or of all modules below a folder, by path. Raises: as `settings_of`."""
    if source.is_dir():
        paths = sorted(path for path in source.rglob("*.py") if _is_module(path.relative_to(source)))
        root = source
    else:
        paths, root = [_there(source)], source.parent
    if not 0 < len(paths) <= FILES_MAX:
        message = f"{source} has {len(paths)} modules"
        raise RemitError("config.missing", message, remedy=f"put 1 to {FILES_MAX} of them there")
    texts: dict[str, str] = {}
    size = 0
    for path in paths:
        size += path.stat().st_size
        if size > BYTES_MAX:
            raise RemitError("config.too_large", f"{source} holds more than {BYTES_MAX:,} bytes of modules")
        try:
            texts[path.relative_to(root).as_posix()] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RemitError("config.missing", f"{path} cannot be read", cause=str(error)) from error
    return texts


def digest_of(settings: SandboxSettings) -> str:
    """Covers the sources, and what the environment's packages say of their own files."""
    hashed = hashlib.sha256()
    for path, text in sorted(settings.sources.items()):
        for part in (path.encode(), text.encode()):
            hashed.update(len(part).to_bytes(8, "big") + part)
    for record in _records(settings.venv):
        hashed.update(hashlib.sha256(record.read_bytes()).digest())
    return hashed.hexdigest()


def _records(venv: Path | None) -> Iterator[Path]:
    if venv is not None:
        yield from sorted(venv.glob("lib/python3*/site-packages/*.dist-info/RECORD"))


def _is_module(path: Path) -> bool:
    return not any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _there(path: Path) -> Path:
    if not path.exists():
        raise RemitError("config.missing", f"there is nothing at {path}")
    return path
