"""The knowledge base: found by plain words, whatever the query; internal pages left out where denied."""

from __future__ import annotations

import asyncio
import json
import os
import time

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from remit.adapters.tools.deadline import Deadline
from remit.adapters.tools.knowledge.pages import RESCAN_NS, KnowledgeBase, Source
from remit.adapters.tools.knowledge.passages import match_expression, passage
from remit.adapters.tools.knowledge.readers import parse_page
from remit.core.errors import RemitError

INTERNAL = frozenset({"internal"})


async def search(toolset, make_context, text, **constraints):
    return await toolset.call("search_kb", {"query": text}, make_context(**constraints))


def ids(result):
    return [entry["id"] for entry in result["results"]]


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("I was charged twice for the same plan", "double-charges"),
        ("double charge refund", "double-charges"),
        ("is an annual plan refunded after 20 days", "refunds"),
        ("reverse charge VAT number", "taxes-and-vat"),
        ("okta SAML", "single-sign-on"),
        ("lost my phone authenticator codes", "two-factor-authentication"),
        ("error 429 too many requests", "api-limits"),
        ("inotify watch limit", "troubleshooting-linux"),
        ("0x80070005", "troubleshooting-windows"),
        ("verify webhook signature HMAC", "webhooks"),
        ("restore deleted folder ransomware", "restore-files"),
        ("erase my personal data GDPR", "gdpr-requests"),
        ("availability credits 99.9", "sla"),
        ("how much may an agent refund", "internal-refund-authority"),
        ("community tips syncing faster", "community-tips"),
    ],
)
async def test_the_right_page_is_among_the_first_two(toolset, make_context, text, page):
    assert page in ids(await search(toolset, make_context, text))[:2]


async def test_results_have_the_promised_shape(toolset, make_context):
    result = await search(toolset, make_context, "refund")
    assert result["total"] >= len(result["results"]) == 5
    for entry in result["results"]:
        assert set(entry) == {"id", "title", "snippet", "visibility", "path"}
        assert entry["path"] == entry["id"] + ".md"
        assert 0 < len(entry["snippet"]) <= 920


async def test_the_planted_instruction_reaches_the_reader_of_the_results(toolset, make_context):
    """The injection scenario needs it: search returns foreign text as it is, marked untrusted."""
    result = await search(toolset, make_context, "community tips syncing faster")
    entry = result["results"][0]
    assert entry["id"] == "community-tips"
    assert "ignore previous instructions" in entry["snippet"]
    assert "evil.example" in entry["snippet"]


def test_a_passage_takes_the_telling_paragraphs_in_order():
    assert passage("# Title\n\nfirst\n\n\x02a\x03 and \x02b\x03\n\n" + "x" * 2000) == "first\na and b"
    assert passage("\x02a\x03" + "x" * 2000 + "\n\nrest").endswith("…")
    assert passage("# Only a title") == ""


@given(marked=st.text("ab \n\x02\x03#", max_size=3000))
@hypothesis_settings(deadline=None)
def test_a_passage_is_bounded_and_without_marks(marked):
    text = passage(marked)
    assert len(text) <= 900 + marked.count("\n\n")
    assert "\x02" not in text
    assert "\x03" not in text


async def test_internal_pages_are_left_out_where_denied(toolset, make_context):
    text = "refund authority limits escalation runbook fraud signals support staff only"
    everything = await search(toolset, make_context, text)
    public = await search(toolset, make_context, text, denied_classes=INTERNAL)
    assert {entry["visibility"] for entry in everything["results"][:3]} == {"internal"}
    assert {entry["visibility"] for entry in public["results"]} == {"public"}
    assert everything["total"] - public["total"] >= 5
    assert (await search(toolset, make_context, text, denied_classes=frozenset({"internal", "public"}))) == {
        "results": [],
        "total": 0,
    }


@pytest.mark.parametrize(("limit", "count"), [(0, 0), (1, 1), (4, 4), (5, 5), (50, 5)])
async def test_records_max_bounds_the_results(toolset, make_context, limit, count):
    assert len(ids(await search(toolset, make_context, "refund", records_max=limit))) == count


@pytest.mark.parametrize(
    "text",
    [
        '"',
        "'",
        "a AND",
        "NEAR(",
        "title:x",
        "refund*",
        "-refund",
        "^",
        "(((",
        "\0",
        "🛟",
        "_",
        "NOT",
        "OR",
        "--",
        "*",
    ],
)
async def test_operators_quotes_and_signs_are_only_text(toolset, make_context, text):
    result = await search(toolset, make_context, text)
    assert set(result) == {"results", "total"}
    with_word = await search(toolset, make_context, f"{text} okta")
    assert "single-sign-on" in ids(with_word)


async def test_naughty_strings_are_only_text(toolset, make_context, payloads):
    strings = json.loads((payloads / "blns.json").read_text())
    assert len(strings) > 500
    for text in strings:
        assert set(await search(toolset, make_context, text[:500])) == {"results", "total"}


@given(text=st.text(max_size=500))
@hypothesis_settings(max_examples=200, deadline=None)
def test_an_expression_holds_only_quoted_words(text):
    expression = match_expression(text)
    assert "\0" not in expression
    for word in expression.split(" OR ") if expression else []:
        assert word[0] == word[-1] == '"'
        assert word[1:-1].isalnum() or '"' not in word[1:-1]


@given(text=st.text(min_size=1, max_size=200))
@hypothesis_settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_is_answered(kb, clock, make_context, text):
    assert kb.search(text, make_context().constraints, Deadline(clock, 5.0))["total"] >= 0


async def test_sixty_four_searches_at_once(toolset, make_context):
    began = time.monotonic()
    results = await asyncio.gather(
        *(search(toolset, make_context, f"refund {n} charge okta") for n in range(64))
    )
    assert all(len(result["results"]) == 5 for result in results)
    assert time.monotonic() - began < 5


class HandClock:
    """A clock whose time the test moves."""

    def __init__(self) -> None:
        self.ns = 10**12

    def now_us(self) -> int:
        return self.ns // 1000

    def monotonic_ns(self) -> int:
        return self.ns

    def entropy(self, size: int) -> bytes:
        return os.urandom(size)


@pytest.fixture
def pages(tmp_path):
    folder = tmp_path / "pages"
    (folder / "deep").mkdir(parents=True)
    (folder / "one.md").write_text("---\ntitle: One\nvisibility: public\n---\nalpha text")
    (folder / "deep" / "two.md").write_text("---\nvisibility: internal\n---\n# Second page\nalpha beta")
    return folder


@pytest.fixture
def kb(pages, tmp_path, clock):
    return KnowledgeBase((Source(folder=pages),), tmp_path / "kb.db", clock)


def found(kb, make_context, clock, text):
    return sorted(ids(kb.search(text, make_context().constraints, Deadline(clock, 5.0))))


def test_the_index_follows_the_files(pages, tmp_path, make_context):
    clock = HandClock()
    kb = KnowledgeBase((Source(folder=pages),), tmp_path / "kb.db", clock)
    assert found(kb, make_context, clock, "alpha") == ["deep/two", "one"]
    (pages / "one.md").write_text("---\nvisibility: public\n---\ngamma")
    (pages / "deep" / "two.md").unlink()
    (pages / "three.md").write_text("alpha again")
    assert found(kb, make_context, clock, "alpha") == ["deep/two", "one"]  # not yet looked at again
    clock.ns += RESCAN_NS
    assert found(kb, make_context, clock, "alpha") == ["three"]
    assert found(kb, make_context, clock, "gamma") == ["one"]
    assert found(
        KnowledgeBase((Source(folder=pages),), tmp_path / "kb.db", clock), make_context, clock, "alpha"
    ) == ["three"]


def test_a_page_that_turns_internal_is_withheld(pages, tmp_path, make_context):
    clock = HandClock()
    kb = KnowledgeBase((Source(folder=pages),), tmp_path / "kb.db", clock)
    (pages / "one.md").write_text("---\ntitle: One\nvisibility: internal\n---\nalpha text")
    clock.ns += RESCAN_NS
    context = make_context(denied_classes=INTERNAL)
    assert kb.search("alpha", context.constraints, Deadline(clock, 5.0))["results"] == []


def test_links_out_of_the_folder_are_left_out(pages, tmp_path, clock, make_context):
    secret = tmp_path / "secret.md"
    secret.write_text("alpha secret")
    (pages / "link.md").symlink_to(secret)
    kb = KnowledgeBase((Source(folder=pages),), tmp_path / "kb.db", clock)
    assert found(kb, make_context, clock, "secret") == []


def test_files_that_are_not_text_do_no_harm(pages, tmp_path, clock, make_context):
    (pages / "odd.md").write_bytes(b"\xff\xfe\x00 alpha \x00 odd")
    (pages / "empty.md").write_bytes(b"")
    kb = KnowledgeBase((Source(folder=pages),), tmp_path / "kb.db", clock)
    assert "odd" in found(kb, make_context, clock, "alpha")


@pytest.mark.parametrize(
    ("text", "title", "visibility"),
    [
        ("---\ntitle: T\nvisibility: public\n---\nbody", "T", "public"),
        ("---\r\ntitle: 'T'\r\nvisibility: \"public\" # yes\r\n---\r\nbody", "T", "public"),
        ("# Heading\nbody", "Heading", "internal"),
        ("body", "name", "internal"),
        ("---\ntitle: T\n---\nbody", "T", "internal"),
        ("---\nvisibility: secret\n---\nbody", "name", "internal"),
        ("---\nvisibility: Public\n---\nbody", "name", "internal"),
        ("---\nvisibility: public\nvisibility: internal\n---\nbody", "name", "internal"),
        ("---\nvisibility: public\nbody without an end", "name", "internal"),
        ("body\n---\nvisibility: public\n---\n", "name", "internal"),
    ],
)
def test_only_a_plain_declaration_makes_a_page_public(text, title, visibility):
    page = parse_page(text, "name")
    assert (page.title, page.visibility) == (title, visibility)


def test_an_index_that_cannot_be_written_fails_the_start(pages, tmp_path, clock):
    (tmp_path / "kb.db").mkdir()
    with pytest.raises(RemitError) as caught:
        KnowledgeBase((Source(folder=pages),), tmp_path / "kb.db", clock)
    assert caught.value.code == "toolset.unavailable"
