"""A run, its states, and which state may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

from remit.core.actions import Principal, TaskSource
from remit.core.messages import Usage

RunStatus: TypeAlias = Literal[
    "queued", "running", "suspended", "succeeded", "failed", "timed_out", "refused", "cancelled"
]

TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = MappingProxyType(
    {
        "queued": frozenset({"running", "suspended", "cancelled", "refused", "timed_out"}),
        "running": frozenset({"suspended", "succeeded", "failed", "timed_out", "refused", "cancelled"}),
        "suspended": frozenset({"queued", "running", "cancelled", "timed_out", "failed"}),
        "succeeded": frozenset(),
        "failed": frozenset(),
        "timed_out": frozenset(),
        "refused": frozenset(),
        "cancelled": frozenset(),
    }
)
FINAL: frozenset[RunStatus] = frozenset(state for state, after in TRANSITIONS.items() if not after)
WITHOUT_ANSWER: frozenset[RunStatus] = FINAL - {"succeeded"}
"""What calls of these runs cost bought nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One task given to one agent under one remit. Times are microseconds since 1970 in UTC.

    `parent`: the tool call of another run by which that run's agent asked this one; `depth`: how many runs stand above.
    `session`: the conversation that it goes on with, empty where it stands alone.
    """

    id: str
    tenant: str
    agent: str
    remit_digest: str
    task: TaskSource
    trace_id: str
    created_at_us: int
    deadline_us: int
    parent: str | None = None
    depth: int = 0
    session: str = ""

    @property
    def principal(self) -> Principal:
        """On whose behalf the run acts."""
        return self.task.principal

    @property
    def is_strangers(self) -> bool:
        """Whether its task may be the words of strangers: of a webhook's sender, or of a model that has read any."""
        return self.parent is not None or bool(self.principal.strangers)

    @property
    def caller_id(self) -> str | None:
        """The run above, whose call this run answers."""
        return None if self.parent is None else self.parent.partition(".")[0]


class Ceiling(NamedTuple):
    """What a run may spend, and its agent in a day, by the agent's remit; it binds the runs below it as well.

    `depth_max`: how deep these may be.
    """

    run_id: str
    tenant: str
    agent: str
    run_nano_usd: int
    day_nano_usd: int
    timezone: str
    alert_percent: int
    depth_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run ended, or why it waits. `code` is an error code, empty for success."""

    status: RunStatus
    answer: str = ""
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as the journal knows it. `interruptions`: how often the process that ran it died.

    `exposed_by`: the webhook that brought it, and the calls, by which the model has read what strangers wrote.
    """

    run: Run
    status: RunStatus
    started_at_us: int | None
    ended_at_us: int | None
    end: RunEnd | None
    steps: int
    usage: Usage
    cost_nano_usd: int
    exposed_by: tuple[str, ...]
    interruptions: int = 0
