"""Puts a worker together: an agent, and the queue from which it takes runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from remit.adapters.hooks.server import HookOptions, HookServer, hook_server
from remit.core.errors import RemitError
from remit.ports.dispatch import Dispatcher
from remit.runtime.hooks import Hooks, hook_secrets
from remit.runtime.starter import Starter
from remit.runtime.worker import Notice, Told, Worker, WorkerParts
from remit.wiring.agent import AgentOptions, OpenAgent, open_agent
from remit.wiring.deployment import Deployment

QUEUE_FILE = "queue.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class StarterOptions:
    """In whose name runs are started that nobody types, and the address, HOST:PORT, where webhooks may come."""

    tenant: str
    listen: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWorker:
    """An agent, and its worker. `hooks_url`: where webhooks are taken. `stop`: begin no run, and take no message."""

    agent: OpenAgent
    worker: Worker
    hooks_url: str | None
    stop: Callable[[], None]


@asynccontextmanager
async def open_worker(
    deployment: Deployment, options: AgentOptions, starters: StarterOptions, told: Told, notice: Notice
) -> AsyncIterator[OpenWorker]:
    """Everything a worker needs. Raises as `open_agent` does, and RemitError `dispatch.unavailable`, `usage.invalid`."""
    async with open_agent(deployment, options) as agent, _hooks(deployment, agent, starters) as hooks:
        dispatcher = await _open_dispatcher(deployment, agent)
        try:
            parts = WorkerParts(
                name=agent.worker,
                runner=agent.runner,
                remit=agent.remit,
                journal=agent.journal,
                dispatcher=dispatcher,
                clock=agent.clock,
                told=told,
                notice=notice,
                starter=Starter(agent.journal, agent.remit, agent.clock, starters.tenant),
            )
            worker = Worker(parts)

            def stop() -> None:
                worker.stop()
                if hooks is not None:
                    hooks.stop()

            url = None if hooks is None else hooks.url
            yield OpenWorker(agent=agent, worker=worker, hooks_url=url, stop=stop)
        finally:
            await dispatcher.close(0.0)


@asynccontextmanager
async def _hooks(
    deployment: Deployment, agent: OpenAgent, starters: StarterOptions
) -> AsyncIterator[HookServer | None]:
    """The server of an agent's webhooks; None where there is no address for it."""
    if not starters.listen:
        yield None
        return
    remit = agent.remit
    host, _, port = starters.listen.rpartition(":")
    if not host or not port.isdecimal():
        message = f"{starters.listen!r} is no address for webhooks"
        raise RemitError("usage.invalid", message, remedy="give it as HOST:PORT, such as 127.0.0.1:8088")
    if not remit.webhooks:
        message = f"{remit.agent} has no webhooks to listen for"
        raise RemitError("usage.invalid", message, remedy="write `webhooks:` into its governance file")
    secrets = hook_secrets(remit, deployment.environment)
    hooks = Hooks(agent.journal, remit, agent.clock, starters.tenant, secrets)
    async with hook_server(hooks.deliver, HookOptions(host=host.strip("[]"), port=int(port))) as server:
        yield server


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
    return await DbosDispatcher.open(DbosOptions(url=url, worker=agent.worker, queue=queue), agent.clock)
