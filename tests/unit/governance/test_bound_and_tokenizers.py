"""The bound on input tokens is at least what real tokenizers count: pinned worst cases, and chance texts.

The chance texts need the environment of `requirements/tokenizers.lock`, which `make tokenizers` makes; many
more of them: `python -m benchmarks --only bound`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.bound import EXPANDERS, KINDS, TokenCounter, layouts, request, text, token_counter
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.governance.bounds import input_tokens_max, structure_tokens_max, text_tokens_max

PINNED = json.loads(Path(__file__).with_name("token_counts.json").read_text(encoding="utf-8"))
HYPOTHESIS_SEEDS = st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 2**32))

TEXTS = st.one_of(
    st.text(max_size=300),
    st.text(st.sampled_from(EXPANDERS), max_size=60),
    st.text(st.characters(categories=["Mn", "Cf", "Cc", "So"]), max_size=100),
    st.binary(max_size=200).map(lambda data: data.decode("latin-1")),
    HYPOTHESIS_SEEDS.map(lambda pair: text(random.Random(pair[1]), pair[0], 40)),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def counter() -> Iterator[TokenCounter]:
    with token_counter(make=False) as found:
        if found is None:
            pytest.skip("no environment of real tokenizers: make tokenizers")
        yield found


@pytest.mark.parametrize("pinned", PINNED, ids=lambda one: one["name"])
def test_pinned_worst_cases_are_within_the_bound(pinned: Any) -> None:
    bound = text_tokens_max(pinned["piece"] * pinned["times"])
    assert bound >= max(pinned["tokens"])


@pytest.mark.parametrize("pinned", PINNED, ids=lambda one: one["name"])
def test_the_pinned_counts_are_those_of_the_tokenizers(counter: TokenCounter, pinned: Any) -> None:
    assert counter.count([pinned["piece"] * pinned["times"]]) == [pinned["tokens"]]


@given(st.data())
def test_no_tokenizer_counts_more_for_a_text(counter: TokenCounter, data: st.DataObject) -> None:
    one = data.draw(TEXTS)
    assert text_tokens_max(one) >= max(counter.count([one])[0])


@given(st.data())
def test_no_tokenizer_counts_more_for_json_however_it_is_written(
    counter: TokenCounter, data: st.DataObject
) -> None:
    value = data.draw(VALUES)
    ways = [
        json.dumps(value, ensure_ascii=escaped, separators=separators)
        for escaped in (True, False)
        for separators in ((",", ":"), (", ", ": "))
    ]
    assert structure_tokens_max(value) >= max(max(counts) for counts in counter.count(ways))


@settings(max_examples=25)
@given(st.data())
def test_no_tokenizer_counts_more_for_a_whole_request(counter: TokenCounter, data: st.DataObject) -> None:
    kind, seed = data.draw(HYPOTHESIS_SEEDS)
    asked = request(random.Random(seed), kind)
    assert len(layouts(asked)) == 6
    assert input_tokens_max(asked) >= counter.request_tokens(asked)
