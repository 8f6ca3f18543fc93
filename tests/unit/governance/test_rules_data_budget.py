"""Rules, conditions, data classes and the budget's bound."""

from __future__ import annotations

import operator
import re
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.core import actions
from remit.core.decisions import Constraints
from remit.core.errors import RemitError
from remit.core.messages import Message, ModelRequest, Text
from remit.core.tools import ToolSpec
from remit.governance import bounds, conditions, data
from remit.governance.compiler import parse
from remit.governance.rules import Rules
from remit.testing.gate_world import FILE, PRINCIPAL, TOOLS

NUMBER = {"type": "integer", "minimum": 0, "maximum": 20}
OPERATORS: dict[str, Any] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
CONDITIONS = st.dictionaries(st.sampled_from(sorted(OPERATORS)), st.integers(-3, 23), min_size=1, max_size=3)


@given(CONDITIONS, st.integers(-5, 25))
def test_a_compiled_condition_is_the_naive_one(when: dict[str, int], value: int) -> None:
    holds = conditions.compile_test("a.b", when)
    assert holds({"a": {"b": value}}) == all(OPERATORS[name](value, bound) for name, bound in when.items())
    assert holds({})
    assert holds({"a": {}})
    assert holds({"a": {"b": None}})
    assert holds({"a": [value]})


@given(CONDITIONS)
def test_a_condition_said_never_to_fire_never_fires(when: dict[str, int]) -> None:
    fires = any(conditions.compile_test("n", when)({"n": value}) for value in range(21))
    problem = conditions.check(NUMBER, when)
    if problem is not None:
        assert not fires
    elif "ne" not in when:
        assert fires


@pytest.mark.parametrize(
    ("schema", "when"),
    [
        (NUMBER, {"gt": 20}),
        (NUMBER, {"eq": 21}),
        (NUMBER, {"gt": 3, "lt": 4}),
        (NUMBER, {"matches": "x"}),
        ({"type": "string", "maxLength": 5}, {"longer_than": 5}),
        ({"enum": ["a", "b"]}, {"not_in": ["a", "b"]}),
        ({"type": "boolean"}, {"in": [3]}),
        (NUMBER, {"near": 3}),
        (NUMBER, {}),
    ],
)
def test_rules_that_protect_nobody_are_found(schema: dict[str, Any], when: dict[str, Any]) -> None:
    assert conditions.check(schema, when) is not None


def rules() -> Rules:
    return Rules(parse(FILE, "f.yaml", TOOLS), TOOLS)


def decide(tool: str, args: Any) -> Any:
    place = actions.Place(run_id="r", step=1, name="t0", principal=PRINCIPAL)
    return rules().decide(actions.tool_call(place, tool, "c", args))


def test_a_decision_runs_the_rules_of_its_tool_alone() -> None:
    compiled = rules()
    asked: list[str] = []
    for name in compiled._rules:
        compiled._rules[name] = (lambda args, name=name: asked.append(name),)
    place = actions.Place(run_id="r", step=1, name="t0", principal=PRINCIPAL)
    compiled.decide(actions.tool_call(place, "note", "c", {"to": "x"}))
    assert asked == ["note"]


@pytest.mark.parametrize(
    "args",
    [
        {"to": "ann", "extra": 1},
        {"to": 4111111111111111},
        {"to": ["4111111111111111"]},
        {"more": {}},
        None,
        [],
    ],
)
def test_bad_arguments_are_denied_and_not_told(args: Any) -> None:
    decision = decide("note", args)
    assert (decision.effect, decision.code) == ("deny", "args.invalid")
    assert "4111111111111111" not in decision.explain()


ROWS = ToolSpec(
    name="rows",
    description="r",
    args_schema={},
    records="rows",
    record_class_field="class",
    field_classes={"email": "pii", "card": "financial"},
)
LIMITS = Constraints(
    timeout_s=1, output_bytes_max=10_000, records_max=3, denied_classes=frozenset({"pii", "internal"})
)


def test_denied_fields_are_masked_at_any_depth_and_denied_records_gone() -> None:
    rows = [
        {"class": "public", "email": "a@x", "card": 1, "in": [{"email": {"deep": "b@x"}}]},
        {"class": "internal", "text": "secret"},
        {"text": "of no class"},
        {"class": "unheard of"},
    ]
    result = data.clean({"rows": rows}, ROWS, LIMITS)
    text = orjson.dumps(result.value).decode()
    assert not re.search("@x|secret|of no class|unheard", text)
    assert (len(result.value["rows"]), result.classes) == (1, ("public", "financial"))


@given(st.integers(0, 10))
def test_records_are_capped_with_a_note(count: int) -> None:
    result = data.clean({"rows": [{"class": "public"}] * count}, ROWS, LIMITS)
    assert len(result.value["rows"]) == min(count, 3)
    assert result.truncated == (count > 3)


@pytest.mark.parametrize("rows", [{"class": "internal", "text": "secret"}, "secret", 5])
def test_a_result_whose_records_are_no_list_is_withheld(rows: Any) -> None:
    with pytest.raises(RemitError, match=r"value\.invalid"):
        data.clean({"rows": rows}, ROWS, LIMITS)


def test_a_record_of_no_class_that_may_be_seen_counts_as_the_most_secret() -> None:
    result = data.clean({"rows": [{"text": "x"}]}, ROWS, replace(LIMITS, denied_classes=frozenset()))
    assert set(result.classes) == {"internal", "pii", "financial"}


@given(st.text(max_size=300), st.text(max_size=100))
def test_no_tokenizer_counts_more_than_the_bound(text: str, system: str) -> None:
    message = Message(role="user", parts=(Text(text=text.encode(errors="replace").decode()),))
    request = ModelRequest(model="m", system=system, messages=(message,), tools=(), max_output_tokens=1)
    bound = bounds.input_tokens_max(request)
    sizes = [len(re.findall(r"\w+|\W", text)), len(text), len(text.encode(errors="replace"))]
    assert bound >= max(sizes) + len(system)


def test_a_ligature_is_bounded_by_what_it_unfolds_to() -> None:
    assert bounds.text_tokens_max("ﷺ" * 100) >= 1500


def test_a_text_that_is_json_has_fields_as_well() -> None:
    tool = ToolSpec(
        name="t", description="t", args_schema={}, field_classes={"email": "pii", "sum": "financial"}
    )
    told = {"result": '{"a": {"email": "ana@example.com"}, "a": [{"email": "ana@example.com", "sum": 1}]}'}
    denies = replace(LIMITS, denied_classes=frozenset({"pii"}))
    found = data.clean(told, tool, denies)
    assert found.value == {"result": '{"a":[{"email":"[redacted: pii]","sum":1}]}'}
    assert found.classes == ("financial",)
    hides = {"result": '{"a": {"email": "ana@example.com"}, "a": 1}'}
    assert "ana@" not in str(data.clean(hides, tool, denies).value)
    deep = {"result": "[" * 1_000 + '{"email": "ana@example.com"}' + "]" * 1_000}
    assert "ana@" not in str(data.clean(deep, tool, denies).value)
    for text in ("{no json", '"email"', "plain"):
        assert data.clean({"result": text}, tool, denies).value == {"result": text}
