"""The host of Python tools: each call in a fresh process, its result checked against what was declared.

Nothing runs in less isolation than it requires. A function that has asked the broker for nothing has had no effect when
it fails, because it can reach nothing else; of one that has, nobody knows.
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
from remit.core.tools import ISOLATION_LEVELS, Declared, Isolation, ToolSpec
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.services import Clock

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

        Raises: EffectFailed where nothing happened; anything else where nobody knows.
        """
        spec = self._by_name.get(tool)
        if spec is None:
            raise EffectFailed("tool.unknown", f"there is no tool {tool!r}")
        if ISOLATION_LEVELS.index(spec.isolation) > ISOLATION_LEVELS.index(self.isolation):
            message = (
                f"{tool} requires a sandbox that is {spec.isolation}; this machine gives {self.isolation}"
            )
            raise EffectFailed("sandbox.unavailable", message)
        told = {"idempotency_key": context.idempotency_key, "secrets": []}
        request = Request(
            message={"tool": tool, "args": args, "context": told},
            timeout_s=context.constraints.timeout_s * RESERVE,
            bytes_max=context.constraints.output_bytes_max,
            answer=_answer,
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


async def _answer(kind: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was granted beside the arguments: to say how far it is, and no more yet."""
    if kind == "progress":
        return {"answer": None}
    return {"refused": f"{kind} was not granted to this tool"}
