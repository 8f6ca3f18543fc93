"""Searches a folder of pages, whose index lies in the home folder."""

from __future__ import annotations

from pathlib import Path

from remit.adapters.tools.deadline import Deadline
from remit.adapters.tools.knowledge.pages import KnowledgeBase
from remit.adapters.tools.threads import ThreadedTools
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.tools import ToolSpec
from remit.ports.effects import CallContext
from remit.ports.services import Clock


def open_knowledge(spec: ToolSpec, folder: Path, store: Path, clock: Clock) -> ThreadedTools:
    """The tool over the pages of `folder`, whose index `store` is brought up to date. Blocks.

    Raises: RemitError `toolset.unavailable`.
    """
    if not folder.is_dir():
        raise RemitError("toolset.unavailable", f"{folder} is not a folder", remedy="put the pages there")
    pages = KnowledgeBase(folder, store, clock)

    def search(args: Json, context: CallContext, deadline: Deadline) -> Json:
        return pages.search(args["query"], context.constraints, deadline)

    return ThreadedTools(spec.name, {spec.name: search}, (spec,), clock)
