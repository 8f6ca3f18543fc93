"""A decision: allow, deny or require approval, and by which rule of which file and line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from remit.core.labels import DataClass

Verdict: TypeAlias = Literal["allow", "deny", "require_approval"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What an allowed effect must keep to."""

    timeout_s: float
    output_bytes_max: int
    records_max: int | None = None
    denied_classes: frozenset[DataClass] = frozenset()


NO_EFFECT = Constraints(timeout_s=0.0, output_bytes_max=0)
"""The constraints of a decision that allows nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to one action. `source` is `file:line` of the rule; `rule` its path in the file."""

    effect: Verdict
    code: str
    rule: str
    source: str
    reason: str
    remedy: str = ""
    constraints: Constraints = field(default=NO_EFFECT)

    def explain(self) -> str:
        """One sentence for the model and for people: what, by which rule, where."""
        where = f" (rule {self.rule}, {self.source})" if self.source else f" (rule {self.rule})"
        return f"{self.reason}{where}"
