"""Where tools come from: the section `toolsets` of the governance file, one module for each kind.

A section says what people decide. The adapter of its kind makes the declarations of the tools of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Discriminator, StringConstraints
from pydantic_core import PydanticCustomError

from remit.governance.toolsets.http import HttpToolset
from remit.governance.toolsets.knowledge import KnowledgeToolset
from remit.governance.toolsets.mail import MailToolset
from remit.governance.toolsets.mcp import McpToolset
from remit.governance.toolsets.override import ToolOverride
from remit.governance.toolsets.python import PythonToolset
from remit.governance.toolsets.sql import SqlToolset
from remit.governance.toolsets.support import SupportToolset

__all__ = [
    "SUPPORT",
    "HttpToolset",
    "KnowledgeToolset",
    "MailToolset",
    "McpToolset",
    "PythonToolset",
    "SqlToolset",
    "SupportToolset",
    "ToolOverride",
    "Toolset",
    "Toolsets",
]

SUPPORT = "support"

ToolsetName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Toolset: TypeAlias = Annotated[
    HttpToolset | KnowledgeToolset | MailToolset | McpToolset | PythonToolset | SqlToolset | SupportToolset,
    Discriminator("kind"),
]


def _with_kind(value: object) -> object:
    """The built-in toolset is known by its name, and needs no kind."""
    if isinstance(value, Mapping) and isinstance(value.get(SUPPORT), Mapping):
        return {**value, SUPPORT: {"kind": SUPPORT, **value[SUPPORT]}}
    return value


def _by_name(toolsets: dict[str, Toolset]) -> dict[str, Toolset]:
    for name, toolset in toolsets.items():
        if (name == SUPPORT) != (toolset.kind == SUPPORT):
            raise PydanticCustomError(
                "toolset_kind", "must name the toolset of the kind support, and no other, support"
            )
    return toolsets


Toolsets: TypeAlias = Annotated[
    dict[ToolsetName, Toolset], BeforeValidator(_with_kind), AfterValidator(_by_name)
]
