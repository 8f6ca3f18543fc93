"""The declarations of Python tools, which their modules make in the sandbox and never here.

They are kept beside the sources, in `__pycache__`, by the digest of those: who can write there can write the tools.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from remit import __version__
from remit.adapters.sandbox.settings import SandboxSettings
from remit.adapters.tools.python.sources import digest_of, settings_of
from remit.core.errors import RemitError
from remit.core.labels import DataClass, ResultTrust
from remit.core.tools import ISOLATION_LEVELS, Declared, Effect, Idempotency, ToolSpec
from remit.governance.toolsets.python import PythonToolset
from remit.ports.services import Clock

_STRICT = ConfigDict(extra="forbid", strict=True)


def _self_contained(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that leads nowhere else: whoever checks by it would fetch what it names."""
    for value in (pending := [schema]):
        for key, inner in value.items():
            if key in ("$ref", "$dynamicRef", "$schema", "$id"):
                raise ValueError(f"a schema holds no {key}")
            pending += [
                one for one in (inner, *(inner if isinstance(inner, list) else ())) if isinstance(one, dict)
            ]
    return schema


Schema = Annotated[dict[str, Any], AfterValidator(_self_contained)]
Example = dict[Literal["args", "result"], Any]
"""A call that shows what a tool does, and what it returns where that is fixed."""


@checked(frozen=True, slots=True, kw_only=True, config=_STRICT)
class DeclaredTool:
    """What a module says of a tool. It comes out of the sandbox, so each part is checked."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]
    description: Annotated[str, Field(min_length=1, max_length=20_000)]
    args_schema: Schema
    result_schema: Schema | None = None
    effect: Effect = "write"
    idempotency: Idempotency = "at_most_once"
    classes: tuple[DataClass, ...] = ()
    field_classes: dict[str, DataClass] = Field(default_factory=dict)
    result_trust: ResultTrust = "untrusted"
    rate_group: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] | None = None
    rate_key: str | None = None
    records: str | None = None
    timeout_s: Annotated[float, Field(gt=0, le=604_800)] | None = None
    isolation: Literal["process", "sandboxed", "namespaced"] = "process"
    examples: tuple[Example, ...] = ()
    uses: tuple[str, ...] | None = None

    def spec(self, section: PythonToolset) -> ToolSpec:
        """The declaration, with what the section says in its place."""
        given = {name: getattr(self, name) for name in _SPEC_FIELDS - {"uses"}}
        override = section.tools.get(self.name)
        spec = ToolSpec(**given)
        if override is not None:
            spec = override.applied(spec)
        least = max(spec.isolation, section.isolation, key=ISOLATION_LEVELS.index)
        uses = tuple(section.uses) if self.uses is None else self.uses
        ungranted = [name for name in uses if name not in section.uses]
        if ungranted:
            message = f"{self.name} uses {ungranted[0]}, which is not granted to it"
            raise RemitError("config.invalid", message, remedy=f"add {ungranted[0]} to `uses`")
        return replace(spec, isolation=least, uses=uses)


_SPEC_FIELDS = frozenset(ToolSpec.__dataclass_fields__) & frozenset(DeclaredTool.__dataclass_fields__)
_TOOLS: TypeAdapter[tuple[DeclaredTool, ...]] = TypeAdapter(tuple[DeclaredTool, ...])


def declare_python(name: str, section: PythonToolset, folder: Path, clock: Clock) -> Declared:
    """The tools of a source, with what the section says of them.

    Raises: RemitError `config.missing`, `config.invalid`, `sandbox.unavailable`.
    """
    settings = settings_of(name, section, folder)
    digest = digest_of(settings)
    tools = declared_tools(settings, digest, folder / section.source, clock)
    unknown = sorted(set(section.tools) - {tool.name for tool in tools})
    if unknown:
        there = ", ".join(tool.name for tool in tools)
        raise RemitError("config.unknown_key", f"{section.source} has no tool {unknown[0]!r}; it has {there}")
    return Declared(tuple(tool.spec(section) for tool in tools), digest)


def declared_tools(
    settings: SandboxSettings, digest: str, source: Path, clock: Clock
) -> tuple[DeclaredTool, ...]:
    """What the modules declare, kept by `digest`. Raises: as `declare_python`."""
    kept = _kept_at(source, digest)
    if kept.is_file():
        try:
            return _TOOLS.validate_json(kept.read_bytes())
        except (OSError, ValidationError):
            kept = _kept_at(source, digest)  # it is made again
    # an event loop and all that belongs to a sandbox: not for declarations that are kept
    from remit.adapters.tools.python.asking import ask_declarations  # noqa: PLC0415

    answer = ask_declarations(settings, clock)
    text = orjson.dumps(answer)
    try:
        tools = _TOOLS.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RemitError("config.invalid", f"{source}: {where}: {first['msg']}") from None
    if not tools:
        raise RemitError("config.invalid", f"{source} has no function marked @tool")
    _keep(kept, text)
    return tools


def _kept_at(source: Path, digest: str) -> Path:
    folder = source if source.is_dir() else source.parent
    version = f"{__version__}-{sys.version_info.major}.{sys.version_info.minor}"
    return folder / "__pycache__" / f"remit-{version}-{digest[:32]}.json"


def _keep(place: Path, text: bytes) -> None:
    """Where it can be kept. A folder that cannot be written to costs a tenth of a second each time."""
    beside = place.with_suffix(f".{os.getpid()}")
    try:
        place.parent.mkdir(exist_ok=True)
        beside.write_bytes(text)
        beside.replace(place)
    except OSError:
        return
