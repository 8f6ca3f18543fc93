"""A remit in plain words: what the agent may do, what it may not, and by which line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remit.core.labels import DATA_CLASSES
from remit.core.money import format_usd
from remit.core.tools import ToolSpec
from remit.governance.memories import NOTE_TOOLS, MemoryGrant
from remit.governance.remit import ApprovalRequirement, RateLimit, Remit
from remit.governance.schedules import clock_time, ticks
from remit.governance.schema import CLASS_RULE

_DAY_US = 86_400_000_000
_SPANS = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}
_CLASSES = {
    "pii": "personal data (pii)",
    "financial": "financial data",
    "internal": "internal documents",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One sentence. `verdict`: `may`, `must` (an obligation or a cap) or `may not`. `source`: file:line."""

    verdict: str
    text: str
    rule: str
    source: str


def describe(remit: Remit, tools: Sequence[ToolSpec], now_us: int = 0) -> list[Statement]:
    """Everything the remit grants, caps and denies, in that order. `now_us`: the next ticks are those after it."""
    specs = {tool.name: tool for tool in (*tools, *(asked.tool for asked in remit.agents))}
    granted = [specs[name] for name in remit.allowed_tools if name in specs]
    return [
        *_grants(remit, granted),
        *_caps(remit, granted),
        *_starts(remit, now_us),
        *_denials(remit, granted, specs),
    ]


def _grants(remit: Remit, granted: Sequence[ToolSpec]) -> list[Statement]:
    statements = [_say(remit, "may", f"ask the model {remit.model}", "model")]
    for index, name in enumerate(remit.fallback_models):
        text = f"ask the model {name} where the first is not available"
        statements.append(_say(remit, "may", text, f"fallback_models.{index}"))
    for index, tool in enumerate(granted):
        if set(tool.classes) & remit.denied_classes:
            continue
        does = {"pure": "compute with", "read": "read with", "write": "change things with"}[tool.effect]
        text = f"{does} {tool.name}" if tool.agent is None else f"ask the agent {tool.agent} ({tool.name})"
        rule = "memory.notes" if tool.name in NOTE_TOOLS else f"allowed_tools.{index}"
        statements.append(_say(remit, "may", text, rule))
    for named in remit.toolsets:
        users = [spec for spec in named.declared.specs if spec.uses and spec in granted]
        for used in dict.fromkeys(name for spec in users for name in spec.uses):
            by = ", ".join(spec.name for spec in users if used in spec.uses)
            text = f"have {used} called within calls of {by}"
            statements.append(_say(remit, "may", text, f"toolsets.{named.name}.uses"))
    for name in DATA_CLASSES:
        if name != "public" and name not in remit.denied_classes:
            statements.append(_say(remit, "may", f"see {_CLASSES[name]}", CLASS_RULE[name]))
    return statements


def _caps(remit: Remit, granted: Sequence[ToolSpec]) -> list[Statement]:
    day, run = format_usd(remit.cap_day_nano_usd, 2), format_usd(remit.cap_run_nano_usd, 2)
    statements = [
        _say(remit, "must", f"spend at most {run} in one run", "cost_controls.max_cost_per_run_usd"),
        _say(
            remit,
            "must",
            f"spend at most {day} in one day ({remit.timezone})",
            "cost_controls.max_daily_spend_usd",
        ),
        _say(
            remit,
            "must",
            f"raise an alert, once a day, at {remit.alert_percent} % of that",
            "cost_controls.alert_on_threshold",
        ),
        _say(remit, "must", f"have at most {remit.max_concurrent_runs} runs at once", "max_concurrent_runs"),
        _say(
            remit, "must", f"have at most {remit.max_queued_runs} runs of a tenant queued", "max_queued_runs"
        ),
        _say(remit, "must", f"end a run after {remit.max_steps} model calls", "max_steps"),
        _say(remit, "must", f"end a run after {remit.run_timeout_s:g} s", "timeouts.run_s"),
        _say(
            remit,
            "must",
            f"take at most {remit.records_max} records from one call",
            "data_access.max_records_per_query",
        ),
        _say(remit, "must", f"give up after {remit.max_retries} retries of a failed attempt", "max_retries"),
    ]
    if remit.answer_schema is not None:
        fields = ", ".join(remit.answer_schema.get("properties", {}))
        text = f"answer with JSON that fits the schema{f' ({fields})' if fields else ''}"
        statements.append(_say(remit, "must", text, "answer_schema"))
    statements += [_limit(remit, limit, granted) for limit in remit.rate_limits]
    if remit.memory is not None:
        statements += _memory(remit, remit.memory)
    for requirement in remit.approvals:
        when = _conditions(requirement.conditions)
        text = f"have {_approvers(requirement)} approve {requirement.tool}{when}"
        statements.append(_say(remit, "must", text, requirement.rule))
    return statements


def _memory(remit: Remit, grant: MemoryGrant) -> list[Statement]:
    statements = []
    if grant.sessions:
        days = grant.session_ttl_us // _DAY_US
        text = f"go on with the earlier runs of a session, {days} days back, {grant.session_tokens_max} tokens at most"
        statements.append(_say(remit, "may", text, "memory.sessions"))
    if grant.notes:
        most, days = grant.note_limits.entries_max, grant.note_ttl_us // _DAY_US
        statements.append(_say(remit, "must", f"keep at most {most} notes, for {days} days", "memory.notes"))
    unkept = [_CLASSES[name] for name in DATA_CLASSES if name not in grant.kept]
    if unkept:
        text = f"keep nothing of a run that was shown {' or '.join(unkept)}"
        statements.append(_say(remit, "must", text, "memory.keep_classes"))
    return statements


def _starts(remit: Remit, now_us: int) -> list[Statement]:
    missed = {
        "skip": "a tick that was missed is skipped",
        "once": "what was missed is made up for by one run",
    }
    statements = []
    for one in remit.schedules:
        coming = next(ticks(one, now_us), None)
        following = "" if coming is None else f", next {clock_time(coming, one.timezone)}"
        when = f"{one.in_words()} ({one.timezone}){following}"
        text = f"begin the task of {one.name}: {when}; {missed[one.missed]}"
        statements.append(_say(remit, "must", text, one.rule))
    for hook in remit.webhooks:
        text = (
            f"begin a task at each message to /hooks/{hook.name} that the secret in {hook.secret_env} signs"
        )
        statements.append(_say(remit, "must", text, hook.rule))
    return statements


def _approvers(requirement: ApprovalRequirement) -> str:
    """Who has to approve: `a person`, `2 people (lead or cfo)`, with what happens meanwhile."""
    count = "a person" if requirement.quorum == 1 else f"{requirement.quorum} people"
    roles = f" ({' or '.join(requirement.roles)})" if requirement.roles else ""
    if requirement.escalate_after_s is None:
        return count + roles
    also = f", after {requirement.escalate_after_s} s also {' or '.join(requirement.escalate_to)},"
    return f"{count}{roles}{also}"


def _limit(remit: Remit, limit: RateLimit, granted: Sequence[ToolSpec]) -> Statement:
    tools = [tool for tool in granted if tool.rate_group == limit.group]
    names = ", ".join(tool.name for tool in tools) or f"no granted tool ({limit.group})"
    keys = sorted({tool.rate_key for tool in tools if tool.rate_key})
    each = f", counted for each {keys[0]}" if keys else ""
    text = f"call {names} at most {limit.limit} times in any {_SPANS[limit.span_s]}{each}"
    return _say(remit, "must", text, limit.rule)


def _conditions(conditions: Mapping[str, Mapping[str, object]]) -> str:
    if not conditions:
        return ", always"
    tests = [
        f"{path} {operator} {operand}"
        for path, operators in conditions.items()
        for operator, operand in operators.items()
    ]
    return " when " + " and ".join(tests)


def _denials(remit: Remit, granted: Sequence[ToolSpec], specs: Mapping[str, ToolSpec]) -> list[Statement]:
    statements = []
    for tool in granted:
        denied = [name for name in tool.classes if name in remit.denied_classes]
        if denied:
            text = f"use {tool.name}: it returns {_CLASSES[denied[0]]}, though the tool itself is listed"
            statements.append(_say(remit, "may not", text, CLASS_RULE[denied[0]]))
    for name in DATA_CLASSES:
        if name in remit.denied_classes:
            statements.append(_say(remit, "may not", f"see {_CLASSES[name]}", CLASS_RULE[name]))
    others = sorted(set(specs) - remit.reachable_tools)
    text = "use any other tool" + (f" (such as {', '.join(others[:5])})" if others else "")
    statements.append(_say(remit, "may not", text, "allowed_tools"))
    return statements


def _say(remit: Remit, verdict: str, text: str, rule: str) -> Statement:
    return Statement(verdict=verdict, text=text, rule=rule, source=remit.source(rule))
