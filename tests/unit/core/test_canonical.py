"""The canonical form is RFC 8785's, and cut copies keep their cap."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from remit.core.canonical import DEPTH_MAX, INTEGER_MAX, bounded, canonical
from remit.core.errors import RemitError

DATA = Path(os.environ.get("REMIT_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
VECTORS = DATA / "jcs" / "jcs_vectors.json"

TEXT = st.text(max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-INTEGER_MAX, INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=30,
)


@given(JSON)
def test_it_is_rfc_8785(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(JSON)
def test_it_is_a_fixed_point(value: Any) -> None:
    data = canonical(value)
    read = json.loads(data)
    # a float such as 2.0**53 is written as a whole number, which as an integer of its own is refused
    assume(rfc_takes(read))
    assert canonical(read) == data


def rfc_takes(value: Any) -> bool:
    try:
        return bool(rfc8785.dumps(value))
    except rfc8785.IntegerDomainError:
        return False


@pytest.mark.skipif(not VECTORS.exists(), reason="the vectors of RFC 8785 are not at hand (REMIT_TEST_DATA)")
def test_it_passes_the_vectors_of_the_rfc() -> None:
    vectors = {name: base64.b64decode(text) for name, text in json.loads(VECTORS.read_text()).items()}
    inputs = [name for name in vectors if "/input/" in name]
    assert inputs
    for name in inputs:
        assert canonical(json.loads(vectors[name])) == vectors[name.replace("/input/", "/output/")], name


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _cycle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        INTEGER_MAX + 1,
        "\ud800",
        {"\ud800": 1},
        {1: 2},
        {"a": object()},
        b"x",
        {1, 2},
        _nested(DEPTH_MAX + 1),
        _cycle(),
    ],
    ids=[
        "nan",
        "infinity",
        "integer",
        "text",
        "key",
        "number key",
        "object",
        "bytes",
        "set",
        "deep",
        "cycle",
    ],
)
def test_what_is_not_plain_json_is_refused(value: Any) -> None:
    with pytest.raises(RemitError, match=r"value\.invalid"):
        canonical(value)


def test_the_deepest_value_is_taken() -> None:
    assert canonical(_nested(DEPTH_MAX))


@given(JSON, st.integers(0, 400))
@settings(max_examples=300)
def test_a_cut_copy_keeps_its_cap_and_is_plain(value: Any, cap: int) -> None:
    copy, cut = bounded(value, cap)
    canonical(copy)
    assert len(orjson.dumps(copy)) <= cap + 64
    if not cut:
        assert copy == value
        assert bounded(copy, cap) == (copy, False)


@pytest.mark.parametrize(
    "value",
    ["\x00" * 5000, "é" * 5000, '"' * 5000, [[]] * 5000, [{}] * 5000, [None] * 5000, {"\x01" * 3000: 1}],
    ids=["controls", "umlauts", "quotes", "lists", "mappings", "nulls", "key"],
)
def test_a_cut_copy_keeps_its_cap_in_json_not_in_characters(value: Any) -> None:
    copy, cut = bounded(value, 1000)
    assert cut
    assert len(orjson.dumps(copy)) <= 1064


def test_a_value_whose_name_was_cut_goes_with_it() -> None:
    copy, cut = bounded({"a": 1, "balance_of_the_card": 4111111111111111}, 40)
    assert cut
    assert "4111111111111111" not in json.dumps(copy)


def test_a_large_integer_becomes_text() -> None:
    assert bounded({"n": 2**60}, 100) == ({"n": str(2**60)}, False)
