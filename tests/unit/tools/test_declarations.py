"""What a function's signature, docstring and decorator say of a tool, and what is said of a wrong one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from remit.tools import (
    Context,
    FakeContext,
    Length,
    Pattern,
    Range,
    ToolError,
    ToolFailure,
    declaration_of,
    tool,
)
from remit.tools.calls import call_tool
from remit.tools.schemas import from_json, schema_of, to_json


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)


class Order(TypedDict):
    id: Annotated[str, Pattern("^O-[0-9]+$")]
    place: Point
    note: NotRequired[str]


@tool(effect="read", idempotency="idempotent", classes=("pii",), rate_group="searches", rate_key="name")
def search(
    name: Annotated[str, Length(1, 50)],
    ctx: Context,
    limit: Annotated[int, Range(1, 100)] = 10,
    colour: Colour = Colour.RED,
    order: Order | None = None,
) -> list[Point]:
    """Search for points.

    They are somewhere.

    Args:
        name: Whose, which may
            go on in the next line.
        limit (int): How many.

    Returns:
        The points.
    """
    ctx.progress(f"searching {name}")
    found = Point(limit, tags=[name, colour.value, type(order["place"]).__name__ if order else "-"])
    return [found]


def test_the_signature_and_the_docstring_are_the_schema() -> None:
    declared = declaration_of(search)
    assert declared is not None
    assert declared.name == "search"
    assert declared.description == "Search for points.\n\nThey are somewhere."
    schema = declared.args_schema
    assert schema["required"] == ["name"]
    assert schema["additionalProperties"] is False
    assert list(schema["properties"]) == ["name", "limit", "colour", "order"]
    assert schema["properties"]["name"] == {
        "type": "string",
        "minLength": 1,
        "maxLength": 50,
        "description": "Whose, which may go on in the next line.",
    }
    assert schema["properties"]["limit"]["maximum"] == 100
    assert schema["properties"]["limit"]["default"] == 10
    assert schema["properties"]["colour"] == {"enum": ["red", "blue"]}
    order = schema["properties"]["order"]["anyOf"][0]
    assert order["required"] == ["id", "place"]
    assert order["properties"]["id"] == {"type": "string", "pattern": "^O-[0-9]+$"}
    assert declared.result_schema == {"type": "array", "items": order["properties"]["place"]}
    said = json.loads(json.dumps(declared.to_json()))
    assert said["classes"] == ["pii"]
    assert said["rate_key"] == "name"


def test_a_tool_is_a_function_and_a_test_calls_it() -> None:
    context = FakeContext()
    assert search("a", context, 3) == [Point(3, tags=["a", "red", "-"])]
    assert context.told == ["searching a"]


def test_a_call_with_json_has_the_values_of_the_types() -> None:
    declared = declaration_of(search)
    assert declared is not None
    args = {"name": "a", "colour": "blue", "order": {"id": "O-1", "place": {"x": 1}}}
    assert Draft202012Validator(declared.args_schema).is_valid(args)
    got = call_tool(search, args, FakeContext())
    assert got == [{"x": 10, "y": 0, "tags": ["a", "blue", "Point"]}]
    assert Draft202012Validator(dict(declared.result_schema or {})).is_valid(got)


def test_a_coroutine_is_awaited() -> None:
    @tool
    async def later(text: str) -> str:
        """Later."""
        await asyncio.sleep(0)
        return text

    assert call_tool(later, {"text": "a"}, FakeContext()) == "a"


def test_what_was_not_granted_is_refused_and_a_fake_grants_it() -> None:
    with pytest.raises(ToolFailure, match="there is none"):
        Context().http.get("/orders")
    with pytest.raises(ToolFailure, match="call was not granted"):
        Context().call("orders_of", id=5)
    context = FakeContext(
        {
            "request_crm": lambda method, path, query: {"status": 200, "body": [method, path, query]},
            "orders_of": lambda id: {"rows": [{"id": id}], "truncated": False},
            "all_orders": lambda: {"rows": [], "truncated": True},
            "query_shop": lambda sql: {"rows": [{"sql": sql}]},
        }
    )
    assert context.http.get("/orders", page=2) == (200, ["GET", "/orders", {"page": 2}])
    assert context.sql.query("orders_of", id=5) == [{"id": 5}]
    assert context.sql.select("SELECT 1") == [{"sql": "SELECT 1"}]
    with pytest.raises(ToolFailure, match="more rows"):
        context.sql.query("all_orders")
    with pytest.raises(ToolFailure, match="send was not granted"):
        context.call("send")
    assert [tool for tool, _ in context.calls][:2] == ["request_crm", "orders_of"]


def test_of_several_services_one_is_named() -> None:
    context = FakeContext(
        {name: lambda method, path: {"status": 200, "body": path} for name in ("request_crm", "request_erp")}
    )
    with pytest.raises(ToolFailure, match="request_crm, request_erp are granted: say which"):
        context.http.get("/a")
    assert context.http.get("/a", service="erp").body == "/a"
    assert context.calls[0][0] == "request_erp"


def nothing_said(a: str) -> str:
    return a


def untyped(a, b: str) -> str:  # type: ignore[no-untyped-def]
    """Say."""
    return b


def many(*a: str) -> str:
    """Say."""
    return a[0]


def odd(a: complex) -> str:
    """Say."""
    return str(a)


def keyed(a: dict[int, str]) -> str:
    """Say."""
    return str(a)


def wrong_name(a: str) -> str:
    """Say.

    Args:
        b: There is none.
    """
    return a


@pytest.mark.parametrize(
    ("function", "declared", "said"),
    [
        (nothing_said, {}, "write a docstring"),
        (untyped, {}, "a has no type; write, say, a: str"),
        (many, {}, "write each parameter by its name"),
        (odd, {}, "a: there is no JSON for complex; write one of str"),
        (keyed, {}, "the keys of a JSON object are texts"),
        (wrong_name, {}, "names 'b', which is no parameter"),
        (test_a_coroutine_is_awaited, {"efect": "read"}, "@tool takes no 'efect'; it takes name"),
        (search, {"rate_key": "nam"}, "name one of name, limit, colour, order"),
        (search, {"name": "two words"}, "is no name"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    function: Callable[..., Any], declared: dict[str, Any], said: str
) -> None:
    with pytest.raises(ToolError) as raised:
        declaration_of(tool(**declared)(function))
    assert said in str(raised.value)
    assert f"test_declarations.py:{function.__code__.co_firstlineno}" in str(raised.value)


class Node(TypedDict):
    below: list[Node]


def test_a_type_that_holds_itself_is_an_error_and_no_loop() -> None:
    with pytest.raises(ToolError, match="nested too deep"):
        schema_of(Node, "here")


KINDS = st.sampled_from(
    [
        (int, st.integers(-(2**53), 2**53)),
        (str, st.text()),
        (bool, st.booleans()),
        (float, st.floats(allow_nan=False, allow_infinity=False)),
        (Colour, st.sampled_from(Colour)),
        (date, st.dates()),
        (datetime, st.datetimes()),
        (Literal["a", 1], st.sampled_from(["a", 1])),
        (int | None, st.none() | st.integers(0, 9)),
        (int | str, st.integers(0, 9) | st.text()),
        (list[Point], st.lists(st.builds(Point, st.integers(0, 9), st.integers(0, 9)), max_size=3)),
        (dict[str, Colour], st.dictionaries(st.text(), st.sampled_from(Colour), max_size=3)),
        (Point | None, st.none() | st.builds(Point, st.integers(0, 9))),
    ]
)


@settings(max_examples=60)
@given(data=st.data(), kind=KINDS)
def test_a_value_goes_to_json_and_comes_back(
    data: st.DataObject, kind: tuple[Any, st.SearchStrategy[Any]]
) -> None:
    type_, values = kind
    value = data.draw(values)
    plain = json.loads(json.dumps(to_json(value)))
    assert Draft202012Validator(schema_of(type_, "here")).is_valid(plain)
    assert from_json(type_, plain) == value


def test_what_has_no_json_is_an_error() -> None:
    with pytest.raises(ToolError, match=r"the result\[1\]\.a: there is no JSON for object"):
        to_json([1, {"a": object()}])
