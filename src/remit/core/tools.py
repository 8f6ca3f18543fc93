"""A tool is its declaration: what it takes, what it does, what data it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from remit.core.labels import DataClass, ResultTrust

Effect: TypeAlias = Literal["pure", "read", "write"]
Idempotency: TypeAlias = Literal["idempotent", "reconcilable", "at_most_once"]
Isolation: TypeAlias = Literal["none", "process", "sandboxed", "namespaced"]
ISOLATION_LEVELS: tuple[Isolation, ...] = ("none", "process", "sandboxed", "namespaced")
"""From the weakest: in our own process; in one of its own; that may reach nothing; nor see any other."""
_CLOSED = ISOLATION_LEVELS[2:]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """The declaration of one tool. What is not declared has the most careful value.

    `args_schema` is a JSON Schema (2020-12) of an object. `records` names the result's field that
    lists records ("" where the result itself is the list, None where there are none);
    `record_class_field` names the field of a record that carries its data class; `classes_field` names
    the field of the result in which a connector of ours says which classes it read; `field_classes`
    gives the class of a field of the result or of its records, by name at any depth. `agent` names the
    agent that stands behind it: a call is a run of that agent's, which may last as long as a run. `result_schema` is
    the JSON Schema that its result fits, where that is known; `isolation` the least under which it may run. `uses` are
    the tools that it may call within a call of its own, each time through the gate.
    """

    name: str
    description: str
    args_schema: Mapping[str, Any]
    effect: Effect = "write"
    idempotency: Idempotency = "at_most_once"
    classes: tuple[DataClass, ...] = ()
    field_classes: Mapping[str, DataClass] = field(default_factory=dict)
    record_class_field: str | None = None
    classes_field: str | None = None
    records: str | None = None
    result_trust: ResultTrust = "untrusted"
    rate_group: str | None = None
    rate_key: str | None = None
    timeout_s: float | None = None
    price_nano_usd: int = 0
    agent: str | None = None
    result_schema: Mapping[str, Any] | None = None
    isolation: Isolation = "none"
    uses: tuple[str, ...] = ()

    @property
    def acts_by_calls(self) -> bool:
        """Whether all that it does are calls, each with a record of its own: of an agent, or of code that reaches nothing
        else. So it may be begun again, and finds what it did."""
        return self.agent is not None or (bool(self.uses) and self.isolation in _CLOSED)

    def hides_fields(self, denied: frozenset[DataClass]) -> bool:
        """Whether fields of its result are left out: then no text may be shown in which they cannot be found."""
        return not denied.isdisjoint(self.field_classes.values())


class Declared(NamedTuple):
    """The tools of one toolset. `digest` covers all that was read to declare them, beside the governance file."""

    specs: tuple[ToolSpec, ...]
    digest: str
