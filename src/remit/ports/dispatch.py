"""The dispatcher: says which worker takes which stretch of a run, and when. It is a queue and no record.

Each segment that was enqueued is handled at least once; what may happen only once is the journal's part.
Segments are identified by the run and a number, so that enqueueing one twice is enqueueing it once.
Raises (all methods): RemitError `dispatch.unavailable`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of a run, from its start or a pause to its end or the next pause.

    `number` counts the run's segments from 1. No tenant can starve another; of one tenant the segment of
    the lower `urgency` is taken first (0 to 1,000); of these one that is not its run's first; then the older.
    """

    run_id: str
    number: int
    tenant: str
    agent: str
    urgency: int = 500


SegmentHandler: TypeAlias = Callable[[Segment], Awaitable[None]]
"""Works a segment off. One that raises has ended all the same: the journal knows what became of its run."""


class Dispatcher(Protocol):
    """One process's part of the queue that all workers share."""

    async def enqueue(self, segment: Segment, *, delay_s: float = 0.0) -> None:
        """Have `segment` handled by some worker, `delay_s` from now at the soonest."""
        ...

    async def start(self, handler: SegmentHandler, *, slots: int) -> None:
        """Take segments from now on, at most `slots` at a time, and have `handler` work them off."""
        ...

    async def take_over(self, live: Collection[str]) -> int:
        """Give back to the queue what workers had that are not among `live`; how many segments these were.

        To be called every now and then, for it looks at the state and waits for no event.
        """
        ...

    async def waiting(self) -> Mapping[str, int]:
        """How many segments wait, by tenant."""
        ...

    async def forget(self, older_than_s: float) -> int:
        """Remove the traces of segments that ended so long ago; how many these were."""
        ...

    async def close(self, grace_s: float) -> None:
        """Take nothing any more; after `grace_s` cancel what is still worked on, which is left to others."""
        ...
