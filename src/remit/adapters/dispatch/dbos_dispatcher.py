"""The `Dispatcher` port on DBOS: SQLite for one worker process, PostgreSQL for many.

DBOS is the queue and never the record: a segment's arguments are a run's id and a number, its result is
nothing. A worker listens to one queue, for every queue that is polled costs, with a partition for each tenant. The
executor of DBOS is the worker, under a name that no process had before: so nothing is recovered by name,
and `take_over` gives back what the dead had.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions, Serializer
from dbos import error as dbos_error
from psycopg import Error as PostgresError
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from remit.core.errors import RemitError
from remit.ports.dispatch import Segment, SegmentHandler
from remit.ports.services import Clock

WORKFLOW = "remit.segment"
APPLICATION = "remit"
VERSION = "1"
"""Of a segment's arguments and not of the program: what was enqueued before a deployment is taken after it."""

STARTED, WAITING, ENDED = ["PENDING"], ["ENQUEUED", "DELAYED"], ["SUCCESS", "ERROR", "CANCELLED"]
PAGE = 1_000
NOTING_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DbosOptions:
    """`url`: `sqlite:///FILE`, or what psycopg takes for PostgreSQL (a URL or `host=... dbname=...`). `worker`: a name that no process had before.
    `queue`: those who can take the same segments share one.
    """

    url: str
    worker: str
    queue: str = "remit"
    poll_s: float = 0.3


class JsonText(Serializer):
    """What DBOS keeps is JSON and no pickled object: reading it can run nothing."""

    def serialize(self, data: Any) -> str:
        """JSON of `data`; what is none, such as an error, is told by its type."""
        return json.dumps(data, default=lambda value: type(value).__name__)

    def deserialize(self, serialized_data: str) -> Any:
        """The value again."""
        return json.loads(serialized_data)

    def name(self) -> str:
        """The serializer's name, as it stands in the database."""
        return "remit_json"


class DbosDispatcher:
    """Dispatches by DBOS. Belongs to the event loop it was opened in; one of a process may take segments."""

    def __init__(self, options: DbosOptions, client: DBOSClient, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._handler: SegmentHandler | None = None
        self._working: set[asyncio.Task[None]] = set()
        self._closing = False
        self._left = 0  # segments that were given to this worker and are left to others

    @classmethod
    async def open(cls, options: DbosOptions, clock: Clock) -> DbosDispatcher:
        """Connect, and bring DBOS's own tables up to date."""
        async with _told("the queue cannot be opened"):
            address = _address(options.url)
            await asyncio.to_thread(DBOS.migrate, address)
            client = DBOSClient(
                system_database_url=address,
                serializer=JsonText(),
                application_name=APPLICATION,
                retry_connection_errors=False,
                lazy=True,
            )
            return cls(options, client, clock)

    async def enqueue(self, segment: Segment, *, delay_s: float = 0.0) -> None:
        """Have `segment` handled by some worker, `delay_s` from now at the soonest."""
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": self._options.queue,
            "workflow_id": f"{segment.run_id}:{segment.number}",  # a second one with this id is the first
            "queue_partition_key": segment.tenant,
            "priority": 2 * segment.urgency + (2 if segment.number == 1 else 1),
            "app_version": VERSION,
        }
        if delay_s > 0:
            options["delay_seconds"] = delay_s
        fields = (segment.run_id, segment.number, segment.tenant, segment.agent, segment.urgency)
        async with _told("the segment cannot be enqueued"):
            await self._client.enqueue_async(options, *fields)

    async def start(self, handler: SegmentHandler, *, slots: int) -> None:
        """Take segments from now on, at most `slots` at a time, and have `handler` work them off."""
        self._handler = handler

        async def segment(run_id: str, number: int, tenant: str, agent: str, urgency: int) -> None:
            # the workflow runs in an event loop of DBOS, and the handler in ours
            given = Segment(run_id=run_id, number=number, tenant=tenant, agent=agent, urgency=urgency)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._handle(given), self._loop))

        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": _address(self._options.url),
            "application_version": VERSION,
            "executor_id": self._options.worker,
            "serializer": JsonText(),
            "log_level": "CRITICAL",  # what goes wrong with a run is told by the run
            "console_log_level": "CRITICAL",
            "enable_otlp": False,
            "use_listen_notify": False,  # nothing of ours waits for its notifications
            "scheduler_polling_interval_sec": 3600.0,
        }
        async with _told("the queue cannot be listened to"):
            DBOS(config=config)
            DBOS.workflow(name=WORKFLOW)(segment)
            DBOS.listen_queues([self._options.queue])
            await asyncio.to_thread(DBOS.launch)
            # not its asynchronous twin, which would make DBOS's threads those of our loop for good
            await asyncio.to_thread(
                DBOS.register_queue,
                self._options.queue,
                worker_concurrency=slots,
                partition_worker_concurrency=slots,  # any limit of a partition makes the queue a partitioned one
                polling_interval_sec=self._options.poll_s,
                on_conflict="always_update",
            )

    async def take_over(self, live: Collection[str]) -> int:
        """Give back to the queue what workers had that are not among `live`; how many segments these were."""
        async with _told("the queue cannot be looked through"):
            started = await self._client.list_workflows_async(
                status=STARTED, queue_name=self._options.queue, load_input=False, load_output=False
            )
            lost = [one.workflow_id for one in started if one.executor_id not in live]
            if lost:
                await self._client.resume_workflows_async(lost, queue_name=self._options.queue)
            return len(lost)

    async def waiting(self) -> Mapping[str, int]:
        """How many segments wait, by tenant."""
        async with _told("the queue cannot be looked through"):
            queued = await self._client.list_workflows_async(
                status=WAITING, queue_name=self._options.queue, load_input=False, load_output=False
            )
            return Counter(one.queue_partition_key or "" for one in queued)

    async def forget(self, older_than_s: float) -> int:
        """Remove the traces of segments that ended so long ago; how many these were."""
        now_s = self._clock.now_us() / 1_000_000
        before = datetime.fromtimestamp(now_s - older_than_s, UTC).isoformat()
        forgotten = 0
        async with _told("the queue cannot be cleaned"):
            while True:
                ended = await self._client.list_workflows_async(
                    status=ENDED,
                    queue_name=self._options.queue,
                    completed_before=before,
                    limit=PAGE,
                    load_input=False,
                    load_output=False,
                )
                if not ended:
                    return forgotten
                await self._client.delete_workflows_async([one.workflow_id for one in ended])
                forgotten += len(ended)

    async def close(self, grace_s: float) -> None:
        """Take nothing any more; after `grace_s` cancel what is still worked on, which is left to others.

        May be called twice.
        """
        if self._closing:
            return
        self._closing = True
        if self._working:
            _, late = await asyncio.wait(self._working, timeout=grace_s)
            self._left += len(late)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        if self._handler is not None:
            await self._noted()
            await asyncio.to_thread(DBOS.destroy, destroy_registry=True)
        await asyncio.to_thread(self._client.destroy)

    async def _noted(self) -> None:
        """Wait until DBOS has noted what was worked off: it does so a moment after the handler."""
        deadline_s = self._loop.time() + NOTING_S
        while self._loop.time() < deadline_s:
            async with _told("the queue cannot be looked through"):
                started = await self._client.list_workflows_async(
                    status=STARTED, executor_id=self._options.worker, load_input=False, load_output=False
                )
            if len(started) <= self._left:
                return
            await asyncio.sleep(self._options.poll_s / 4)

    async def _handle(self, segment: Segment) -> None:
        handler, task = self._handler, asyncio.current_task()
        if handler is None or task is None or self._closing:
            self._left += 1
            raise asyncio.CancelledError  # not begun: whoever takes over finds it as it was
        self._working.add(task)
        try:
            await handler(segment)
        finally:
            self._working.discard(task)


def _address(url: str) -> str:
    """The database's address as SQLAlchemy takes it, with every parameter that psycopg was given."""
    if url.startswith("sqlite:"):
        return url
    given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    address = URL.create(
        "postgresql", given.pop("user", None), given.pop("password", None), database=given.pop("dbname", None)
    )
    return address.set(query=given).render_as_string(hide_password=False)


@asynccontextmanager
async def _told(what: str) -> AsyncIterator[None]:
    """The engine's errors as ours. They may hold the database's address, so only their type is told."""
    try:
        yield
    except (dbos_error.DBOSException, SQLAlchemyError, PostgresError, OSError) as error:
        raise RemitError("dispatch.unavailable", what, cause=type(error).__name__) from None
