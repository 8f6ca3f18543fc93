"""What was accepted: kept as it was, and whatever is another is shown, at its place and with nothing hidden."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.adapters.tools.mcp.pins import Pin, Pins, differences, read_pins, shown, written
from remit.core.errors import RemitError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
SCHEMAS = st.dictionaries(TEXTS, VALUES, max_size=3)
PINS = st.builds(
    Pin,
    description=st.lists(st.sampled_from(["a", "b", ""]), max_size=4).map("\n".join),
    input_schema=SCHEMAS,
    output_schema=st.none() | SCHEMAS,
)


def pin(description: str = "Adds.", **schema: Any) -> Pin:
    return Pin(description=description, input_schema={"type": "object", **schema})


def lines(old: Pin | None, new: Pin) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    return [(one.place, one.old, one.new) for one in differences(old, new)]


@given(PINS, PINS)
def test_no_change_goes_unseen(old: Pin, new: Pin) -> None:
    found = list(differences(old, new))
    assert found or old.digest == new.digest
    assert not list(differences(old, old))
    assert all(one.old or one.new for one in found)


@given(PINS)
def test_of_a_new_tool_everything_is_shown(new: Pin) -> None:
    found = list(differences(None, new))
    assert not any(one.old for one in found)
    described = [line for one in found if one.place == "description" for line in one.new]
    assert described == new.description.split("\n")
    assert any(one.place.startswith("input_schema") for one in found)


def test_a_difference_is_at_its_place() -> None:
    old = pin("Adds.\nTwo numbers.", properties={"a": {"type": "integer"}}, required=["a"])
    new = pin(
        "Adds.\nTwo numbers. Then sends them.",
        properties={"a": {"type": "integer", "description": "One."}, "b.c": {}},
        required=["a", "b.c"],
    )
    assert lines(old, new) == [
        ("description", ("Two numbers.",), ("Two numbers. Then sends them.",)),
        ("input_schema.required", ('["a"]',), ('["a","b.c"]',)),
        ("input_schema.properties.a.description", (), ('"One."',)),
        ('input_schema.properties."b.c"', (), ("{}",)),
    ]
    # a line that only moves is no less another description
    assert lines(pin("a\nb"), pin("b\na")) == [("description", (), ("b",)), ("description", ("b",), ())]


def test_nothing_hides_in_what_a_person_is_shown() -> None:
    hidden = "Adds.\u200b\u202e\U000e0041\x1b[8m"
    assert shown(hidden) == "Adds.<U+200B><U+202E><U+E0041><U+001B>[8m"
    assert shown("a\nb\u2028c") == "a<U+000A>b<U+2028>c"
    assert lines(pin(), pin(hidden)) == [("description", ("Adds.",), (shown(hidden),))]
    ((place, _, new),) = lines(pin(), pin(**{"x\u202e": "\x9b\n"}))
    assert (place, new) == ('input_schema."x<U+202E>"', ('"<U+009B>\\n"',))


def test_what_was_accepted_is_read_as_it_was_written_and_cannot_be_changed_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "shop.mcp.json"
    file.write_bytes(written(Pins(server="shop 1.0", tools={"add": pin()})))
    read = read_pins(file, "shop")
    assert (read.server, read.tools) == ("shop 1.0", {"add": pin()})
    changed = json.loads(file.read_text())
    changed["tools"]["add"]["description"] = "another"
    file.write_text(json.dumps(changed))
    with pytest.raises(RemitError, match="changed by hand"):
        read_pins(file, "shop")
