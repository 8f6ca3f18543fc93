"""The remit's rules as closures, indexed by tool: what is not granted is denied, and deny overrides.

A decision costs the same with ten rules and with a thousand: only the rules of the named tool run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from remit.core import actions, canonical
from remit.core.actions import Action, MemoryRead, MemoryWrite, ModelCall, Release, ToolCall
from remit.core.canonical import Json
from remit.core.decisions import Constraints, Decision
from remit.core.errors import CODES
from remit.core.memory import Seen
from remit.core.messages import ToolOffer
from remit.core.tools import ToolSpec
from remit.governance.memories import NOTE_TOOLS
from remit.governance.remit import ApprovalRequirement, RateLimit, Remit
from remit.governance.schema import CLASS_RULE
from remit.governance.shapes import AnswerShape, explain, validator

Rule: TypeAlias = Callable[[Json], Decision | None]
"""A rule of one tool: a decision on the call's arguments, or None where it has nothing to say."""


class Rules:
    """The decisions of one remit about the tools it was compiled against."""

    def __init__(self, remit: Remit, tools: Sequence[ToolSpec]) -> None:
        self.remit = remit
        tools = (*tools, *(asked.tool for asked in remit.agents))
        reachable = remit.reachable_tools
        self.tools: Mapping[str, ToolSpec] = {tool.name: tool for tool in tools if tool.name in reachable}
        granted = frozenset(remit.allowed_tools)
        # what a model is told of the tools: the same for every run, so made and digested once
        self.offers = tuple(
            ToolOffer(name=tool.name, description=tool.description, args_schema=tool.args_schema)
            for tool in self.tools.values()
            if tool.name in granted
        )
        self.offers_digest = actions.offers_digest(self.offers)
        self._declared = frozenset(tool.name for tool in tools)
        self._limits = {
            name: tuple(limit for limit in remit.rate_limits if limit.group == tool.rate_group)
            for name, tool in self.tools.items()
        }
        self._rules = {name: self._compile(tool) for name, tool in self.tools.items()}
        self._allow_tool = {name: self._allowed(self.tools[name]) for name in self.tools if name in granted}
        self._users = {
            spec.name: f"toolsets.{named.name}.uses"
            for named in remit.toolsets
            for spec in named.declared.specs
        }
        self._uses = {
            name: {used: self._allowed(self.tools[used], name) for used in tool.uses if used in self.tools}
            for name, tool in self.tools.items()
            if tool.uses
        }
        self._requirements = {requirement.rule: requirement for requirement in remit.approvals}
        model_bounds = Constraints(timeout_s=remit.model_timeout_s, output_bytes_max=remit.result_bytes_max)
        self._models = {remit.model: self._allow("model", model_bounds)}
        for index, name in enumerate(remit.fallback_models):
            self._models.setdefault(name, self._allow(f"fallback_models.{index}", model_bounds))
        self._answer = None if remit.answer_schema is None else AnswerShape(remit.answer_schema)
        own = Constraints(
            timeout_s=remit.tool_timeout_s,
            output_bytes_max=remit.result_bytes_max,
            denied_classes=remit.denied_classes,
        )
        self._allow_release = self._allow("agent", own)
        self._allow_session = self._allow("memory.sessions", own)

    def decide(self, action: Action, seen: Seen | None = None) -> Decision:
        """The decision on `action` by the remit's rules alone; an action of no known kind is denied.

        `seen`: the labels of what the run has been shown, where it may remember anything.
        """
        if action.place.step > self.remit.max_steps:
            reason = f"the run has used its {self.remit.max_steps} steps"
            return self.deny("steps.exhausted", "max_steps", reason)
        if isinstance(action, ToolCall):
            if action.resource in NOTE_TOOLS and (
                unkept := self._unkept(action.resource == "remember", seen)
            ):
                return unkept
            return self._decide_tool(action)
        if isinstance(action, ModelCall):
            if not self._allow_tool.keys() >= {offer.name for offer in action.request.tools}:
                return self.deny("tool.not_granted", "allowed_tools", "a tool is offered that is not granted")
            if action.resource == action.request.model and action.resource in self._models:
                return self._models[action.resource]
            return self.deny("policy.denied", "model", f"the model {action.resource!r} is not granted")
        if isinstance(action, Release):
            return self._decide_answer(action.args_value()["answer"]) or self._allow_release
        if isinstance(action, MemoryRead | MemoryWrite):
            return self._decide_session(action, seen)
        return self.deny("policy.denied", "agent", f"there is no rule for {type(action).__name__}")

    def name_of(self, tool: str) -> str:
        """The name of a declared tool; of any other, which a model made up and may say anything, its digest."""
        return (
            tool
            if tool in self._declared
            else f"unknown-{canonical.digest(tool.encode(errors='replace'))[:12]}"
        )

    def limits(self, tool: str) -> tuple[RateLimit, ...]:
        """The rate limits that hold for `tool`."""
        return self._limits[tool]

    def requirement(self, rule: str) -> ApprovalRequirement:
        """The approval requirement that `rule` names."""
        return self._requirements[rule]

    def deny(self, code: str, rule: str, reason: str) -> Decision:
        """A denial by `rule`, with its place in the file."""
        return Decision(
            effect="deny",
            code=code,
            rule=rule,
            source=self.remit.source(rule),
            reason=reason,
            remedy=CODES[code].remedy,
        )

    def _decide_tool(self, action: ToolCall) -> Decision:
        within = action.place.within
        grants = self._uses.get(within, _NONE) if within else self._allow_tool
        allowed = grants.get(action.resource)
        if allowed is None:
            known = action.resource in self._declared
            reason = (
                f"the tool {action.resource!r} is not granted to {within or 'this agent'}"
                if known
                else "there is no such tool"
            )
            return self.deny("tool.not_granted", self._rule_of(within), reason)
        if action.fault is not None:
            return self.deny("args.invalid", "allowed_tools", f"{action.resource}: {action.fault}")
        args = action.args_value()
        for rule in self._rules[action.resource]:
            decision = rule(args)
            if decision is not None:
                return decision
        return allowed

    def _decide_answer(self, answer: str) -> Decision | None:
        """The denial of an answer that may not be given."""
        problem = "" if self._answer is None else self._answer.problem(answer)
        return self.deny("answer.invalid", "answer_schema", problem) if problem else None

    def _decide_session(self, action: MemoryRead | MemoryWrite, seen: Seen | None) -> Decision:
        grant = self.remit.memory
        if grant is None or not grant.sessions:
            return self.deny("memory.not_granted", "memory.sessions", "this agent is not granted sessions")
        writes = isinstance(action, MemoryWrite)
        answer = action.args_value().get("answer")  # an answer that will not be given is not kept either
        invalid = None if answer is None else self._decide_answer(answer)
        return invalid or self._unkept(writes, seen) or self._allow_session

    def _unkept(self, writes: bool, seen: Seen | None) -> Decision | None:
        """The denial of keeping anything after what the run has been shown."""
        grant = self.remit.memory
        if grant is None or seen is None:
            return self.deny("memory.not_granted", "memory", "this agent is not granted a memory")
        unkept = [name for name in seen.ordered if name not in grant.kept] if writes else []
        if not unkept:
            return None
        reason = f"the run has been shown data of the class {unkept[0]}, which may not be kept"
        return self.deny("data.denied", "memory.keep_classes", reason)

    def _compile(self, tool: ToolSpec) -> tuple[Rule, ...]:
        """The tool's rules, denials first: the first that speaks decides."""
        rules: list[Rule] = []
        for data_class in tool.classes:
            if data_class in self.remit.denied_classes:
                reason = f"{_CLASS_WORDS[data_class]} access is not permitted for this agent ({tool.name})"
                denial = self.deny("data.denied", CLASS_RULE[data_class], reason)
                rules.append(_always(denial))
        rules.append(self._schema_rule(tool))
        rules += [
            self._approval_rule(requirement, tool)
            for requirement in self.remit.approvals
            if requirement.tool == tool.name
        ]
        return tuple(rules)

    def _schema_rule(self, tool: ToolSpec) -> Rule:
        shape = validator(closed(tool.args_schema))

        def rule(args: Json) -> Decision | None:
            if shape.is_valid(args):
                return None
            error = next(iter(shape.iter_errors(args)))
            return self.deny(
                "args.invalid", "allowed_tools", f"{tool.name}: {explain(error, 'the arguments')}"
            )

        return rule

    def _approval_rule(self, requirement: ApprovalRequirement, tool: ToolSpec) -> Rule:
        decision = Decision(
            effect="require_approval",
            code="approval.required",
            rule=requirement.rule,
            source=self.remit.source(requirement.rule),
            reason=requirement.reason,
            remedy=CODES["approval.required"].remedy,
            constraints=self._allowed(tool).constraints,
        )

        def rule(args: Json) -> Decision | None:
            return decision if all(test(args) for test in requirement.tests) else None

        return rule

    def _rule_of(self, within: str) -> str:
        """The rule by which tools are granted to the run itself, or to a tool within its call."""
        return self._users.get(within, "toolsets") if within else "allowed_tools"

    def _allowed(self, tool: ToolSpec, within: str = "") -> Decision:
        timeout_s = self.remit.tool_timeout_s if tool.agent is None else self.remit.run_timeout_s
        if tool.timeout_s is not None:
            timeout_s = min(timeout_s, tool.timeout_s)
        return self._allow(
            "memory.notes" if tool.name in NOTE_TOOLS else self._rule_of(within),
            Constraints(
                timeout_s=timeout_s,
                output_bytes_max=self.remit.result_bytes_max,
                records_max=None if tool.records is None else self.remit.records_max,
                denied_classes=self.remit.denied_classes,
            ),
        )

    def _allow(self, rule: str, constraints: Constraints) -> Decision:
        return Decision(
            effect="allow",
            code="allowed",
            rule=rule,
            source=self.remit.source(rule),
            reason="granted",
            constraints=constraints,
        )


_NONE: Mapping[str, Decision] = {}
_CLASS_WORDS = {
    "pii": "PII",
    "financial": "financial data",
    "internal": "internal document",
    "public": "public",
}


def _always(decision: Decision) -> Rule:
    return lambda _: decision


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a tool's arguments, closed: a field that nobody declared is denied."""
    return _closed({"properties": {}} | dict(schema))


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(schema)
    properties = result.get("properties")
    if isinstance(properties, Mapping):
        result["properties"] = {
            name: _closed(inner) if isinstance(inner, Mapping) else inner
            for name, inner in properties.items()
        }
        if not {"additionalProperties", "unevaluatedProperties"} & result.keys():
            composed = {"allOf", "anyOf", "oneOf", "$ref"} & result.keys()
            result["unevaluatedProperties" if composed else "additionalProperties"] = False
    if isinstance(result.get("items"), Mapping):
        result["items"] = _closed(result["items"])
    return result
