"""Puts an agent together: journal, tools, model, prices, telemetry, gate, runner."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from remit.adapters.journal.lock import WorkerLock
from remit.adapters.telemetry.content import captures_content
from remit.adapters.telemetry.fanout import Fanout
from remit.adapters.telemetry.logs import JsonLog, LogOptions, LogSink
from remit.adapters.telemetry.metrics import Metrics
from remit.adapters.telemetry.otlp import OtlpSpans
from remit.adapters.telemetry.otlp import options_of as otlp_options
from remit.adapters.telemetry.spans import SpanMaker
from remit.adapters.telemetry.store import StoreOptions, TraceStore
from remit.core.errors import RemitError
from remit.core.messages import ModelReply, ModelRequest
from remit.core.outbox import OutboxMessage
from remit.core.quota import Quota
from remit.governance.gate import GateServices
from remit.governance.remit import Remit
from remit.governance.rules import Rules
from remit.ports.effects import EffectFailed
from remit.ports.journal import Journal
from remit.ports.services import Clock, Receipt, Telemetry, TextSink, ThresholdCrossed
from remit.runtime.clock import SharedClock, SystemClock
from remit.runtime.direct import DirectCalls
from remit.runtime.runner import Runner
from remit.wiring.deployment import LOCK_FILE, LOG_FILE, Deployment, make_home
from remit.wiring.family import Family, FamilyParts
from remit.wiring.journals import renewing, working_journal
from remit.wiring.memories import purging
from remit.wiring.outbox import delivering
from remit.wiring.quota import QuotaFile
from remit.wiring.remits import load_remit, open_prices, tenant_cap

EXPIRE_EVERY_S = 30.0
COMPATIBLE_URL = "REMIT_OPENAI_COMPATIBLE_URL"
COMPATIBLE_KEY = "REMIT_OPENAI_COMPATIBLE_KEY"
COMPATIBLE_PREFIX = "openai-compatible/"
MODEL_PATTERNS = (
    ("claude-*", "ANTHROPIC_API_KEY"),
    ("gpt-*", "OPENAI_API_KEY"),
    ("o1*", "OPENAI_API_KEY"),
    ("o3*", "OPENAI_API_KEY"),
    ("o4*", "OPENAI_API_KEY"),
    ("chatgpt-*", "OPENAI_API_KEY"),
    (f"{COMPATIBLE_PREFIX}*", COMPATIBLE_URL),
)
"""Whose a model is by its name, and what must be set for it."""

OnQuota: TypeAlias = Callable[[tuple[Quota, ...]], None]

if TYPE_CHECKING:
    from remit.adapters.models import AnthropicModel, ModelRouter, OpenAIModel
    from remit.testing.model_server import RunningServer


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """How an agent is run. `changes` take the place of keys of the file; `watch` sees every event too.

    `offline`: the scripted model server answers. `asks_models`: else no provider is needed, and every model call fails.
    """

    config: Path
    changes: Mapping[str, str] = field(default_factory=dict)
    offline: bool = False
    asks_models: bool = True
    watch: Telemetry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAgent:
    """An agent that is ready to take tasks."""

    remit: Remit
    rules: Rules
    runner: Runner
    direct: DirectCalls
    journal: Journal
    metrics: Metrics
    notices: tuple[str, ...]
    interrupted: tuple[str, ...]
    worker: str
    clock: Clock
    model_server: RunningServer | None


class NoModel:
    """The `Model` port where no model is to be asked."""

    async def complete(self, request: ModelRequest, on_text: TextSink | None = None) -> ModelReply:
        """Nothing. Raises: EffectFailed `model.unavailable`."""
        raise EffectFailed("model.unavailable", "this command asks no model")

    def counts(self, model: str) -> bool:
        """There is nobody to ask."""
        return False

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """Nobody says."""
        return None


@asynccontextmanager
async def open_agent(deployment: Deployment, options: AgentOptions) -> AsyncIterator[OpenAgent]:
    """Everything an agent needs, opened in order and closed in reverse.

    Raises: ConfigErrors; RemitError `journal.locked`, `journal.unavailable`, `model.no_key`,
    `toolset.unavailable`, `script.invalid`.
    """
    remit = load_remit(options.config, options.changes)
    for one in remit.family() if options.asks_models else ():
        _check_models(deployment, options, one)
    clock = SharedClock()
    async with AsyncExitStack() as stack:
        # first the lock: who has to leave should hear it before anything slow is begun
        make_home(deployment.home)
        stack.enter_context(WorkerLock(deployment.home / LOCK_FILE))
        metrics = Metrics()
        quota = QuotaFile(deployment.quota, clock, metrics.see_quota)
        stack.callback(quota.save)
        on_quota = None if options.offline else quota.take  # the scripted server's limits are nobody's
        model: ModelRouter | NoModel = NoModel()
        server, warming = None, None
        if options.asks_models:
            model, server, warming = await _open_model(deployment, options, remit, on_quota, stack)
        working = await stack.enter_async_context(working_journal(deployment, clock, _notice))
        journal = working.journal
        for one in remit.family():
            metrics.declare(one.agent, tuple(sorted(one.reachable_tools)), one.model)
        telemetry = stack.enter_context(_open_telemetry(deployment, options, metrics))
        services = GateServices(
            journal=journal,
            prices=open_prices(deployment.environment, clock),
            clock=clock,
            telemetry=telemetry,
            tenant_cap=tenant_cap(deployment.environment),
            has_lease=working.lease.is_held,
        )
        parts = FamilyParts(deployment=deployment, services=services, model=model, counter=model, stack=stack)
        family = Family(parts)
        rules, runner, direct = await family.open(remit, options.config)
        tending = [_tend(services, remit.agent)]
        for each in family.runners:
            await each.announce()
            tending.append(each.watch())
        if deployment.postgres is not None:
            tending.append(renewing(working, clock, runner.lose_runs, _notice))
        if family.memory is not None:
            tending.append(purging(family.memory, clock, _notice))
        for work in tending:
            stack.push_async_callback(_ended, asyncio.create_task(work))
        await stack.enter_async_context(delivering(deployment, journal, clock, partial(_told, metrics)))
        if warming is not None:
            await warming  # so that the first call's time is the call's, and not the import's
        # what is loaded stays: a full collection need not look through it again (50 ms)
        gc.collect()
        gc.freeze()
        yield OpenAgent(
            remit=remit,
            rules=rules,
            runner=runner,
            direct=direct,
            journal=journal,
            metrics=metrics,
            notices=family.notices,
            interrupted=working.interrupted,
            worker=working.worker,
            clock=clock,
            model_server=server,
        )


async def _tend(services: GateServices, agent: str) -> None:
    """Every now and then, presume spent what no call will settle any more, and remind of what nobody has decided."""
    clock = services.clock
    while True:
        try:
            settled = await services.journal.expire_holds(clock.now_us())
            await services.journal.tell_due_approvals(clock.now_us())
        except RemitError as error:  # what is held stays held, which is safe; the next time it may work
            _notice(f"holds could not be expired: {error}")
        else:
            for alert in settled.alerts:
                services.telemetry.emit(ThresholdCrossed(agent=agent, alert=alert))
        await clock.sleep(EXPIRE_EVERY_S)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _check_models(deployment: Deployment, options: AgentOptions, remit: Remit) -> None:
    """That each model has a provider, and that there is what the provider needs."""
    environment = deployment.environment
    for model in (remit.model, *remit.fallback_models):
        needed = next((name for pattern, name in MODEL_PATTERNS if fnmatchcase(model, pattern)), "")
        if not needed and environment.get(COMPATIBLE_URL):
            needed = COMPATIBLE_URL
        if not needed:
            served = ", ".join(pattern for pattern, _ in MODEL_PATTERNS)
            raise RemitError(
                "model.no_provider", f"no provider serves the model {model!r}", cause=f"served: {served}"
            )
        if not options.offline and not environment.get(needed):
            raise RemitError(
                "model.no_key",
                f"the model {model} needs {needed}, which is not set",
                remedy=f"set {needed}, or add --offline to let the scripted model server answer",
            )


async def _open_model(
    deployment: Deployment,
    options: AgentOptions,
    remit: Remit,
    on_quota: OnQuota | None,
    stack: AsyncExitStack,
) -> tuple[ModelRouter, RunningServer | None, asyncio.Task[None]]:
    # the clients are imported here because most commands never ask a model
    from remit.adapters.models import ModelRouter  # noqa: PLC0415

    server = None
    environment = deployment.environment
    if options.offline:
        from remit.testing.model_server import load_scripts, serve  # noqa: PLC0415 - for --offline alone

        folder = options.config.parent / "scripts"
        scripts = load_scripts(folder) if folder.is_dir() else ()
        server = await stack.enter_async_context(serve(scripts))
        environment = _offline(server.base_url)
    providers = _providers(environment, on_quota, stack)
    router = ModelRouter(providers)
    # a client takes up to two seconds to import: a thread does it while the rest opens
    first = next(model for pattern, model in providers.items() if fnmatchcase(remit.model, pattern))
    warming = asyncio.create_task(first.warm())
    stack.push_async_callback(_settled, warming)
    return router, server, warming


def _offline(base_url: str) -> dict[str, str]:
    """The environment in which every provider is the scripted model server."""
    return {
        "ANTHROPIC_API_KEY": "offline",
        "ANTHROPIC_BASE_URL": base_url,
        "OPENAI_API_KEY": "offline",
        "OPENAI_BASE_URL": f"{base_url}/v1",
        COMPATIBLE_URL: f"{base_url}/v1",
    }


def _providers(
    environment: Mapping[str, str], on_quota: OnQuota | None, stack: AsyncExitStack
) -> dict[str, AnthropicModel | OpenAIModel]:
    """The providers by patterns of model names; what no other serves goes to the compatible server."""
    from remit.adapters.models import AnthropicModel, OpenAIModel, OpenAIOptions  # noqa: PLC0415 - as above

    anthropic = AnthropicModel(
        environment.get("ANTHROPIC_API_KEY", ""),
        base_url=environment.get("ANTHROPIC_BASE_URL"),
        on_quota=on_quota,
    )
    openai = OpenAIModel(
        environment.get("OPENAI_API_KEY", ""), base_url=environment.get("OPENAI_BASE_URL"), on_quota=on_quota
    )
    compatible = OpenAIModel(
        environment.get(COMPATIBLE_KEY, ""),
        base_url=environment.get(COMPATIBLE_URL),
        options=OpenAIOptions(protocol="chat", prefix=COMPATIBLE_PREFIX),
        on_quota=on_quota,
    )
    for model in (anthropic, openai, compatible):
        stack.push_async_callback(model.aclose)
    by_need: dict[str, AnthropicModel | OpenAIModel]
    by_need = {"ANTHROPIC_API_KEY": anthropic, "OPENAI_API_KEY": openai, COMPATIBLE_URL: compatible}
    providers = {pattern: by_need[needed] for pattern, needed in MODEL_PATTERNS}
    return {**providers, "*": compatible} if environment.get(COMPATIBLE_URL) else providers


async def _settled(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})


@contextmanager
def _open_telemetry(deployment: Deployment, options: AgentOptions, metrics: Metrics) -> Iterator[Fanout]:
    """Every sink the deployment wants: trace store, log, metrics, OTLP, and whoever watches."""
    environment = deployment.environment
    spans = SpanMaker(SystemClock(), capture_content=captures_content(environment))
    with ExitStack() as stack:
        store = TraceStore(
            deployment.traces,
            spans,
            lost=partial(metrics.count_lost, "traces"),
            notice=_notice,
            options=StoreOptions(),
        )
        stack.callback(store.close)
        sinks: dict[str, Telemetry] = {"metrics": metrics, "traces": store}
        sink = _log_sink(deployment)
        if sink is not None:
            log = JsonLog(
                sink, spans, lost=partial(metrics.count_lost, "log"), notice=_notice, options=LogOptions()
            )
            stack.callback(log.close)
            sinks["log"] = log
        otlp = otlp_options(environment)
        if otlp is not None:
            exporter = OtlpSpans(otlp, spans, lost=partial(metrics.count_lost, "otlp"))
            stack.callback(exporter.close)
            sinks["otlp"] = exporter
        address = environment.get("REMIT_METRICS_ADDRESS")
        if address:
            stack.callback(metrics.serve(address).close)
        if options.watch is not None:
            sinks["watch"] = options.watch
        yield Fanout(sinks, failed=metrics.count_error)


def _log_sink(deployment: Deployment) -> LogSink | None:
    """REMIT_LOG: `stdout`, `stderr`, `off` or a file; by default a file in the home folder."""
    match deployment.environment.get("REMIT_LOG", ""):
        case "":
            return deployment.home / LOG_FILE
        case "off":
            return None
        case "stdout":
            return "stdout"
        case "stderr":
            return "stderr"
        case path:
            return Path(path)


def _told(metrics: Metrics, message: OutboxMessage, receipt: Receipt) -> None:
    metrics.count_message(message.topic, receipt.state)
    if receipt.state == "dead":
        _notice(f"the webhook did not take {message.id}, which is given up: {receipt.error}")


def _notice(text: str) -> None:
    print(f"remit: {text}", file=sys.stderr)
