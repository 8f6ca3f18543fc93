"""The host of Python tools: each call in a fresh process, its result checked against what was declared.

Nothing runs in less isolation than it requires. A function has no effect of its own, because it can reach nothing: what
it does beside computing are calls of other tools, which it asks for, and each of which has a decision and a record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from jsonschema_rs import Draft202012Validator

from remit.adapters.sandbox.pool import Request, SandboxPool
from remit.adapters.sandbox.settings import SandboxSettings
from remit.adapters.tools.python.sources import digest_of
from remit.adapters.tools.threads import RESERVE
from remit.core.canonical import Json
from remit.core.errors import RemitError
from remit.core.outcomes import Done, Failed, Refused
from remit.core.tools import ISOLATION_LEVELS, Declared, Isolation, ToolSpec
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.services import Clock

PROGRESS_MAX = 1000
"""So often a call may say how far it is; who says it oftener is not heard."""
PROGRESS_CHARS_MAX = 500

_SAID: Mapping[Isolation, str] = MappingProxyType(
    {
        "process": "in processes with limits and nothing else: this machine gives no sandbox",
        "sandboxed": "sandboxed, without a work folder: this machine gives no namespaces",
    }
)


async def open_python(settings: SandboxSettings, declared: Declared, clock: Clock) -> PythonTools:
    """The tools, with processes that wait. Raises: RemitError `sandbox.unavailable`, `toolset.unavailable`."""
    if digest_of(settings) != declared.digest:
        message = f"the sources of {settings.name} have changed since they were declared"
        raise RemitError("toolset.unavailable", message, remedy="start again")
    pool = SandboxPool(settings, clock)
    try:
        return PythonTools(settings.name, pool, declared.specs, await pool.start())
    except RemitError:
        await pool.close()
        raise


class PythonTools:
    """A `ToolHost` of functions in a sandbox. `isolation`: the level they run at. To be closed."""

    def __init__(
        self, name: str, pool: SandboxPool, specs: tuple[ToolSpec, ...], isolation: Isolation
    ) -> None:
        self._name = name
        self._pool = pool
        self._by_name = {spec.name: spec for spec in specs}
        self._results = {
            spec.name: Draft202012Validator(dict(spec.result_schema))
            for spec in specs
            if spec.result_schema is not None
        }
        self.isolation = isolation

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The declarations; the isolation of what can be called is that which it has here."""
        here = ISOLATION_LEVELS.index(self.isolation)
        return tuple(
            replace(spec, isolation=self.isolation)
            if ISOLATION_LEVELS.index(spec.isolation) <= here
            else spec
            for spec in self._by_name.values()
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """What people should know of where the tools run."""
        if self.isolation == ISOLATION_LEVELS[-1]:
            return ()
        return (f"the tools of {self._name} run {_SAID[self.isolation]} (see `remit doctor --sandbox`)",)

    async def call(self, tool: str, args: Json, context: CallContext) -> Json:
        """What `tool` returns for `args`, which fit its schema.

        Raises: EffectFailed where nothing happened but calls that are on record, EffectPending where one waits; anything
        else where nobody knows.
        """
        spec = self._by_name.get(tool)
        if spec is None:
            raise EffectFailed("tool.unknown", f"there is no tool {tool!r}")
        if ISOLATION_LEVELS.index(spec.isolation) > ISOLATION_LEVELS.index(self.isolation):
            message = (
                f"{tool} requires a sandbox that is {spec.isolation}; this machine gives {self.isolation}"
            )
            raise EffectFailed("sandbox.unavailable", message)
        told = {"idempotency_key": context.idempotency_key, "uses": spec.uses}
        request = Request(
            message={"tool": tool, "args": args, "context": told},
            timeout_s=context.constraints.timeout_s * RESERVE,
            bytes_max=context.constraints.output_bytes_max,
            answer=_Broker(context).answer,
        )
        value: Json = await self._pool.ask(request)
        checker = self._results.get(tool)
        if checker is not None and not checker.is_valid(value):
            raise EffectFailed(
                "tool.result_invalid", f"what {tool} returned is not what it declares to return"
            )
        return value

    async def close(self) -> None:
        """End every process."""
        await self._pool.close()


class _Broker:
    """Answers what the process of one call asks for: to call another tool, or to say how far it is. Nothing else."""

    def __init__(self, context: CallContext) -> None:
        self._context = context
        self._told = 0

    async def answer(self, kind: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """A message for the process. Raises: EffectPending."""
        context = self._context
        match kind, request:
            case "progress", {"text": str(text)}:
                self._told += 1
                if self._told <= PROGRESS_MAX:
                    context.on_progress(text[:PROGRESS_CHARS_MAX])
                return {"answer": None}
            case "call", {"tool": str(tool), "args": args}:
                if context.inner is None:
                    return {"refused": f"{tool} was not granted to this tool"}
                return _told(await context.inner(tool, args))
        return {"refused": "there is no such request"}


def _told(outcome: Done | Refused | Failed) -> dict[str, Any]:
    """What the process is told of a call: as much as a model would be."""
    match outcome:
        case Done(truncated=True):
            # a part that is taken for the whole is worse than none
            return {"refused": "the result is larger than the governance file allows: ask for less"}
        case Done(value=value):
            return {"answer": value}
        case Refused(decision=decision):
            return {"refused": decision.explain()}
        case Failed(message=message, retryable=retryable):
            return {"refused": message, "retryable": retryable}
