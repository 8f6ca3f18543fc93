"""A knowledge base as a toolset: kinds of files, classes of folders, what changes, what cannot be read."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from remit.adapters.tools.knowledge.pages import IndexOptions, KnowledgeBase, Source
from remit.adapters.tools.knowledge.passages import passage
from remit.adapters.tools.knowledge.readers import Unreadable, read_page
from remit.adapters.tools.knowledge.specs import declare_knowledge
from remit.adapters.tools.knowledge.toolset import KnowledgeTools, open_knowledge
from remit.core.decisions import Constraints
from remit.core.errors import RemitError
from remit.governance.toolsets import KnowledgeToolset
from remit.ports.effects import CallContext
from remit.runtime.clock import SystemClock

HTML = """<html><head><title>Holiday &amp; leave</title><style>p {color: red}</style>
<meta name="visibility" content="public"></head><body><nav>Home</nav><h1>Leave</h1>
<p>Everybody has <b>thirty</b> days.</p><ul><li>one</li><li>two</li></ul>
<script>alert("secret script")</script></body></html>"""


def pdf(text: str, title: str = "", pages: int = 1) -> bytes:
    """A PDF with a text, which all of its pages draw."""
    writer = pypdf.PdfWriter()
    page = writer.add_blank_page(width=300, height=300)
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    page[NameObject("/Resources")] = DictionaryObject(
        {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
    )
    stream = DecodedStreamObject()
    stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(stream.flate_encode())
    for _ in range(pages - 1):
        writer.add_page(page)
    if title:
        writer.add_metadata({"/Title": title})
    from io import BytesIO

    out = BytesIO()
    writer.write(out)
    return out.getvalue()


Opened = Callable[..., KnowledgeTools]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    async with AsyncExitStack() as stack:

        def make(folders: dict[str, str], options: IndexOptions = IndexOptions()) -> KnowledgeTools:
            given = {"kind": "knowledge", "folders": folders, "description": "d"}
            section = KnowledgeToolset.model_validate(given)
            (spec,) = declare_knowledge("books", section).specs
            places = (tmp_path, tmp_path / "home" / "books.db")
            toolset = open_knowledge(section, spec, places, SystemClock(), options)
            stack.push_async_callback(toolset.close)
            return toolset

        yield make


async def found(toolset: KnowledgeTools, query: str, *denied: Any) -> list[dict[str, Any]]:
    context = CallContext(
        run_id="r",
        tenant="t",
        agent="a",
        idempotency_key="k",
        constraints=Constraints(timeout_s=10, output_bytes_max=65_536, denied_classes=frozenset(denied)),
    )
    result = await toolset.call("search_books", {"query": query}, context)
    return list(result["results"])


def write(folder: Path, **files: str | bytes) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace("_", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


async def test_pages_of_every_kind_are_found(tmp_path: Path, opened: Opened) -> None:
    write(
        tmp_path / "docs",
        a_md="# Ships\nThe Unda sails at dawn.",
        b_txt="Umbrellas are in the hall.",
        c_html=HTML,
        d_pdf=pdf("Fire drills are on Monday", "Safety"),
        e_bin=b"umbrellas",
    )
    toolset = opened({"docs": "internal"})
    (ship,) = await found(toolset, "sails")
    assert (ship["title"], ship["snippet"]) == ("Ships", "The Unda sails at dawn.")
    assert [one["path"] for one in await found(toolset, "umbrellas")] == ["b.txt"]
    (leave,) = await found(toolset, "thirty")
    assert (leave["title"], leave["visibility"]) == ("Holiday & leave", "public")
    assert "Everybody has thirty days." in leave["snippet"]
    assert await found(toolset, "alert") == await found(toolset, "home") == await found(toolset, "red") == []
    (drill,) = await found(toolset, "drills")
    assert (drill["title"], drill["path"]) == ("Safety", "d.pdf")
    assert toolset.notices == ()


async def test_a_folder_says_what_its_pages_are_that_do_not(tmp_path: Path, opened: Opened) -> None:
    write(tmp_path / "in", a_md="word one", b_md="---\nvisibility: public\n---\nword two")
    write(
        tmp_path / "out",
        c_md="word three",
        d_md="---\nvisibility: internal\n---\nword four",
        e_md="---\nvisibility: odd\n---\nword",
    )
    toolset = opened({"in": "internal", "out": "public"})
    paths = {one["path"]: one["visibility"] for one in await found(toolset, "word")}
    public, internal = dict.fromkeys(("in/b.md", "out/c.md"), "public"), ("in/a.md", "out/d.md", "out/e.md")
    assert paths == public | dict.fromkeys(internal, "internal")
    assert {one["path"] for one in await found(toolset, "word", "internal")} == set(public)
    # and another word of the file counts at the next start
    toolset = opened({"in": "internal", "out": "internal"})
    assert {one["path"] for one in await found(toolset, "word", "internal")} == {"in/b.md"}


async def test_what_cannot_be_read_is_said(tmp_path: Path, opened: Opened) -> None:
    write(tmp_path / "docs", a_pdf=b"%PDF-1.7 broken", b_pdf=pdf(""), c_md=b"x" * 1_000_001, d_md="fine")
    toolset = opened({"docs": "public"})
    (notice,) = toolset.notices
    assert notice.startswith("search_books does not find a.pdf (it is no PDF")
    assert "b.pdf (it holds no text: it may be a scan)" in notice
    assert "c.md (it is larger than 1 MB)" in notice
    assert [one["path"] for one in await found(toolset, "fine")] == ["d.md"]


def test_progress_is_told_and_what_is_known_is_not_read_again(tmp_path: Path) -> None:
    write(tmp_path / "docs", **{f"n{number}_txt": f"page {number}" for number in range(450)})
    told: list[tuple[int, int]] = []
    sources = [Source(folder=tmp_path / "docs")]
    options = IndexOptions(progress=lambda done, total: told.append((done, total)))
    KnowledgeBase(sources, tmp_path / "i.db", SystemClock(), options)
    assert told == [(200, 450), (400, 450)]

    def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        raise AssertionError(texts)

    KnowledgeBase(sources, tmp_path / "i.db", SystemClock(), IndexOptions(embed=embed))


async def test_pages_that_mean_alike_come_first_where_there_is_an_embedding(
    tmp_path: Path, opened: Opened
) -> None:
    write(tmp_path / "docs", a_md="bank bank bank of a river", b_md="the bank lends money")

    def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Whether a text is about money."""
        return [[1.0, 0.0] if "money" in text or "loan" in text else [0.0, 1.0] for text in texts]

    assert [one["path"] for one in await found(opened({"docs": "public"}), "bank loan")] == ["a.md", "b.md"]
    (tmp_path / "home" / "books.db").unlink()
    by_meaning = opened({"docs": "public"}, IndexOptions(embed=embed))
    assert {one["path"] for one in await found(by_meaning, "bank loan")} == {"a.md", "b.md"}
    assert math.isclose(sum(1 for _ in await found(by_meaning, "bank")), 2)


@pytest.mark.parametrize("folders", [{"nowhere": "public"}, {"x/docs": "public", "y/docs": "public"}])
def test_folders_that_are_not_there_or_have_one_name_are_refused(
    tmp_path: Path, opened: Opened, folders: dict[str, str]
) -> None:
    for name in ("x", "y"):
        (tmp_path / name / "docs").mkdir(parents=True)
    with pytest.raises(RemitError) as raised:
        opened(folders)
    assert raised.value.code == "toolset.unavailable"


def test_a_heading_is_no_passage_and_hides_none() -> None:
    assert passage("# Title\nthe \x02word\x03 below") == "the word below"
    assert passage("## One\n### Two\n\x02word\x03") == "word"


@given(st.sampled_from(["a.html", "a.pdf", "a.md", "a.txt"]), st.binary(max_size=300))
def test_any_bytes_are_a_page_or_none(name: str, content: bytes) -> None:
    try:
        page = read_page(name, content)
    except Unreadable:
        return
    assert "\x02" not in page.body
    assert len(page.title) <= 200


@pytest.mark.parametrize(
    "said",
    [
        "Visibility: internal",
        "visibility: internal-only",
        "visibility: 'staff only'",
        '"visibility": internal',
        "visibility: [internal]",
        "visibility:\n  - internal",
        "  visibility: internal",
        "visibility: public\nvisibility: internal",
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_what_does_not_say_that_it_is_public_is_not_even_in_a_public_folder(said: str, line_end: str) -> None:
    text = f"---\ntitle: C#\n{said}\n---\nbody".replace("\n", line_end)
    page = read_page("a.md", text.encode(), "public")
    assert (page.title, page.visibility, page.body) == ("C#", "internal", "body")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.md", "---\ntitle: a" + " " * 900_000 + "b\n---\n"),
        ("a.md", "# a" + " #" * 400_000 + "b\n"),
        ("a.html", "</td>" * 400_000),
        ("a.html", "<!--" * 400_000),
        ("a.html", "<!--" * 400_000 + ">"),
        ("a.html", "<script>" + "</scrip" * 200_000),
        ("a.html", "</a" * 400_000),
    ],
)
def test_no_page_takes_the_square_of_its_length(name: str, content: str) -> None:
    # these took hours: a test of the time it takes is that it ends
    assert read_page(name, content.encode()).visibility == "internal"


@pytest.mark.parametrize(("size", "pages"), [(2_000_000, 1), (100_000, 40)])
def test_a_pdf_that_draws_without_end_is_no_page(size: int, pages: int) -> None:
    content = pdf(") Tj (".join(["x" * 10] * (size // 16)), pages=pages)
    assert len(content) < 60_000
    with pytest.raises(Unreadable, match="far more"):
        read_page("a.pdf", content)
