"""The section toolsets: kinds, their keys, the tools they declare, and what the digest covers."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from remit.core.errors import RemitError
from remit.core.tools import Declared, ToolSpec
from remit.governance.compiler import Surroundings, parse
from remit.governance.remit import Remit
from remit.governance.source import ConfigErrors
from remit.governance.toolsets import Toolset

HEAD = """agent:
  name: a
  model: claude-sonnet-4-20250514
  allowed_tools: [find]
  cost_controls: {max_daily_spend_usd: 1, max_cost_per_run_usd: 1}
"""
BOOKS = "  toolsets:\n    books: {kind: knowledge, folders: {pages: public}, description: Books.}\n"


def find(**given: object) -> ToolSpec:
    schema = {"type": "object", "properties": {"query": {"type": "string"}}}
    return ToolSpec(name="find", description="Finds.", args_schema=schema, **given)  # type: ignore[arg-type]


def load(text: str, declared: Declared | None = None) -> Remit:
    def declare(_name: str, _section: Toolset) -> Declared:
        return declared or Declared((find(),), "d")

    return parse(HEAD + text, "f.yaml", (), around=Surroundings(declare=declare))


def errors(text: str, declared: Declared | None = None) -> list[str]:
    with pytest.raises(ConfigErrors) as raised:
        load(text, declared)
    return [
        f"{error.position.line}:{error.position.column} {error.code} {error.message} ({error.remedy})"
        for error in raised.value.errors
    ]


def test_the_tools_of_a_toolset_can_be_granted() -> None:
    remit = load(BOOKS)
    assert remit.allowed_tools == ("find",)
    assert [named.name for named in remit.toolsets_used()] == ["books"]
    assert [spec.name for spec in remit.declared] == ["find"]


def test_a_toolset_of_which_nothing_is_granted_is_not_used() -> None:
    text = (HEAD + BOOKS).replace("[find]", "[]")
    remit = parse(text, "f", (), around=Surroundings(declare=lambda *_: Declared((find(),), "d")))
    assert list(remit.toolsets_used()) == []


def test_the_digest_covers_what_was_read() -> None:
    other = Declared((find(),), "e")
    assert len({load(BOOKS).digest, load(BOOKS, other).digest, load(BOOKS.replace("B", "C")).digest}) == 3


def test_two_tools_of_one_name_and_a_key_that_no_argument_is() -> None:
    twice = Declared((find(rate_group="finds", rate_key="quary"), find()), "d")
    assert errors(BOOKS, twice) == [
        "7:5 config.unknown_key find has no argument 'quary' for a rate_key (did you mean 'query'?)",
        "7:5 config.duplicate_key there is another tool named 'find' (give one of them another name)",
    ]


def test_an_adapter_that_finds_nothing_says_so_at_the_place() -> None:
    def declare(_name: str, _section: Toolset) -> Declared:
        raise RemitError("config.missing", "there is no such file", remedy="write it")

    with pytest.raises(ConfigErrors) as raised:
        parse(HEAD + BOOKS, "f.yaml", (), around=Surroundings(declare=declare))
    (error,) = raised.value.errors
    assert (error.code, error.position.line, error.remedy) == ("config.missing", 7, "write it")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            "books: {kind: knowlege, folders: {p: public}, description: B.}",
            "7:13 config.out_of_range there is no kind 'knowlege' of toolset (did you mean 'knowledge'?)",
        ),
        (
            "books: {folders: {p: public}}",
            "7:5 config.missing_key the key agent.toolsets.books.kind is missing",
        ),
        (
            "books: {kind: knowledge, foldr: p, folders: {p: public}, description: B.}",
            "7:30 config.unknown_key there is no key 'agent.toolsets.books.foldr' (did you mean 'folders'?)",
        ),
        (
            "books: {kind: knowledge, folders: {p: public}, description: B., tool: {efect: read}}",
            "7:76 config.unknown_key there is no key 'agent.toolsets.books.tool.efect' (did you mean 'effect'?)",
        ),
        (
            "books: {kind: knowledge, folders: {p: public}}",
            "7:5 config.missing_key the key 'agent.toolsets.books.description'",
        ),
        (
            "support: {kbb: p}",
            "7:15 config.unknown_key there is no key 'agent.toolsets.support.kbb' (did you",
        ),
        (
            "books: {kind: support}",
            "6:3 config.out_of_range agent.toolsets must name the toolset of the kind",
        ),
        (
            "support: {kind: knowledge, folders: {p: public}, description: B.}",
            "6:3 config.out_of_range agent.toolsets must",
        ),
        ("Books: {kind: support}", "7:5 config.out_of_range"),
        ("books: 5", "7:5 config.wrong_type"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(section: str, said: str) -> None:
    assert any(line.startswith(said) for line in errors(f"  toolsets:\n    {section}\n")), errors(
        f"  toolsets:\n    {section}\n"
    )


@pytest.mark.parametrize(
    ("inner", "why"),
    [
        ({"$ref": "{witness}/schema.json"}, "Retrieval is disabled"),
        ({"type": "string", "pattern": "("}, "regex"),
        ({"type": 5}, "5 is not"),
    ],
)
def test_the_schema_of_a_stranger_leads_nowhere(
    inner: dict[str, object], why: str, witness: tuple[str, list[str]]
) -> None:
    """A toolset's schemas come from other people's servers and documents: what they refer to is not fetched."""
    url, asked = witness
    given = {
        key: value.format(witness=url) if isinstance(value, str) else value for key, value in inner.items()
    }
    schema = {"type": "object", "properties": {"query": given}}
    declared = Declared((ToolSpec(name="find", description="Finds.", args_schema=schema),), "d")
    (error,) = errors(BOOKS, declared)
    assert "the arguments of find have a schema that is not used" in error
    assert why in error
    assert asked == []


def test_a_condition_on_a_schema_that_cannot_stand_alone_is_taken(witness: tuple[str, list[str]]) -> None:
    schema = {
        "type": "object",
        "properties": {"query": {"type": "string", "enum": ["a"], "allOf": [{"$ref": "#/$defs/q"}]}},
        "$defs": {"q": {"minLength": 1}},
    }
    declared = Declared((ToolSpec(name="find", description="Finds.", args_schema=schema),), "d")
    approvals = "  approvals:\n    - {tool: find, when: {query: {eq: a}}}\n"
    assert load(BOOKS + approvals, declared).allowed_tools == ("find",)


@pytest.fixture
def witness() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()
