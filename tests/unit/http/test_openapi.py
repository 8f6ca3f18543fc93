"""OpenAPI documents of all kinds, also wrong and hostile ones: what can be a tool is one, and the rest is said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.adapters.tools.http.openapi import operations_of
from remit.adapters.tools.http.operations import Operation, tool_name
from remit.adapters.tools.http.service import auth_of, server_of
from remit.adapters.tools.http.specs import declare_http, parsed
from remit.core.errors import RemitError
from remit.governance.toolsets import HttpToolset


def one(operation: Mapping[str, Any], path: str = "/x", **document: Any) -> Operation:
    """The only operation of a document."""
    found = operations_of({"openapi": "3.1.0", "paths": {path: {"post": operation}}, **document})
    (only,) = found.values()
    return only


def body(schema: Any, **document: Any) -> Operation:
    content = {"application/json": {"schema": schema}}
    return one({"operationId": "o", "requestBody": {"content": content}}, **document)


def test_a_document_of_3_0_with_references_and_one_that_holds_itself() -> None:
    tree = {
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}},
    }
    document = {
        "openapi": "3.0.3",
        "paths": {
            "/trees/{id}": {
                "parameters": [{"$ref": "#/components/parameters/Id"}],
                "put": {
                    "operationId": "plant",
                    "requestBody": {
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Tree"}}}
                    },
                    "responses": {},
                },
                "post": {"operationId": "upload", "requestBody": {"content": {"image/png": {}}}},
            }
        },
        "components": {
            "parameters": {
                "Id": {
                    "name": "id",
                    "in": "path",
                    "schema": {"type": "integer", "nullable": True, "minimum": 0, "exclusiveMinimum": True},
                }
            },
            "schemas": {"Tree": tree},
        },
    }
    found = operations_of(document)
    plant = found["plant"]
    assert plant.placed["id"].schema == {"type": ["integer", "null"], "exclusiveMinimum": 0}
    inner = plant.placed["body"].schema["properties"]["children"]["items"]
    assert inner == {"description": "again Tree, which may hold itself"}
    assert found["upload"].problem == "it takes image/png and no JSON"


def test_a_thousand_operations_are_declared_in_time(tmp_path: Path) -> None:
    paths = {
        f"/things{number}/{{id}}": {
            "get": {
                "operationId": f"get_thing_{number}",
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/T"}}}}
                },
            }
        }
        for number in range(1_000)
    }
    document = {"openapi": "3.1.0", "paths": paths, "components": {"schemas": {"T": {"type": "object"}}}}
    (tmp_path / "big.json").write_text(json.dumps(document))
    operations = {f"get_thing_{number}": {} for number in range(1_000)}
    section = HttpToolset.model_validate(
        {"kind": "http", "url": "http://a.test", "openapi": "big.json", "operations": operations}
    )
    assert len(declare_http("crm", section, tmp_path).specs) == 1_000


@pytest.mark.parametrize(
    ("parameter", "value", "query"),
    [
        ({}, ["a", "b,c"], "p=a&p=b%2Cc"),
        ({"explode": False}, ["a", "b"], "p=a%2Cb"),
        ({"style": "pipeDelimited", "explode": False}, ["a", "b"], "p=a%7Cb"),
        ({"style": "deepObject", "explode": True}, {"k": 1, "l": True}, "p%5Bk%5D=1&p%5Bl%5D=true"),
        ({}, {"k": 1}, "k=1"),
        ({"content": {"application/json": {}}}, {"k": [1]}, "p=%7B%22k%22%3A%5B1%5D%7D"),
        ({}, None, ""),
    ],
)
def test_values_are_written_in_the_style_of_the_document(parameter: Any, value: Any, query: str) -> None:
    operation = one({"parameters": [{"name": "p", "in": "query", **parameter}]})
    assert operation.request("https://a.test", {"p": value})[0].partition("?")[2] == query


def test_lists_in_a_path_and_a_header() -> None:
    operation = one(
        {"parameters": [{"name": "ids", "in": "path"}, {"name": "X-Ids", "in": "header"}]}, path="/x/{ids}"
    )
    url, headers, _ = operation.request("https://a.test", {"ids": ["a", "b"], "X-Ids": [1, 2]})
    assert (url, headers["X-Ids"]) == ("https://a.test/x/a%2Cb", "1,2")


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        ({"parameters": [{"name": "s", "in": "cookie", "required": True}]}, "it takes the cookie 's'"),
        ({"parameters": [{"name": "Host", "in": "header", "required": True}]}, "it takes the header 'Host'"),
        ({"parameters": [{"name": "a b", "in": "header", "required": True}]}, "it takes the header 'a b'"),
        (
            {"parameters": [{"name": "p", "in": "query", "required": True, "style": "matrix"}]},
            "it takes 'p' in the style matrix",
        ),
        (
            {"parameters": [{"name": "p", "in": "query"}, {"name": "p", "in": "header", "required": True}]},
            "it takes two arguments named 'p'",
        ),
        ({"requestBody": {"content": {"text/csv": {}}}}, "it takes text/csv and no JSON"),
        ({"parameters": [{"$ref": "other.yaml#/p"}]}, "leads out of the document"),
        ({"parameters": [{"$ref": "http://127.0.0.1/p"}]}, "leads out of the document"),
        ({"parameters": [{"$ref": "#/nothing"}]}, "leads nowhere"),
        ({"parameters": [{"$ref": "#/paths/~1x/post/parameters/0"}]}, "leads back to itself"),
        ({"parameters": [{"name": "p", "in": "query", "schema": {"type": 5}}]}, "schema of its arguments"),
    ],
)
def test_what_can_be_no_tool_says_why(operation: Any, problem: str) -> None:
    assert problem in one(operation).problem


def test_what_is_wrong_with_one_operation_is_no_other_one_s() -> None:
    broken = {"operationId": "broken", "parameters": [{"$ref": "#/nothing"}]}
    document = {
        "openapi": "3.0.1",
        "paths": {
            "/a": {"get": broken},
            "/b": {"get": {"operationId": "twice"}, "put": {"operationId": "twice"}},
            "/c/{id}": {"delete": {}},
        },
    }
    found = operations_of(document)
    assert {name: bool(operation.problem) for name, operation in found.items()} == {
        "broken": True,
        "twice": True,
        "delete /c/{id}": False,
    }
    assert list(operations_of(document, {"delete /c/{id}"})) == ["delete /c/{id}"]


def test_headers_that_are_ours_are_nobody_s() -> None:
    names = ["Authorization", "Accept", "Content-Length", "transfer-encoding", "Cookie", "X-Fine"]
    operation = one({"parameters": [{"name": name, "in": "header"} for name in names]})
    assert list(operation.placed) == ["X-Fine"]


def test_what_only_answers_have_is_not_asked_for() -> None:
    schema = {
        "type": "object",
        "properties": {"id": {"$ref": "#/components/schemas/Id"}, "name": {"type": "string"}},
        "required": ["id", "name"],
    }
    operation = body(schema, components={"schemas": {"Id": {"type": "string", "readOnly": True}}})
    assert operation.placed["body"].schema["properties"].keys() == {"name"}
    assert operation.placed["body"].schema["required"] == ["name"]


@pytest.mark.parametrize(
    ("schema", "read"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"nullable": True, "allOf": [{}]}, {"anyOf": [{"allOf": [{}]}, {"type": "null"}]}),
        ({"exclusiveMinimum": True, "minimum": 3}, {"exclusiveMinimum": 3}),
        ({"pattern": "^(?=a)b", "example": 1, "x-y": 2, "$anchor": "a", "$dynamicRef": "#a"}, {}),
        (
            {"if": {"$ref": "#/components/schemas/T"}, "items": False},
            {"if": {"type": "null"}, "items": False},
        ),
        ({"properties": {"a": False}}, {"properties": {"a": {"not": {}}}}),
    ],
)
def test_schemas_are_read_into_plain_ones(schema: Any, read: Any) -> None:
    operation = body(schema, components={"schemas": {"T": {"type": "null"}}})
    assert operation.problem == ""
    assert operation.placed["body"].schema == read


def test_a_schema_that_grows_without_end_is_no_tool() -> None:
    """Each level names the one below it ten times: a hundred bytes a level, and ten to the number of levels to read."""
    levels = {
        f"L{level}": {
            "properties": {str(n): {"$ref": f"#/components/schemas/L{level + 1}"} for n in range(10)}
        }
        for level in range(20)
    }
    schemas = {**levels, "L20": {"type": "string"}}
    assert body({"$ref": "#/components/schemas/L0"}, components={"schemas": schemas}).problem == (
        "its schema is too large"
    )
    deep: Any = {"type": "string"}
    for _ in range(200):
        deep = {"items": deep}
    assert body(deep).problem == "its schema is too large"


def test_words_of_yaml_stay_the_words_that_they_are() -> None:
    text = b"""
openapi: 3.0.3
paths:
  /x:
    get:
      operationId: find
      parameters:
        - {name: country, in: query, schema: {type: string, enum: [NO, SE, on], default: NO}}
        - {name: day, in: query, schema: {type: string, example: 2020-01-01, default: 2020-01-01}}
        - {name: all, in: query, required: true, schema: {type: boolean, default: false}}
"""
    placed = operations_of(parsed(text))["find"].placed
    assert placed["country"].schema["enum"] == ["NO", "SE", "on"]
    assert placed["day"].schema["default"] == "2020-01-01"
    assert (placed["all"].schema["default"], placed["all"].is_required) == (False, True)


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("repos/get", "repos_get"),
        ("get /things/{id}", "get_things_id"),
        ("9lives", "_9lives"),
        ("findPetsByStatus", "findPetsByStatus"),
        ("\u00e4", "_"),
        ("x" * 100, "x" * 64),
    ],
)
def test_an_operation_s_name_becomes_a_tool_s(operation: str, name: str) -> None:
    assert tool_name(operation) == name


@pytest.mark.parametrize(
    ("servers", "source", "url"),
    [
        ([{"url": "https://a.test/v1"}], "api.json", "https://a.test/v1"),
        ([{"url": "/v1"}], "https://a.test/openapi.json", "https://a.test/v1"),
        ([{"url": "/v1"}], "api.json", ""),
        (None, "https://a.test/docs/openapi.json", "https://a.test/"),
        ([{"url": "https://{r}.a.test", "variables": {"r": {"default": "eu"}}}], "", "https://eu.a.test"),
        ([{"url": "https://{r}.a.test"}], "", ""),
        ([5], "", ""),
    ],
)
def test_where_a_service_is(servers: Any, source: str, url: str) -> None:
    assert server_of({"servers": servers}, source) == url


@pytest.mark.parametrize(
    ("scheme", "auth"),
    [
        ({"type": "http", "scheme": "Bearer"}, {"bearer_env": "KEY"}),
        ({"type": "oauth2"}, {"bearer_env": "KEY"}),
        ({"type": "http", "scheme": "basic"}, {"basic_env": "KEY"}),
        ({"type": "apiKey", "in": "header", "name": "X-K"}, {"header": "X-K", "header_env": "KEY"}),
        ({"type": "apiKey", "in": "query", "name": "k"}, {"query": "k", "query_env": "KEY"}),
        ({"type": "apiKey", "in": "cookie", "name": "k"}, {}),
        (5, {}),
    ],
)
def test_how_a_service_knows_who_asks(scheme: Any, auth: dict[str, str]) -> None:
    components = {"securitySchemes": {"s": scheme}}
    assert auth_of({"security": [{"s": []}], "components": components}, "KEY") == auth
    asked = {"/x": {"get": {"security": [{"s": []}]}}}
    assert auth_of({"paths": asked, "components": components}, "KEY") == auth
    assert auth_of({"components": components}, "KEY") == {}


KEYS = st.sampled_from(
    [
        "paths",
        "get",
        "post",
        "put",
        "parameters",
        "name",
        "in",
        "schema",
        "required",
        "requestBody",
        "content",
        "application/json",
        "$ref",
        "properties",
        "items",
        "type",
        "allOf",
        "enum",
        "pattern",
        "nullable",
        "readOnly",
        "operationId",
        "components",
        "schemas",
        "style",
        "explode",
        "/x",
        "/{id}",
        "summary",
    ]
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.text(max_size=5),
        KEYS,
        st.sampled_from(
            ["#/paths", "#/components/schemas/a", "#/paths/~1x", "query", "path", "header", "object"]
        ),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=30,
)


@given(st.dictionaries(st.sampled_from(["/x", "/{id}"]), st.dictionaries(KEYS, VALUES, max_size=5)), VALUES)
def test_no_document_breaks_the_reader(paths: Any, components: Any) -> None:
    document = {"openapi": "3.1.0", "paths": paths, "components": components}
    try:
        found = operations_of(document)
    except RemitError:
        return
    for operation in found.values():
        json.dumps(operation.args_schema)
    server_of(document, "")
    auth_of(document, "KEY")


ALIASES = "x0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"x{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGES = "x0: &a0 {a: 1, b: 2, c: 3, d: 4}\n" + "".join(
    f"x{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [ALIASES + "openapi: *a11", MERGES, "x: &a [*a]", "x: &a {b: *a}", "[" * 20_000, "a: " + "9" * 5_000],
)
def test_a_document_that_is_small_and_written_out_has_no_end_is_refused(text: str) -> None:
    with pytest.raises(RemitError, match="neither JSON nor YAML"):
        parsed(text.encode())


def test_anchors_and_merges_of_a_usual_kind_are_read() -> None:
    text = "base: &base {type: string}\nx: {<<: *base, minLength: 1}\ny: [*base, *base]"
    assert parsed(text.encode()) == {
        "base": {"type": "string"},
        "x": {"type": "string", "minLength": 1},
        "y": [{"type": "string"}] * 2,
    }
