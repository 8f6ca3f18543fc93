"""JSON values against JSON Schemas: whether they fit, and why not in words that repeat nothing of the value.

A schema refers to nothing outside of itself, and its patterns take time in proportion to the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson
from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

_MASK = "the value"


class AnswerShape:
    """The shape of a final answer: the JSON text of an object that fits a schema.

    Raises: ValueError where the schema is none.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._validator = validator(schema)

    def problem(self, answer: str) -> str:
        """Why `answer` does not fit; empty where it does."""
        try:
            value = orjson.loads(answer)
        except orjson.JSONDecodeError:
            return "the answer is not the text of one JSON value"
        if self._validator.is_valid(value):
            return ""
        return (
            f"the answer does not fit: {explain(next(iter(self._validator.iter_errors(value))), 'the whole')}"
        )


def explain(error: ValidationError, whole: str) -> str:
    """The validator's finding. It is masked: what the model sent may be personal, or huge."""
    place = ".".join(str(part) for part in error.instance_path)
    kind = type(error.kind).__name__
    undeclared = "AdditionalProperties" in kind or "UnevaluatedProperties" in kind
    message = "there is a field that is not declared" if undeclared else error.message[:300]
    return f"{place or whole}: {message}"


def schema_problem(schema: object) -> str:
    """Why `schema` cannot be that of an answer; empty where it can."""
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        return "it must be a JSON Schema with type: object, because providers give objects alone"
    try:
        validator(schema, mask=None)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.instance_path)
        return f"{place}: {error.message[:300]}" if place else error.message[:300]
    return ""


def validator(schema: Mapping[str, Any], mask: str | None = _MASK) -> Draft202012Validator:
    """What tells whether a value fits. A schema may be a stranger's. Raises: ValidationError where it is none."""
    return Draft202012Validator(dict(schema), mask=mask, offline=True, pattern_options=RegexOptions())


def plain(value: Any) -> Any:
    """A value of the governance file as JSON: its exact decimals become floats."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value
