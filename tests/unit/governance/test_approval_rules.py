"""What a governance file can say of who decides, and what it cannot."""

from __future__ import annotations

import pytest

from remit.core.tools import ToolSpec
from remit.governance.compiler import parse
from remit.governance.conditions import compile_test
from remit.governance.describe import describe
from remit.governance.source import ConfigErrors

PAY = ToolSpec(name="pay", description="p", args_schema={"type": "object", "properties": {}})
FILE = """agent:
  name: a
  model: m
  allowed_tools: [pay]
  approvals:
    - {{tool: pay, expires_s: 100, {more}}}
  cost_controls: {{max_daily_spend_usd: 5, max_cost_per_run_usd: 1}}
"""


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ("roles: [lead, cfo]", "have a person (lead or cfo) approve pay, always"),
        ("quorum: 2", "have 2 people approve pay, always"),
        (
            "roles: [lead], escalate_after_s: 50, escalate_to: [cfo]",
            "have a person (lead), after 50 s also cfo, approve pay, always",
        ),
    ],
)
def test_who_decides_is_said_in_plain_words(more: str, text: str) -> None:
    remit = parse(FILE.format(more=more), "f.yaml", (PAY,))
    assert text in [one.text for one in describe(remit, (PAY,))]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ("remind_after_s: 100", "config.rule_never_fires"),
        ("escalate_after_s: 100, escalate_to: [cfo]", "config.rule_never_fires"),
        ("escalate_after_s: 50", "config.missing_key"),
        ("escalate_to: [cfo]", "config.missing_key"),
        ("quorum: 0", "config.out_of_range"),
        ("quorum: 1.5", "config.wrong_type"),
        ("role: lead", "config.unknown_key"),
    ],
)
def test_what_cannot_be_meant_is_an_error_at_its_line(more: str, code: str) -> None:
    with pytest.raises(ConfigErrors) as refused:
        parse(FILE.format(more=more), "f.yaml", (PAY,))
    assert [(error.code, error.position.line) for error in refused.value.errors] == [(code, 6)]


def test_who_decides_is_part_of_the_remit() -> None:
    digests = {parse(FILE.format(more=f"quorum: {n}"), "f.yaml", (PAY,)).digest for n in (1, 2)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("condition", "value", "asks"),
    [
        ({"matches": "*@evil.example"}, "a@evil.example", True),
        ({"matches": "*@evil.example"}, "a@good.example", False),
        ({"matches": "*@evil.example"}, 5, True),
        ({"gt": 100}, 50, False),
        ({"gt": 100}, 50.5, False),
        ({"gt": 100}, "1e9", True),
        ({"eq": "all"}, ["all"], True),
        ({"eq": "all"}, "some", False),
        ({"longer_than": 3}, 12345, True),
        ({"longer_than": 3}, [1, 2], False),
        ({"in": ["a"]}, {"a": 1}, True),
        ({"gt": 100}, True, True),
    ],
)
def test_a_value_of_another_kind_evades_no_condition(
    condition: dict[str, object], value: object, asks: bool
) -> None:
    assert compile_test("to", condition)({"to": value}) is asks
