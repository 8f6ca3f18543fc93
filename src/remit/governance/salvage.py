"""What is well-formed of a wrong governance file, so that the rest of it is checked at the same time.

The result decides nothing: it is compiled only to find further errors, and then thrown away.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from remit.governance.schema import GovernanceFile
from remit.governance.source import place_of

_ROUNDS = 4
_STAND_INS: Mapping[str, Any] = MappingProxyType(
    {
        "agent": {},
        "name": "x",
        "model": "x",
        "allowed_tools": [],
        "cost_controls": {},
        "max_daily_spend_usd": 0,
        "max_cost_per_run_usd": 0,
    }
)


def salvage(value: Any, error: ValidationError) -> GovernanceFile | None:
    """The file with its wrong parts left out and stand-ins for what is missing; None where that is no use."""
    value = copy.deepcopy(value)
    for _ in range(_ROUNDS):
        # the last first, so that the numbers of list items stay right
        for detail in sorted(
            error.errors(), key=lambda one: [str(part) for part in one["loc"]], reverse=True
        ):
            _mend(value, detail)
        try:
            return GovernanceFile.model_validate(value)
        except ValidationError as again:
            error = again
    return None


def _mend(value: Any, detail: ErrorDetails) -> None:
    *way, last = place_of(value, detail["loc"]) or ("",)
    for part in way:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return
    if detail["type"] == "missing" and isinstance(value, dict) and last in _STAND_INS:
        value[last] = copy.deepcopy(_STAND_INS[str(last)])
    elif isinstance(value, dict):
        value.pop(last, None)
    elif isinstance(value, list) and isinstance(last, int) and last < len(value):
        del value[last]
