"""The tools' modules, run from the very text that was read and digested, and from no file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import CodeType, ModuleType


class Sources(MetaPathFinder, InspectLoader):
    """Modules by name, from texts by path such as `tools.py` or `crm/__init__.py`. Compiled once, run when imported."""

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
        return spec_from_loader(fullname, self, is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        return fullname in self._packages

    def get_code(self, fullname: str) -> CodeType | None:
        return self._code[fullname]

    def get_source(self, fullname: str) -> str | None:
        return self._texts[fullname]


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
