"""Conditions on a tool's arguments, typed against the tool's schema.

A condition that no valid call can meet is an error at load: a rule that never fires protects nobody.
An argument that a call leaves out meets every condition, and so does a value of a kind that a condition says nothing of:
neither leaving it out nor sending it another way evades one.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from jsonschema_rs import ValidationError

from remit.core.tools import ToolSpec
from remit.governance import source
from remit.governance.shapes import validator

Test: TypeAlias = Callable[[Any], bool]
Problem: TypeAlias = tuple[str, str]
"""What is wrong, and the remedy."""

_TYPES_OF = {
    "eq": {"string", "number", "integer", "boolean"},
    "ne": {"string", "number", "integer", "boolean"},
    "in": {"string", "number", "integer"},
    "not_in": {"string", "number", "integer"},
    "gt": {"number", "integer"},
    "ge": {"number", "integer"},
    "lt": {"number", "integer"},
    "le": {"number", "integer"},
    "matches": {"string"},
    "not_matches": {"string"},
    "longer_than": {"string", "array"},
}
OPERATORS = tuple(_TYPES_OF)


def argument_schema(schema: Mapping[str, Any], path: str) -> Mapping[str, Any] | None:
    """The schema of the argument at a dotted `path`, or None where the tool has no such argument."""
    current: Mapping[str, Any] = schema
    for name in path.split("."):
        properties = current.get("properties", {})
        if name not in properties:
            return None
        current = properties[name]
    return current


def problem_of(tool: ToolSpec, path: str, conditions: Mapping[str, Any]) -> Problem | None:
    """What is wrong with the conditions on a tool's argument at a dotted `path`, or None."""
    schema = argument_schema(tool.args_schema, path)
    if schema is None:
        names = list(tool.args_schema.get("properties", {}))
        remedy = source.nearest(path, names, f"use one of {', '.join(names) or 'none'}")
        return f"{tool.name} has no argument {path!r}, so this never fires", remedy
    problem = check(schema, conditions)
    return None if problem is None else (f"{tool.name}.{path}: {problem[0]}", problem[1])


def check(schema: Mapping[str, Any], conditions: Mapping[str, Any]) -> Problem | None:
    """What is wrong with one argument's `conditions`, or None."""
    if not conditions:
        return "there is no condition", f"use one of {', '.join(OPERATORS)}"
    types = _types(schema)
    for operator, operand in conditions.items():
        if operator not in _TYPES_OF:
            return f"there is no condition {operator!r}", f"use one of {', '.join(OPERATORS)}"
        if types and not types & _TYPES_OF[operator]:
            return f"{operator} does not apply to {' or '.join(sorted(types))}", "use a condition of its type"
        problem = _operand_problem(operator, operand, types)
        if problem is not None:
            return problem, "give a value of the argument's type"
    same = "matches" in conditions and conditions["matches"] == conditions.get("not_matches")
    if same or not _satisfiable(schema, conditions, types):
        return (
            "no valid value of the argument can meet this",
            "mend the condition so that some call can meet it",
        )
    return None


def compile_test(path: str, conditions: Mapping[str, Any]) -> Test:
    """A function of the call's arguments that says whether every condition on `path` holds."""
    names = path.split(".")
    tests = [
        (_TYPES_OF[operator], _test(operator, _plain(operand))) for operator, operand in conditions.items()
    ]

    def holds(args: Any) -> bool:
        value = args
        for name in names:
            if not isinstance(value, Mapping) or name not in value:
                return True
            value = value[name]
        if value is None:
            return True
        kind = _type_of(value)
        return all(kind not in kinds or test(value) for kinds, test in tests)

    return holds


def _types(schema: Mapping[str, Any]) -> set[str]:
    declared = schema.get("type", [])
    return {declared} if isinstance(declared, str) else set(declared) - {"null"}


def _plain(operand: Any) -> Any:
    """The operand as JSON has it: an exact decimal becomes the number a call would carry."""
    if isinstance(operand, Decimal):
        return float(operand)
    return [_plain(item) for item in operand] if isinstance(operand, list) else operand


def _operand_problem(operator: str, operand: Any, types: set[str]) -> str | None:
    if operator in ("in", "not_in"):
        if not isinstance(operand, list) or not operand:
            return f"{operator} takes a list that is not empty"
        problems = (_operand_problem("eq", item, types) for item in operand)
        return next((problem for problem in problems if problem), None)
    if operator == "longer_than":
        whole = isinstance(operand, int) and not isinstance(operand, bool)
        return None if whole and operand >= 0 else "longer_than takes a whole number"
    kind = _type_of(operand)
    if operator in ("matches", "not_matches"):
        return None if kind == "string" else f"{operator} takes a text with * and ?"
    if operator in ("gt", "ge", "lt", "le"):
        return None if kind in ("integer", "number") else f"{operator} takes a number"
    if not types or kind in types or (kind == "integer" and "number" in types):
        return None
    return f"{operand!r} is {kind}, the argument is {' or '.join(sorted(types))}"


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, Decimal | float):
        return "number"
    if isinstance(value, list):
        return "array"
    return "string" if isinstance(value, str) else type(value).__name__


def _test(operator: str, operand: Any) -> Test:
    match operator:
        case "eq":
            return lambda value: bool(value == operand)
        case "ne":
            return lambda value: bool(value != operand)
        case "in":
            return lambda value: value in operand
        case "not_in":
            return lambda value: value not in operand
        case "gt":
            return lambda value: bool(value > operand)
        case "ge":
            return lambda value: bool(value >= operand)
        case "lt":
            return lambda value: bool(value < operand)
        case "le":
            return lambda value: bool(value <= operand)
        case "longer_than":
            return lambda value: len(value) > operand
    pattern = re.compile(fnmatch.translate(operand.casefold()))
    if operator == "matches":
        return lambda value: pattern.match(value.casefold()) is not None
    return lambda value: pattern.match(value.casefold()) is None


def _satisfiable(schema: Mapping[str, Any], conditions: Mapping[str, Any], types: set[str]) -> bool:
    candidates = _candidates(schema, conditions, types)
    if candidates is not None:
        try:
            shape = validator(schema)
        except ValidationError:
            return True  # a schema that cannot stand alone: nobody can say
        tests = [_test(operator, _plain(operand)) for operator, operand in conditions.items()]
        return any(
            shape.is_valid(candidate) and all(test(candidate) for test in tests) for candidate in candidates
        )
    if "longer_than" in conditions:
        limit = schema.get("maxLength", schema.get("maxItems"))
        if limit is not None and conditions["longer_than"] >= limit:
            return False
    if types & {"number", "integer"}:
        return _range_has_room(schema, conditions, whole=types == {"integer"})
    return True


def _candidates(
    schema: Mapping[str, Any], conditions: Mapping[str, Any], types: set[str]
) -> list[Any] | None:
    """The only values that can meet the conditions, or None where they are not finitely many."""
    if "eq" in conditions:
        return [_plain(conditions["eq"])]
    if "in" in conditions:
        return [_plain(item) for item in conditions["in"]]
    if "const" in schema:
        return [schema["const"]]
    if "enum" in schema:
        return [value for value in schema["enum"] if value is not None]
    return [True, False] if types == {"boolean"} else None


def _range_has_room(schema: Mapping[str, Any], conditions: Mapping[str, Any], *, whole: bool) -> bool:
    low, high = -math.inf, math.inf
    low_open = high_open = False
    lower = [(schema.get("minimum"), False), (schema.get("exclusiveMinimum"), True)]
    lower += [(conditions.get("ge"), False), (conditions.get("gt"), True)]
    upper = [(schema.get("maximum"), False), (schema.get("exclusiveMaximum"), True)]
    upper += [(conditions.get("le"), False), (conditions.get("lt"), True)]
    for bound, is_open in lower:
        if bound is not None and (float(bound), is_open) > (low, low_open):
            low, low_open = float(bound), is_open
    for bound, is_open in upper:
        if bound is not None and (float(bound), not is_open) < (high, not high_open):
            high, high_open = float(bound), is_open
    if whole and math.isfinite(low):
        low = math.floor(low) + 1 if low_open else math.ceil(low)
        low_open = False
    if whole and math.isfinite(high):
        high = math.ceil(high) - 1 if high_open else math.floor(high)
        high_open = False
    return low < high or (low == high and not low_open and not high_open)
