"""A `Memory` of this process alone, for tests: plain lists, which say in the fewest words what the port promises."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from remit.core.errors import RemitError
from remit.core.memory import Kept, ListInfo, Scope
from remit.ports.memory import Keep


@dataclass(slots=True)
class _List:
    kept: list[Kept] = field(default_factory=list)
    last: int = 0
    erased_at_us: int = 0


class TransientMemory:
    """A `Memory` that ends with its process."""

    def __init__(self) -> None:
        self._lists: defaultdict[tuple[Scope, str], _List] = defaultdict(_List)

    async def append(self, keep: Keep) -> None:
        found = self._lists[keep.scope, keep.name]
        keys = {one.entry.key for one in found.kept}
        fresh = [entry for entry in keep.entries if entry.key not in keys]
        if not fresh:
            return
        if found.erased_at_us >= keep.since_us:
            raise RemitError("memory.changed", "something of it was erased while the run was under way")
        added = sum(entry.size for entry in fresh)
        size = sum(one.entry.size for one in found.kept) + added
        of_scope = [
            kept for (scope, _), one in self._lists.items() if scope == keep.scope for kept in one.kept
        ]
        scope_size = sum(one.entry.size for one in of_scope) + added
        keep.limits.check(len(found.kept) + len(fresh), size, scope_size)
        for entry in fresh:
            covered = [one.entry.expires_at_us for one in found.kept if one.seq <= entry.covers]
            expires_at_us = min([entry.expires_at_us, *covered])
            found.last += 1
            found.kept.append(Kept(found.last, replace(entry, expires_at_us=expires_at_us)))

    async def read(self, scope: Scope, name: str, at_us: int, upto: int | None = None) -> Sequence[Kept]:
        kept = [one for one in await self.entries(scope, name, at_us) if upto is None or one.seq <= upto]
        summaries = sorted((one.entry.covers, one.seq, one) for one in kept if one.entry.covers)
        covers = summaries[-1][0] if summaries else 0
        after = [one for one in kept if one.seq > covers and not one.entry.covers]
        return [*(one for *_, one in summaries[-1:]), *after]

    async def entries(self, scope: Scope, name: str, at_us: int) -> Sequence[Kept]:
        found = self._lists.get((scope, name), _List())
        return [one for one in found.kept if one.entry.expires_at_us > at_us]

    async def lists(self, at_us: int) -> Sequence[ListInfo]:
        infos = []
        for scope, name in sorted(self._lists):
            entries = [one.entry for one in await self.entries(scope, name, at_us)]
            if entries:
                infos.append(
                    ListInfo(
                        scope=scope,
                        name=name,
                        entries=len(entries),
                        size=sum(entry.size for entry in entries),
                        first_at_us=min(entry.at_us for entry in entries),
                        last_at_us=max(entry.at_us for entry in entries),
                        expires_at_us=max(entry.expires_at_us for entry in entries),
                    )
                )
        return infos

    async def erase(self, scope: Scope, name: str, seqs: Collection[int], at_us: int) -> int:
        found = self._lists[scope, name]
        first = min((one.seq for one in found.kept if one.seq in seqs), default=None)
        if first is None:
            return 0
        left = [one for one in found.kept if one.seq not in seqs and one.entry.covers < first]
        count = len(found.kept) - len(left)
        found.kept, found.erased_at_us = left, max(found.erased_at_us, at_us)
        return count

    async def purge(self, at_us: int) -> int:
        count = 0
        for found in self._lists.values():
            left = [one for one in found.kept if one.entry.expires_at_us > at_us]
            count += len(found.kept) - len(left)
            found.kept = left
        return count

    async def close(self) -> None:
        self._lists.clear()
