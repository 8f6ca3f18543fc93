"""Puts a worker together: an agent, and the queue from which it takes runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from remit.core.errors import RemitError
from remit.ports.dispatch import Dispatcher
from remit.runtime.clock import SystemClock
from remit.runtime.starter import Starter
from remit.runtime.worker import Notice, Told, Worker, WorkerParts
from remit.wiring.agent import AgentOptions, OpenAgent, open_agent
from remit.wiring.deployment import Deployment

QUEUE_FILE = "queue.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWorker:
    """An agent, and its worker."""

    agent: OpenAgent
    worker: Worker


@asynccontextmanager
async def open_worker(
    deployment: Deployment, options: AgentOptions, tenant: str, told: Told, notice: Notice
) -> AsyncIterator[OpenWorker]:
    """Everything a worker needs. `tenant`: in whose name it starts what is due. Raises as `open_agent` does, and RemitError `dispatch.unavailable`."""
    async with open_agent(deployment, options) as agent:
        dispatcher = await _open_dispatcher(deployment, agent)
        try:
            parts = WorkerParts(
                name=agent.worker,
                runner=agent.runner,
                remit=agent.remit,
                journal=agent.journal,
                dispatcher=dispatcher,
                clock=SystemClock(),
                told=told,
                notice=notice,
                starter=Starter(agent.journal, agent.remit, SystemClock(), tenant)
                if agent.remit.schedules
                else None,
            )
            yield OpenWorker(agent=agent, worker=Worker(parts))
        finally:
            await dispatcher.close(0.0)


async def _open_dispatcher(deployment: Deployment, agent: OpenAgent) -> Dispatcher:
    try:
        # an extra, and most of a second to import
        from remit.adapters.dispatch.dbos_dispatcher import DbosDispatcher, DbosOptions  # noqa: PLC0415
    except ImportError as error:
        message = "there is no queue for workers"
        remedy = "install remit[workers]"
        raise RemitError("usage.invalid", message, cause=str(error), remedy=remedy) from error
    url = deployment.postgres or f"sqlite:///{(deployment.home / QUEUE_FILE).absolute()}"
    # a run goes on under the remit it began under, so each remit has a queue of its own
    queue = f"remit-{agent.remit.digest[:16]}"
    return await DbosDispatcher.open(DbosOptions(url=url, worker=agent.worker, queue=queue), SystemClock())
