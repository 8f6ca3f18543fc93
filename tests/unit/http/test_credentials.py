"""What a service repeats of a credential, in whatever spelling and wherever it is cut."""

from __future__ import annotations

import json
from html import escape
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.adapters.tools.http.credentials import Credentials, credentials_of
from remit.governance.toolsets.http import AuthSection

SECRET = "s3/cr+e&t=="


@pytest.fixture(scope="module")
def credentials() -> Credentials:
    return credentials_of(AuthSection(bearer_env="KEY"), {"KEY": SECRET})


@given(escaped=st.sets(st.integers(0, len(SECRET) - 1)))
def test_no_spelling_of_json_brings_it_through(credentials: Credentials, escaped: set[int]) -> None:
    spelt = "".join(f"\\u{ord(one):04x}" if place in escaped else one for place, one in enumerate(SECRET))
    found = json.loads(credentials.taken_out(f'{{"a": ["got {spelt}!"]}}'.encode()))
    assert found == {"a": ["got [hidden]!"]}


@pytest.mark.parametrize(
    "spelt",
    [
        SECRET,
        SECRET.replace("/", "\\/"),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        escape(SECRET),
    ],
)
def test_nor_does_any_other_usual_one(credentials: Credentials, spelt: str) -> None:
    assert credentials.taken_out(f"<p>{spelt}</p>".encode()) == b"<p>[hidden]</p>"


@given(kept=st.integers(1, len(SECRET) - 1))
def test_what_is_cut_within_it_shows_no_part_of_it(credentials: Credentials, kept: int) -> None:
    text = f"key: {SECRET}".encode()[: 5 + kept]
    assert credentials.taken_out(text, is_cut=True) == b"key: "
    assert credentials.taken_out(b"key: none", is_cut=True) == b"key: none"
