"""A host of tools whose work blocks: it is done in threads of the host's own, each call by its deadline.

Nothing blocks the event loop, a cancelled call stops its work, and a call that has waited too long for a thread is
not even begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from remit.adapters.tools.deadline import Deadline
from remit.core.canonical import Json
from remit.core.tools import ToolSpec
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.services import Clock

THREADS = 8
RESERVE = 0.95  # our own deadline comes a little before the caller's, so that the reason gets through

Work: TypeAlias = Callable[[Json, CallContext, Deadline], Json]


class ThreadedTools:
    """A `ToolHost` of tools that block. To be closed. `notices`: what people should know of it."""

    def __init__(
        self, name: str, work: Mapping[str, Work], specs: tuple[ToolSpec, ...], clock: Clock
    ) -> None:
        self._name = name
        self._work = work
        self._specs = specs
        self._clock = clock
        self._executor = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix=f"remit-{name}")
        self._running: set[Deadline] = set()
        self._closed = False
        self.notices: tuple[str, ...] = ()

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The declarations."""
        return self._specs

    async def call(self, tool: str, args: Json, context: CallContext) -> Json:
        """What `tool` returns for `args`, which fit its schema.

        Raises: EffectFailed where nothing happened; anything else where nobody knows.
        """
        work = self._work.get(tool)
        if work is None:
            raise EffectFailed("tool.unknown", f"the {self._name} toolset has no tool {tool}")
        if self._closed:
            raise EffectFailed("tool.failed", f"the {self._name} toolset is closed")
        deadline = Deadline(self._clock, context.constraints.timeout_s * RESERVE)
        self._running.add(deadline)
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._executor, _in_time(work), args, context, deadline
            )
        except asyncio.CancelledError:
            deadline.cancel()
            raise
        finally:
            self._running.discard(deadline)

    async def close(self) -> None:
        """Interrupt what is running, and wait for the threads."""
        if self._closed:
            return
        self._closed = True
        for deadline in tuple(self._running):
            deadline.cancel()
        await asyncio.to_thread(self._executor.shutdown)


def _in_time(work: Work) -> Work:
    """`work`, not even begun where its time has passed while it waited for a thread."""

    def begin(args: Json, context: CallContext, deadline: Deadline) -> Json:
        deadline.check()
        return work(args, context, deadline)

    return begin
