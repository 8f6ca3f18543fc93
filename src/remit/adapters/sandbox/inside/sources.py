"""The tools' modules, run from the very text that was read and digested, and from no file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import CodeType, ModuleType
from typing import Any


class Sources:
    """Modules by name, from texts by path such as `tools.py` or `crm/__init__.py`. Compiled once, run when imported.

    A finder and loader by its methods alone: importing their base classes would load twenty modules into each process.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        """Raises: SyntaxError."""
        self._texts = {_module(path): text for path, text in texts.items()}
        self._packages = {_module(path) for path in texts if path.endswith("__init__.py")}
        self._code: dict[str, CodeType] = {
            _module(path): compile(text, path, "exec", dont_inherit=True) for path, text in texts.items()
        }

    @property
    def public(self) -> list[str]:
        """The modules in which tools are looked for."""
        return [name for name in self._texts if not any(part.startswith("_") for part in name.split("."))]

    @property
    def asynchronous(self) -> bool:
        """Whether any of them may need an event loop."""
        return any("async def" in text for text in self._texts.values())

    def install(self) -> None:
        """Let them be imported, before any other of the name."""
        sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._code:
            return None
        loader: Any = self  # the stubs ask for a method that nothing calls any more
        return spec_from_loader(fullname, loader, is_package=fullname in self._packages)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code[module.__name__], module.__dict__)  # noqa: S102 - in the sandbox, which is there for this

    def get_source(self, fullname: str) -> str | None:
        return self._texts[fullname]


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
