"""The shape of the governance file: every key, its type, range and default, and nothing else.

The JSON Schema for editors is made from these models.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from remit.core.labels import DataClass
from remit.governance.fields import EnvName, Name, Seconds, Section, Share, Text, ToolName, Usd, Zone
from remit.governance.hooks import template_problem
from remit.governance.schedules import Missed, cron_problem
from remit.governance.toolsets import Toolsets

AskedName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
DEPTH_MAX = 8


def _named_once(entries: list[Any]) -> list[Any]:
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise PydanticCustomError(
                "named_twice", "must give each a name of its own: {name} stands twice", {"name": name}
            )
    return entries


def _template(task: str) -> str:
    problem = template_problem(task)
    if problem:
        raise PydanticCustomError("template", "{problem}", {"problem": problem})
    return task


def _cron(expression: str) -> str:
    problem = cron_problem(expression)
    if problem:
        raise PydanticCustomError("cron", "{problem}", {"problem": problem})
    return expression


def _schema_or_path(value: object) -> object:
    if not isinstance(value, dict | str) or not value:
        raise PydanticCustomError(
            "answer_schema_type", "must be a JSON Schema, or the path of a file with one"
        )
    return value


AnswerSchema = Annotated[dict[str, Any] | str, BeforeValidator(_schema_or_path)]


class DataAccess(Section):
    """Which classes of data the agent may see."""

    allow_pii: bool = Field(default=False, description="Personal data, such as a customer record.")
    allow_financial: bool = Field(
        default=False, description="Financial data, such as card digits or balances."
    )
    allow_internal_docs: bool = Field(default=False, description="Documents marked internal.")
    max_records_per_query: int = Field(
        default=50, ge=1, le=100_000, description="The most records one tool call may return."
    )


CLASS_RULE: Mapping[DataClass, str] = {
    "pii": "data_access.allow_pii",
    "financial": "data_access.allow_financial",
    "internal": "data_access.allow_internal_docs",
}


class CostControls(Section):
    """What the agent may spend. Money is held before it is spent; there is no way to spend without a cap."""

    max_daily_spend_usd: Usd = Field(description="The cap for all the agent's runs of a day, in US dollars.")
    max_cost_per_run_usd: Usd = Field(description="The cap of one run, in US dollars.")
    timezone: Zone = Field(
        default="UTC", description="The IANA zone whose days the daily cap counts, such as Europe/Berlin."
    )
    alert_on_threshold: Share = Field(
        default=Decimal("0.8"), description="Alert, once a day, at this share of the daily cap."
    )


class Timeouts(Section):
    """How long things may take, in seconds."""

    run_s: Seconds = Decimal(600)
    model_call_s: Seconds = Decimal(120)
    tool_call_s: Seconds = Decimal(30)


class ApprovalRule(Section):
    """A tool call that a person must approve: always, or when every condition holds."""

    tool: ToolName
    when: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="For each argument (a dotted path) its conditions: eq, ne, in, not_in, gt, ge, lt, le, "
        "matches, not_matches, longer_than. An argument that is left out meets every condition.",
    )
    reason: Text = "this call needs a person's approval"
    expires_s: int = Field(
        default=86_400, ge=1, le=2_592_000, description="Seconds after which it cannot be given, or used."
    )
    roles: list[Name] = Field(
        default_factory=list,
        max_length=20,
        description="Who may decide: any of these roles; everybody if empty.",
    )
    quorum: int = Field(default=1, ge=1, le=10, description="How many different people must approve.")
    remind_after_s: int | None = Field(
        default=None, ge=1, le=2_592_000, description="Tell the webhook again, once, if nobody has decided."
    )
    escalate_after_s: int | None = Field(default=None, ge=1, le=2_592_000)
    escalate_to: list[Name] = Field(
        default_factory=list, max_length=20, description="Roles that may decide too, after escalate_after_s."
    )


class MemorySection(Section):
    """What the agent may remember. Nothing, where this section is missing."""

    sessions: bool = Field(
        default=False, description="Runs of one session (`remit run --session`) know the earlier ones."
    )
    notes: bool = Field(
        default=False, description="Grants the tools remember and recall, without a line in allowed_tools."
    )
    keep_classes: list[Literal["internal", "pii", "financial"]] = Field(
        default=["internal"],
        description="The classes of data that may be kept. A run that has seen another keeps nothing.",
    )
    session_ttl_days: int = Field(default=90, ge=1, le=3_650, description="So long a message is kept.")
    note_ttl_days: int = Field(default=365, ge=1, le=3_650, description="So long a note is kept.")
    session_tokens_max: int = Field(
        default=8_000,
        ge=500,
        le=1_000_000,
        description="The most of a session that the model is given, 4 bytes counted as one token; the older part is "
        "summarised.",
    )
    session_bytes_max: int = Field(default=1_000_000, ge=1_000, le=100_000_000)
    notes_max: int = Field(default=1_000, ge=1, le=10_000)
    note_bytes_max: int = Field(default=2_000, ge=100, le=20_000)
    bytes_max: int = Field(
        default=100_000_000,
        ge=1_000,
        le=1_000_000_000_000,
        description="Of all sessions and notes together, for each tenant.",
    )


class ScheduleSection(Section):
    """A task that workers begin by the clock, each tick once over all of them."""

    name: Name = Field(description="What its runs are asked by: `service:schedule:NAME`.")
    cron: Annotated[str, StringConstraints(max_length=200, pattern=r"^[ -~]+$"), AfterValidator(_cron)] = (
        Field(description="Minute, hour, day of month, month, day of week, such as `0 7 * * 1-5`.")
    )
    timezone: Zone = Field(
        default="UTC", description="The IANA zone of the expression, such as Europe/Berlin."
    )
    task: Text
    urgency: int = Field(default=500, ge=0, le=1_000, description="The more urgent is the lower.")
    missed: Missed = Field(
        default="skip",
        description="Of ticks while no worker was on: none is made up for, or one run stands for all of them.",
    )


class WebhookSection(Section):
    """A task that a signed message from outside begins, each message once over all workers."""

    name: Name = Field(
        description="Of its path, /hooks/NAME; its runs are asked for by `service:webhook:NAME`."
    )
    secret_env: EnvName = Field(description="The environment variable that holds the secret, whsec_BASE64.")
    task: Annotated[Text, AfterValidator(_template)] = Field(
        description="What is to be done. {{ body.customer.id }} stands for that place of the message, as marked data."
    )
    urgency: int = Field(default=500, ge=0, le=1_000, description="The more urgent is the lower.")


class AskedAgent(Section):
    """Another agent that this one may ask, by the tool `ask_<name>`, under the remit of its own file."""

    config: Text = Field(description="The path of its governance file, relative to this one.")
    description: Text = Field(description="What the model is told of what it can be asked.")


class Agent(Section):
    """One agent and its remit."""

    name: Name = Field(description="The agent's name, in every record and metric.")
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="The one model it may call; its price must be known."
    )
    fallback_models: list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] = Field(
        default_factory=list,
        max_length=10,
        description="Models to ask, in this order, where the first is not available; only before a tool was called "
        "or any text shown.",
    )
    instructions: Text | None = Field(default=None, description="What the model is told of its work.")
    answer_schema: AnswerSchema | None = Field(
        default=None,
        description="A JSON Schema (or the path of a JSON file with one) that the final answer must fit.",
    )
    owner: Text | None = None
    risk_tier: Literal["low", "medium", "high"] | None = None
    max_retries: int = Field(
        default=3, ge=0, le=10, description="Attempts after the first, 1, 2, 4 ... s apart."
    )
    max_concurrent_runs: int = Field(default=10, ge=1, le=100_000)
    max_queued_runs: int = Field(default=1_000, ge=0, le=1_000_000)
    max_steps: int = Field(default=50, ge=1, le=10_000, description="The most model calls of a run.")
    max_output_tokens: int = Field(default=4096, ge=1, le=1_000_000, description="Of one model call.")
    max_result_bytes: int = Field(
        default=65_536,
        ge=256,
        le=8_388_608,
        description="Of one tool result; what is longer is cut with a note.",
    )
    allowed_tools: list[ToolName] = Field(description="The only tools there are for this agent.")
    data_access: DataAccess = DataAccess()
    rate_limits: dict[str, Annotated[int, Field(ge=0, le=10_000_000)]] = Field(
        default_factory=dict,
        description="max_<group>_per_<second|minute|hour|day>: at most so many calls of the group's tools.",
    )
    cost_controls: CostControls
    timeouts: Timeouts = Timeouts()
    approvals: list[ApprovalRule] = Field(default_factory=list)
    toolsets: Toolsets = Field(
        default_factory=dict,
        description="Where tools come from, by a name of yours: each has a kind and that kind's settings.",
    )
    memory: MemorySection = MemorySection()
    agents: dict[AskedName, AskedAgent] = Field(
        default_factory=dict,
        max_length=20,
        description="Agents that this one may ask; each is the tool ask_<name>, to be named in allowed_tools.",
    )
    max_agent_depth: int = Field(
        default=3,
        ge=1,
        le=DEPTH_MAX,
        description="How deep agents that ask agents may be nested below this one.",
    )
    webhooks: Annotated[list[WebhookSection], AfterValidator(_named_once)] = Field(
        default_factory=list, max_length=100
    )
    schedules: Annotated[list[ScheduleSection], AfterValidator(_named_once)] = Field(
        default_factory=list, max_length=100
    )


class GovernanceFile(Section):
    """The whole file."""

    agent: Agent


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the file, for editors."""
    schema = GovernanceFile.model_json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Remit governance file",
    } | schema
