"""The port of what an agent remembers. For agents it is named by the gate alone; for people, by the command line.

What stands in one scope is never seen from another. An entry whose time is over is not read any more, and `purge`
removes it.
Raises (all methods): RemitError `memory.unavailable`: it may be tried again, for a key is kept once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from remit.core.memory import Entry, Kept, Limits, ListInfo, Scope


class Keep(NamedTuple):
    """What is to be kept at the end of a list, all or nothing.

    An entry whose key the list has already is not kept again. `since_us`: when its writer began to read; whoever
    began before something of the list was erased may know it still, and keeps nothing.
    """

    scope: Scope
    name: str
    entries: tuple[Entry, ...]
    limits: Limits
    since_us: int


class Memory(Protocol):
    """Lists of texts that only grow, but for what expires and what people erase."""

    async def append(self, keep: Keep) -> None:
        """Keep it. A summary expires no later than the first entry that it stands for.

        Raises: RemitError `memory.full`, `memory.changed`.
        """
        ...

    async def read(self, scope: Scope, name: str, at_us: int, upto: int | None = None) -> Sequence[Kept]:
        """The summary that stands for most, and the entries after those; empty for an unknown list.

        `upto`: as it was when that was the number of the last entry.
        """
        ...

    async def entries(self, scope: Scope, name: str, at_us: int) -> Sequence[Kept]:
        """Everything that the list has."""
        ...

    async def lists(self, at_us: int) -> Sequence[ListInfo]:
        """All lists that hold something, of all scopes, ordered by scope and name."""
        ...

    async def erase(self, scope: Scope, name: str, seqs: Collection[int], at_us: int) -> int:
        """Remove these entries, with every summary that stands for one of them; how many entries there were."""
        ...

    async def purge(self, at_us: int) -> int:
        """Remove what expired by `at_us`; how many entries."""
        ...

    async def close(self) -> None:
        """Let go of the store."""
        ...
