"""Compiles a governance file: a frozen Remit, or every error of the file at once.

What is checked here needs no store and no network: the file, what it names, and the declarations of the tools.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, TypeAlias

import orjson
from pydantic import ValidationError

from remit.core import canonical
from remit.core.errors import RemitError
from remit.core.labels import DataClass
from remit.core.money import nano_usd
from remit.core.tools import Declared, ToolSpec
from remit.governance import conditions, delegation, source
from remit.governance.hooks import hooks_of
from remit.governance.memories import NOTE_TOOLS, memory_grant
from remit.governance.remit import (
    ApprovalRequirement,
    AskedAgent,
    NamedToolset,
    RateLimit,
    Remit,
    reachable,
)
from remit.governance.salvage import salvage
from remit.governance.schedules import schedules_of
from remit.governance.schema import CLASS_RULE, Agent, ApprovalRule, GovernanceFile
from remit.governance.shapes import plain, schema_problem
from remit.governance.source import ConfigError, ConfigErrors, Document, Path
from remit.governance.toolsets import SUPPORT, SupportToolset, Toolset

SPAN_S: Mapping[str, int] = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
DEFAULTS = 1
"""To be raised where a default of the governance file changes: its files then mean something else."""

NO_CHANGES: Mapping[str, str] = MappingProxyType({})
_RATE_KEY = re.compile(r"max_([a-z][a-z0-9_]*)_per_(second|minute|hour|day)")

ReadFile: TypeAlias = Callable[[str], str]
"""The text of a file by its path, which is relative to the governance file. Raises: RemitError."""

LoadAgent: TypeAlias = Callable[[str], Remit]
"""The remit of another agent by the path of its file, relative too. Raises: RemitError, ConfigErrors."""

Declare: TypeAlias = Callable[[str, Toolset], Declared]
"""The tools of a toolset by its name and section. Raises: RemitError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a governance file names, beside itself. What is not given here, is not there."""

    read_file: ReadFile | None = None
    load_agent: LoadAgent | None = None
    declare: Declare | None = None


def parse(
    text: str,
    file: str,
    tools: Sequence[ToolSpec],
    *,
    changes: Mapping[str, str] = NO_CHANGES,
    around: Surroundings = Surroundings(),
) -> Remit:
    """Compile the governance file `text` against the tools there are.

    `file` is the name that errors carry; `changes` take the place of keys of the file (`model`,
    `answer_schema`), and make another remit of it. `around`: what the file names.
    Raises: ConfigErrors.
    """
    document = source.scan(text, file)
    errors = list(document.errors)
    if any(error.code != "config.duplicate_key" for error in errors):
        raise ConfigErrors(errors)  # a value is missing: what else seems wrong may only follow from that
    try:
        parsed = GovernanceFile.model_validate(document.value)
    except ValidationError as error:
        errors += source.schema_errors(document, GovernanceFile, error).errors
        salvaged = salvage(document.value, error)
        if salvaged is None:
            raise ConfigErrors(errors) from None
        parsed = salvaged
    agent = parsed.agent.model_copy(update=changes)
    compiler = _Compiler(document, agent, tools, around)
    remit = compiler.compile()
    if errors or compiler.errors:
        raise ConfigErrors(errors + compiler.errors)
    if "answer_schema" in changes:
        named = PurePath(changes["answer_schema"]).name
        return replace(remit, sources={**remit.sources, "answer_schema": named})
    return remit


class _Compiler:
    """Checks one well-formed file against the tools and makes the Remit of it."""

    def __init__(
        self,
        document: Document,
        agent: Agent,
        tools: Sequence[ToolSpec],
        around: Surroundings,
    ) -> None:
        self.document = document
        self.errors: list[ConfigError] = []
        # the schema itself and not its path, so that the digest covers what it says
        self.agent = agent.model_copy(update={"answer_schema": self._answer_schema(agent, around.read_file)})
        self.agents = tuple(self._agents(around.load_agent))
        self.toolsets = tuple(self._toolsets(around.declare))
        self.tools = {tool.name: tool for tool in (*tools, *(asked.tool for asked in self.agents))}
        self._add_tools()
        self._granted = self._allowed_tools()
        self._reachable = reachable(self._granted, self.tools.values())
        self._check_uses()

    def compile(self) -> Remit:
        agent = self.agent
        access = agent.data_access
        costs = agent.cost_controls
        return Remit(
            agent=agent.name,
            model=agent.model,
            fallback_models=tuple(agent.fallback_models),
            digest=self._digest(),
            instructions=agent.instructions or f"You are {agent.name}. Use the tools; answer plainly.",
            max_retries=agent.max_retries,
            max_concurrent_runs=agent.max_concurrent_runs,
            max_queued_runs=agent.max_queued_runs,
            max_steps=agent.max_steps,
            max_output_tokens=agent.max_output_tokens,
            result_bytes_max=agent.max_result_bytes,
            allowed_tools=self._granted,
            denied_classes=frozenset(name for name in CLASS_RULE if not self._allows(name)),
            records_max=access.max_records_per_query,
            rate_limits=self._rate_limits(),
            cap_day_nano_usd=nano_usd(costs.max_daily_spend_usd),
            cap_run_nano_usd=nano_usd(costs.max_cost_per_run_usd),
            alert_percent=int(costs.alert_on_threshold * 100),
            timezone=costs.timezone,
            run_timeout_s=float(agent.timeouts.run_s),
            model_timeout_s=float(agent.timeouts.model_call_s),
            tool_timeout_s=float(agent.timeouts.tool_call_s),
            approvals=tuple(self._approvals()),
            support=self._support(),
            toolsets=self.toolsets,
            answer_schema=agent.answer_schema if isinstance(agent.answer_schema, dict) else None,
            memory=memory_grant(agent.memory),
            agents=self.agents,
            height=max((1 + asked.remit.height for asked in self.agents), default=0),
            max_agent_depth=agent.max_agent_depth,
            webhooks=hooks_of(one.model_dump() for one in agent.webhooks),
            schedules=schedules_of(one.model_dump() for one in agent.schedules),
            sources=self.document.places("agent"),
        )

    def _digest(self) -> str:
        """Of what the file says beyond the defaults: a key that a later version adds changes no file's digest."""
        try:
            covered = self.agent.model_dump(mode="json", exclude={"agents"}, exclude_defaults=True)
            covered["defaults"] = DEFAULTS
            # what an agent may do that is asked, and not where that is written
            if self.agents:
                covered["agents"] = {
                    asked.tool.name: [asked.tool.description, asked.remit.digest] for asked in self.agents
                }
            if self.toolsets:
                covered["declared"] = {named.name: named.declared.digest for named in self.toolsets}
            return canonical.digest(canonical.canonical(covered))
        except (RemitError, ValueError) as error:
            reason = error.message if isinstance(error, RemitError) else "a text is not Unicode"
            place: Path = ("approvals",) if self.agent.approvals else ()
            self._fail(place, "config.out_of_range", reason, "use numbers and texts that JSON has")
            return ""

    def _agents(self, load_agent: LoadAgent | None) -> Iterable[AskedAgent]:
        digests = {self.agent.name: ""}
        for name, given in self.agent.agents.items():
            place: Path = ("agents", name, "config")
            try:
                if load_agent is None:
                    raise RemitError("config.missing", "there are no files to read here")
                remit = load_agent(given.config)
                for one in remit.family():
                    if digests.setdefault(one.agent, one.digest) != one.digest:
                        message = f"{one.agent} stands here twice, or leads back to itself"
                        raise RemitError("config.circular", message)
                if remit.height >= self.agent.max_agent_depth:
                    message = f"agents are nested deeper than max_agent_depth ({self.agent.max_agent_depth})"
                    raise RemitError("config.out_of_range", message)
            except ConfigErrors as error:
                self.errors += error.errors  # they stand in its own file
            except RemitError as error:
                self._fail(place, error.code, error.message, error.remedy)
            else:
                tool = delegation.ask_tool(name, given.description, remit.agent)
                yield AskedAgent(config=given.config, tool=tool, remit=remit)

    def _support(self) -> SupportToolset:
        given = self.agent.toolsets.get(SUPPORT)
        return given if isinstance(given, SupportToolset) else SupportToolset()

    def _toolsets(self, declare: Declare | None) -> Iterable[NamedToolset]:
        for name, section in self.agent.toolsets.items():
            if name == SUPPORT:
                continue  # its declarations are built in, and given with the tools there are
            try:
                if declare is None:
                    raise RemitError("config.missing", "there are no toolsets here")
                yield NamedToolset(name, section, declare(name, section))
            except RemitError as error:
                self._fail(("toolsets", name), error.code, error.message, error.remedy)

    def _add_tools(self) -> None:
        """The tools of the toolsets, each of which has a name of its own and declares what makes sense."""
        declared = [tool for named in self.toolsets for tool in named.declared.specs]
        allowed = reachable(self.agent.allowed_tools, declared)
        for named in self.toolsets:
            place: Path = ("toolsets", named.name)
            for tool in named.declared.specs:
                if tool.name in self.tools:
                    message = f"there is another tool named {tool.name!r}"
                    self._fail(place, "config.duplicate_key", message, "give one of them another name")
                    continue
                if tool.name in allowed and (problem := schema_problem(tool.args_schema)):
                    message = f"the arguments of {tool.name} have a schema that is not used: {problem}"
                    self._fail(place, "config.invalid", message, "use another tool, or mend it")
                keys = tool.args_schema.get("properties", {})
                if tool.rate_key is not None and tool.rate_key not in keys:
                    message = f"{tool.name} has no argument {tool.rate_key!r} for a rate_key"
                    self._fail(
                        place, "config.unknown_key", message, source.nearest(tool.rate_key, keys, "name one")
                    )
                self.tools[tool.name] = tool

    def _answer_schema(self, agent: Agent, read_file: ReadFile | None) -> dict[str, Any] | None:
        given = agent.answer_schema
        place: Path = ("answer_schema",)
        name = "answer_schema"
        try:
            if isinstance(given, str):
                name = f"{name} {given}"
                if read_file is None:
                    raise RemitError("config.missing", "there are no files to read here")
                given = orjson.loads(read_file(given))
            if given is None:
                return None
            schema = plain(given)
            problem = schema_problem(schema)
        except orjson.JSONDecodeError as error:
            problem = f"it is not JSON: {error}"
        except RemitError as error:
            problem = error.message
        if problem:
            self._fail(place, "config.invalid", f"{name}: {problem}", "give a JSON Schema of an object")
            return None
        return dict(schema)

    def _allows(self, data_class: DataClass) -> bool:
        access = self.agent.data_access
        return {
            "public": True,
            "pii": access.allow_pii,
            "financial": access.allow_financial,
            "internal": access.allow_internal_docs,
        }[data_class]

    def _fail(self, path: Path, code: str, message: str, remedy: str) -> None:
        self.errors.append(self.document.error(("agent", *path), code, message, remedy))

    def _allowed_tools(self) -> tuple[str, ...]:
        for index, name in enumerate(self.agent.allowed_tools):
            place = ("allowed_tools", index)
            if name not in self.tools:
                if len(self.toolsets) < len(self.agent.toolsets.keys() - {SUPPORT}):
                    continue  # one of them is wrong, and may be where the tool is
                remedy = source.nearest(name, self.tools, "use one of " + ", ".join(sorted(self.tools)))
                self._fail(place, "config.unknown_tool", f"there is no tool {name!r}", remedy)
            elif name in self.agent.allowed_tools[:index]:
                self._fail(
                    place, "config.duplicate_key", f"the tool {name!r} stands twice", "keep one of the two"
                )
            elif name in NOTE_TOOLS:
                self._fail(
                    place, "config.invalid", f"{name} is granted elsewhere", "write memory: {notes: true}"
                )
        return tuple(self.agent.allowed_tools) + (NOTE_TOOLS if self.agent.memory.notes else ())

    def _check_uses(self) -> None:
        """What tools may call within a call of their own: tools that do what they do themselves."""
        for named in self.toolsets:
            users = [spec for spec in named.declared.specs if spec.uses]
            for name in dict.fromkeys(name for spec in users for name in spec.uses):
                place: Path = ("toolsets", named.name, "uses")
                users_of = [spec for spec in users if name in spec.uses]
                used = self.tools.get(name)
                if used is None:
                    remedy = source.nearest(name, self.tools, "name a tool of another toolset")
                    self._fail(place, "config.unknown_tool", f"there is no tool {name!r}", remedy)
                elif used.uses or used.agent is not None or name in NOTE_TOOLS:
                    message = (
                        f"{name} is not to be used by a tool: it calls others, asks an agent or keeps notes"
                    )
                    self._fail(place, "config.invalid", message, "have the agent call it")
                elif used.effect == "write" and (reads := [one for one in users_of if one.effect != "write"]):
                    message = f"{reads[0].name} may use {name}, which writes, and declares effect: {reads[0].effect}"
                    self._fail(place, "config.invalid", message, "declare effect: write")

    def _rate_limits(self) -> tuple[RateLimit, ...]:
        groups = sorted({tool.rate_group for tool in self.tools.values() if tool.rate_group})
        limits = []
        for key, limit in self.agent.rate_limits.items():
            match = _RATE_KEY.fullmatch(key)
            if match is None:
                remedy = "write max_<group>_per_<second|minute|hour|day>"
                self._fail(("rate_limits", key), "config.unknown_key", f"{key!r} is not a rate limit", remedy)
                continue
            group, span = match.groups()
            if group not in groups:
                message = f"there is no rate group {group!r}; there are {', '.join(groups) or 'none'}"
                remedy = source.nearest(group, groups, "use one of the groups there are")
                self._fail(("rate_limits", key), "config.unknown_rate_group", message, remedy)
                continue
            limits.append(RateLimit(group=group, limit=limit, span_s=SPAN_S[span], rule=f"rate_limits.{key}"))
        return tuple(limits)

    def _approvals(self) -> Iterable[ApprovalRequirement]:
        for index, rule in enumerate(self.agent.approvals):
            place: Path = ("approvals", index)
            tool = self.tools.get(rule.tool)
            if tool is None or rule.tool not in self._reachable:
                message = f"the tool {rule.tool!r} is not granted, so this never fires"
                remedy = source.nearest(rule.tool, self._granted, "name a tool of allowed_tools")
                self._fail((*place, "tool"), "config.rule_never_fires", message, remedy)
                continue
            denied = next((name for name in tool.classes if not self._allows(name)), None)
            if denied is not None:
                message = f"{rule.tool} returns {denied} data, which is denied before anybody is asked"
                remedy = f"allow it by {CLASS_RULE[denied]}, or remove the rule"
                self._fail((*place, "tool"), "config.rule_never_fires", message, remedy)
            for path, tests in rule.when.items():
                problem = conditions.problem_of(tool, path, tests)
                if problem is not None:
                    self._fail((*place, "when", path), "config.rule_never_fires", *problem)
            self._check_people(place, rule)
            if self.errors:
                continue
            yield ApprovalRequirement(
                tool=rule.tool,
                tests=tuple(conditions.compile_test(path, tests) for path, tests in rule.when.items()),
                conditions=rule.when,
                reason=rule.reason,
                expires_s=rule.expires_s,
                rule=f"approvals.{index}",
                roles=tuple(rule.roles),
                quorum=rule.quorum,
                remind_after_s=rule.remind_after_s,
                escalate_after_s=rule.escalate_after_s,
                escalate_to=tuple(rule.escalate_to),
            )

    def _check_people(self, place: Path, rule: ApprovalRule) -> None:
        for key in ("remind_after_s", "escalate_after_s"):
            after_s = getattr(rule, key)
            if after_s is not None and after_s >= rule.expires_s:
                message = f"{key} is not before expires_s ({rule.expires_s}), so it never comes"
                self._fail((*place, key), "config.rule_never_fires", message, "make it shorter")
        if bool(rule.escalate_to) != (rule.escalate_after_s is not None):
            message = "escalate_to and escalate_after_s need each other"
            self._fail(place, "config.missing_key", message, "give both, or neither")
