"""Searches folders of pages, whose index lies in the home folder."""

from __future__ import annotations

from pathlib import Path, PurePath

from remit.adapters.tools.deadline import Deadline
from remit.adapters.tools.knowledge.pages import IndexOptions, KnowledgeBase, Source
from remit.adapters.tools.threads import ThreadedTools
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.tools import ToolSpec
from remit.governance.toolsets import KnowledgeToolset
from remit.ports.effects import CallContext
from remit.ports.services import Clock

SHOWN_MAX = 5


class KnowledgeTools(ThreadedTools):
    """The tool over the pages of some folders. `notices`: what people should know of these."""

    def __init__(self, spec: ToolSpec, pages: KnowledgeBase, clock: Clock) -> None:
        def search(args: Json, context: CallContext, deadline: Deadline) -> Json:
            return pages.search(args["query"], context.constraints, deadline)

        super().__init__(spec.name, {spec.name: search}, (spec,), clock)
        unread = sorted(f"{path} ({why})" for path, why in pages.unreadable.items())
        more = f" and {len(unread) - SHOWN_MAX} more" if len(unread) > SHOWN_MAX else ""
        self.notices = (f"{spec.name} does not find {', '.join(unread[:SHOWN_MAX])}{more}",) if unread else ()


def open_knowledge(
    section: KnowledgeToolset, spec: ToolSpec, places: tuple[Path, Path], clock: Clock, options: IndexOptions
) -> KnowledgeTools:
    """The tool of a section. `places`: the folder of its file, and the index, which is brought up to date. Blocks.

    Raises: RemitError `toolset.unavailable`.
    """
    folder, store = places
    several = len(section.folders) > 1
    sources = [
        Source(folder=folder / name, visibility=visibility, name=PurePath(name).name if several else "")
        for name, visibility in section.folders.items()
    ]
    for source in sources:
        if not source.folder.is_dir():
            raise RemitError(
                "toolset.unavailable", f"{source.folder} is not a folder", remedy="put the pages there"
            )
    if len({source.name for source in sources}) < len(sources):
        raise RemitError(
            "toolset.unavailable", "two folders have one name", remedy="give each a name of its own"
        )
    return KnowledgeTools(spec, KnowledgeBase(sources, store, clock, options), clock)
