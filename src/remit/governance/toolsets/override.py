"""What the governance file declares of a tool, where its source cannot or is not trusted to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from remit.core.labels import DataClass, ResultTrust
from remit.core.tools import Effect, Idempotency, ToolSpec
from remit.governance.fields import Seconds, Section, Text

GroupName = r"^[a-z][a-z0-9_]*$"


class ToolOverride(Section):
    """The declaration of one tool: each key that is given takes the place of what its source says."""

    description: Text | None = Field(default=None, description="What the model is told of it.")
    effect: Effect | None = Field(default=None, description="Undeclared counts as write.")
    idempotency: Idempotency | None = Field(
        default=None, description="Whether a call may be made again; undeclared counts as at_most_once."
    )
    classes: list[DataClass] | None = Field(default=None, description="The classes of all that it returns.")
    field_classes: dict[str, DataClass] | None = Field(
        default=None, description="The class of a field of what it returns, by name at any depth."
    )
    result_trust: ResultTrust | None = None
    rate_group: str | None = Field(default=None, pattern=GroupName)
    rate_key: str | None = Field(
        default=None, description="The argument whose value each has limits of its own."
    )
    records: str | None = Field(default=None, description="The field of the result that lists records.")
    timeout_s: Seconds | None = None
    isolation: Literal["process", "sandboxed", "namespaced"] | None = Field(
        default=None, description="The least isolation under which it may run."
    )

    def applied(self, spec: ToolSpec) -> ToolSpec:
        """`spec`, with what is given here in its place."""
        given: dict[str, Any] = {key: value for key, value in self if value is not None}
        if self.classes is not None:
            given["classes"] = tuple(self.classes)
        if self.timeout_s is not None:
            given["timeout_s"] = float(self.timeout_s)
        return replace(spec, **given)
