"""Data classes at work: what a result may show, and how much of it.

Classes come from the tool's declaration; what is not permitted is masked, or left out, with a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from remit.core import canonical
from remit.core.canonical import Json
from remit.core.decisions import Constraints
from remit.core.errors import RemitError
from remit.core.labels import DATA_CLASSES, DataClass
from remit.core.tools import ToolSpec


class CleanResult(NamedTuple):
    """A tool's result as the model may see it."""

    value: Json
    classes: tuple[DataClass, ...]
    truncated: bool


def clean(value: Json, tool: ToolSpec, constraints: Constraints) -> CleanResult:
    """A copy of `value` within `constraints`: cut, capped, its denied fields masked, denied records gone.

    Raises: RemitError `value.invalid` where `value` is not plain JSON, `data.denied` where all of it is denied.
    """
    classes: set[DataClass] = {*tool.classes, *_listed(value, tool)}
    denied = classes & constraints.denied_classes
    if denied:
        what = ", ".join(_ordered(denied))
        raise RemitError("data.denied", f"it holds {what} data, which this agent may not see")
    value, truncated = canonical.bounded(value, constraints.output_bytes_max)
    if tool.field_classes:
        value = _masked(value, tool.field_classes, constraints.denied_classes, classes)
    records = _records(value, tool)
    if records is not None:
        kept = _permitted(records, tool, constraints.denied_classes, classes)
        if constraints.records_max is not None and len(kept) > constraints.records_max:
            kept = kept[: constraints.records_max]
            truncated = True
        if len(kept) != len(records):
            value = kept if tool.records == "" else {**value, tool.records: kept}
    return CleanResult(value, _ordered(classes), truncated)


def _listed(value: Json, tool: ToolSpec) -> list[DataClass]:
    """The classes that the tool itself says it read, whatever of its result is cut."""
    listed = value.get(tool.classes_field) if tool.classes_field and isinstance(value, Mapping) else None
    return [name for name in DATA_CLASSES if isinstance(listed, list) and name in listed]


def _ordered(classes: set[DataClass]) -> tuple[DataClass, ...]:
    return tuple(name for name in DATA_CLASSES if name in classes) if classes else ()


def _records(value: Json, tool: ToolSpec) -> list[Json] | None:
    if tool.records is None:
        return None
    found = value if tool.records == "" else value.get(tool.records) if isinstance(value, Mapping) else None
    if found is not None and not isinstance(found, list):
        # what is no list cannot be capped or sorted by class, so it is not shown
        raise RemitError("value.invalid", f"{tool.records or 'the result'} is not a list of records")
    return found


def _permitted(
    records: list[Json], tool: ToolSpec, denied: frozenset[DataClass], classes: set[DataClass]
) -> list[Json]:
    if tool.record_class_field is None:
        return records
    kept = []
    for record in records:
        data_class = record.get(tool.record_class_field) if isinstance(record, Mapping) else None
        # a record of no class, or of one that nobody declared, is as secret as the most secret class
        if data_class not in DATA_CLASSES:
            if denied:
                continue
            classes.update(name for name in DATA_CLASSES if name != "public")
        elif data_class in denied:
            continue
        else:
            classes.add(data_class)
        kept.append(record)
    return kept


def _masked(
    value: Json, field_classes: Mapping[str, DataClass], denied: frozenset[DataClass], classes: set[DataClass]
) -> Json:
    if isinstance(value, list):
        return [_masked(item, field_classes, denied, classes) for item in value]
    if isinstance(value, str):
        return _masked_text(value, field_classes, denied, classes)
    if not isinstance(value, dict):
        return value
    masked = {}
    for key, item in value.items():
        data_class = field_classes.get(key)
        if data_class is not None and data_class in denied:
            masked[key] = f"[redacted: {data_class}]"
            continue
        if data_class is not None:
            classes.add(data_class)
        masked[key] = _masked(item, field_classes, denied, classes)
    return masked


def _masked_text(
    text: str, field_classes: Mapping[str, DataClass], denied: frozenset[DataClass], classes: set[DataClass]
) -> str:
    """A text that is JSON itself, as many tools return it, has fields like any other result."""
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        masked = orjson.dumps(_masked(orjson.loads(text), field_classes, denied, classes)).decode()
    except orjson.JSONDecodeError:
        return text
    except RecursionError:
        return "[redacted: nested too deeply]"
    return text if denied.isdisjoint(field_classes.values()) else masked
