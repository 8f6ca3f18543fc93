"""Which adapter stands behind each kind of toolset: what declares its tools, and what opens them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from remit.adapters.tools.knowledge.specs import declare_knowledge
from remit.adapters.tools.mail.specs import declare_mail
from remit.adapters.tools.sql.specs import declare_sql
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.tools import Declared
from remit.governance.remit import NamedToolset, Remit
from remit.governance.toolsets import (
    HttpToolset,
    KnowledgeToolset,
    MailToolset,
    McpToolset,
    PythonToolset,
    SqlToolset,
    SupportToolset,
    Toolset,
)
from remit.ports.effects import ToolHost
from remit.ports.services import Clock
from remit.runtime.clock import SystemClock


class OpenToolset(ToolHost, Protocol):
    """A host of tools that holds something, and lets go of it."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What people should know of it."""
        ...

    async def close(self) -> None:
        """Let go of all that is held."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a toolset is opened: `folder` of its governance file, `stores` that it may write to."""

    folder: Path
    stores: Path
    environment: Mapping[str, str]
    clock: Clock


def _indexing(name: str) -> Callable[[int, int], None]:
    """Shows on a terminal how far an index is."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\rremit: {name}: {done:,} of {total:,} files\033[K", end="", file=sys.stderr, flush=True)

    return show


@contextmanager
def extra(name: str) -> Iterator[None]:
    """While something of an extra is imported. Raises: RemitError `toolset.unavailable` where it is not installed."""
    try:
        yield
    except ImportError as error:
        message = f"a toolset needs {error.name}, which is not installed"
        raise RemitError("toolset.unavailable", message, remedy=f"install remit[{name}]") from error


def declare(name: str, section: Toolset, folder: Path) -> Declared:
    """The tools of a toolset of a governance file in `folder`. Opens nothing. Raises: RemitError."""
    match section:
        case HttpToolset():
            from remit.adapters.tools.http.specs import declare_http  # noqa: PLC0415 - reads OpenAPI documents

            return declare_http(name, section, folder)
        case KnowledgeToolset():
            return declare_knowledge(name, section)
        case MailToolset():
            return declare_mail(name, section)
        case McpToolset():
            from remit.adapters.tools.mcp.specs import declare_mcp  # noqa: PLC0415

            return declare_mcp(name, section, folder)
        case PythonToolset():
            # modules that a remit without Python tools has no use for
            from remit.adapters.tools.python.specs import declare_python  # noqa: PLC0415

            return declare_python(name, section, folder, SystemClock())
        case SqlToolset():
            return declare_sql(name, section)
        case SupportToolset():
            raise RemitError("config.invalid", "the support toolset is built in")


class Example(NamedTuple):
    """A call that the author of a Python tool shows, and what it returns where that is fixed (`has_result`)."""

    tool: str
    args: Json
    has_result: bool
    result: Json


def examples_of(remit: Remit, folder: Path) -> list[Example]:
    """The examples of the granted Python tools. Raises: RemitError."""
    from remit.adapters.tools.python.sources import digest_of, settings_of  # noqa: PLC0415 - as in `declare`
    from remit.adapters.tools.python.specs import declared_tools  # noqa: PLC0415

    found = []
    for named in remit.toolsets_used():
        if isinstance(named.section, PythonToolset):
            settings = settings_of(named.name, named.section, folder)
            tools = declared_tools(
                settings, digest_of(settings), folder / named.section.source, SystemClock()
            )
            found += [
                Example(tool.name, example.get("args", {}), "result" in example, example.get("result"))
                for tool in tools
                if tool.name in remit.allowed_tools
                for example in tool.examples
            ]
    return found


async def open_toolset(named: NamedToolset, place: Place) -> OpenToolset:
    """The tools of a toolset, ready to be called. Raises: RemitError `toolset.unavailable`."""
    match named.section:
        # what a kind needs is imported where there is one of it
        case HttpToolset() as section:
            from remit.adapters.tools.http.toolset import open_http  # noqa: PLC0415

            services = (place.environment, place.clock)
            return await asyncio.to_thread(open_http, section, named.declared, place.folder, services)
        case KnowledgeToolset() as section:
            from remit.adapters.tools.knowledge.pages import IndexOptions  # noqa: PLC0415
            from remit.adapters.tools.knowledge.toolset import open_knowledge  # noqa: PLC0415

            (spec,) = named.declared.specs
            places = (place.folder, place.stores / f"{named.name}.db")
            options = IndexOptions(progress=_indexing(named.name))
            return await asyncio.to_thread(open_knowledge, section, spec, places, place.clock, options)
        case MailToolset() as section:
            from remit.adapters.tools.mail.toolset import open_mail  # noqa: PLC0415

            specs, given = named.declared.specs, place.environment
            return await asyncio.to_thread(open_mail, section, specs, place.folder, given, place.clock)
        case McpToolset() as section:
            with extra("mcp"):
                from remit.adapters.tools.mcp.toolset import open_mcp  # noqa: PLC0415
            given = place.environment
            return await open_mcp(named.name, section, named.declared, place.folder, given, place.clock)
        case PythonToolset() as section:
            from remit.adapters.tools.python.sources import settings_of  # noqa: PLC0415
            from remit.adapters.tools.python.toolset import open_python  # noqa: PLC0415

            settings = settings_of(named.name, section, place.folder)
            return await open_python(settings, named.declared, place.clock)
        case SqlToolset() as section:
            with extra("sql"):
                from remit.adapters.tools.sql.toolset import open_sql  # noqa: PLC0415
            specs, given = named.declared.specs, place.environment
            return await asyncio.to_thread(open_sql, section, specs, place.folder, given, place.clock)
        case SupportToolset():
            raise RemitError("config.invalid", "the support toolset is built in")
