"""Operations of an HTTP service as tools: the example service, and servers that behave badly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from tests.unit.http.conftest import EXAMPLE, Crm, Open, context, serving

from remit.adapters.egress.door import NoAnswer
from remit.adapters.tools.http.operations import Operation, Placed
from remit.adapters.tools.http.specs import declare_http
from remit.adapters.tools.http.toolset import open_http
from remit.core.errors import RemitError
from remit.governance import data
from remit.governance.toolsets import HttpToolset
from remit.ports.effects import EffectFailed
from remit.runtime.clock import SystemClock

TICKET = {"customer_id": "C-1004", "issue": "Cannot log in"}


async def test_operations_of_a_document_are_called(crm: Crm, opened: Open) -> None:
    tools = opened(
        crm.url, {"get_customer_record": {}, "open_ticket": {"name": "ticket"}, "close_ticket": {}}
    )
    by_name = {spec.name: spec for spec in tools.specs}
    assert [(one.effect, one.idempotency) for one in by_name.values()] == [
        ("read", "idempotent"),
        ("write", "at_most_once"),
        ("write", "idempotent"),
    ]
    assert by_name["ticket"].args_schema["properties"]["body"]["required"] == ["customer_id", "issue"]
    assert by_name["get_customer_record"].description == "Look up one customer by id, such as C-1004."
    found = await tools.call("get_customer_record", {"id": "C-1004"}, context())
    assert (found["status"], found["body"]["name"]) == (200, "Customer 4")
    made = await tools.call("ticket", {"body": TICKET}, context())
    assert (made["status"], made["body"]["id"]) == (201, "T-1")
    await tools.call("close_ticket", {"id": "T-1"}, context())
    assert crm.state.tickets["T-1"]["status"] == "closed"


async def test_free_requests_go_anywhere_below_the_address_by_the_methods_listed(
    crm: Crm, opened: Open
) -> None:
    tools = opened(crm.url, {}, free=["GET", "POST"], openapi=None, tool={"classes": ["pii"]})
    (spec,) = tools.specs
    assert (spec.name, spec.effect, spec.idempotency, spec.classes) == (
        "request_crm",
        "write",
        "at_most_once",
        ("pii",),
    )
    found = await tools.call("request_crm", {"method": "GET", "path": "/customers/C-1004"}, context())
    assert found["body"]["name"] == "Customer 4"
    some = await tools.call(
        "request_crm",
        {"method": "GET", "path": "/customers", "query": {"plan": "pro", "limit": 2}},
        context(),
    )
    assert {one["plan"] for one in some["body"]["customers"]} == {"pro"}
    made = await tools.call("request_crm", {"method": "POST", "path": "/tickets", "body": TICKET}, context())
    assert made["status"] == 201
    (reads,) = opened(crm.url, {}, free=["GET"], openapi=None).specs
    assert (reads.effect, reads.idempotency) == ("read", "idempotent")
    assert "body" not in reads.args_schema["properties"]


async def test_a_free_request_leaves_neither_the_address_nor_its_parts() -> None:
    seen: list[str] = []

    def look(request: Request) -> Response:
        seen.append(request.scope["raw_path"].decode() + "?" + request.scope["query_string"].decode())
        return JSONResponse({})

    async with serving(Starlette(routes=[Route("/{rest:path}", look)])) as url:
        section = HttpToolset.model_validate(
            {
                "kind": "http",
                "url": f"{url}/v1",
                "free": ["GET"],
                "inner_hosts": ["127.0.0.1"],
                "auth": {"query": "key", "query_env": "KEY"},
            }
        )
        services = ({"KEY": "k3y"}, SystemClock())
        tools = open_http(section, declare_http("s", section, EXAMPLE), EXAMPLE, services)
        try:
            for path in ("/a%2e%2e/b", "/a?b=c#d", "/@evil.com:80/", "/", "/a b/ü/"):
                await tools.call("request_s", {"method": "GET", "path": path}, context())
            assert seen == [
                "/v1/a%252e%252e/b?key=k3y",
                "/v1/a%3Fb%3Dc%23d?key=k3y",
                "/v1/%40evil.com%3A80/?key=k3y",
                "/v1/?key=k3y",
                "/v1/a%20b/%C3%BC/?key=k3y",
            ]
            for wrong in (
                {"path": "/../admin"},
                {"path": "/a/./b"},
                {"path": "/a//b"},
                {"path": "/a\\b"},
                {"path": "/a\r\nHost: b"},
                {"path": "/a/" * 60},
                {"path": "/a", "query": {"key": "mine"}},
                {"path": "/a", "body": {}},
            ):
                with pytest.raises(EffectFailed) as raised:
                    await tools.call("request_s", {"method": "GET", **wrong}, context())
                assert raised.value.code == "args.invalid", wrong
            assert len(seen) == 5
        finally:
            await tools.close()


async def test_a_key_makes_a_service_do_it_once(crm: Crm, opened: Open) -> None:
    tools = opened(crm.url, {"open_ticket": {"idempotency_header": "Idempotency-Key"}})
    assert tools.specs[0].idempotency == "idempotent"
    first, again = [await tools.call("open_ticket", {"body": TICKET}, context()) for _ in range(2)]
    other = await tools.call("open_ticket", {"body": TICKET}, context(key="r.2.t0"))
    assert [one["body"]["id"] for one in (first, again, other)] == ["T-1", "T-1", "T-2"]


async def test_a_list_over_several_pages_is_put_together_up_to_the_cap(crm: Crm, opened: Open) -> None:
    pages = {"items": "customers", "cursor": "next", "cursor_param": "cursor"}
    tools = opened(crm.url, {"list_customers": {"pages": pages}})
    all_of_them = await tools.call("list_customers", {}, context(records_max=50))
    assert (len(all_of_them["records"]), all_of_them["truncated"]) == (30, False)
    some = await tools.call("list_customers", {}, context(records_max=15))
    assert (len(some["records"]), some["truncated"]) == (15, True)
    of_a_plan = await tools.call("list_customers", {"plan": "pro"}, context(records_max=50))
    assert {one["plan"] for one in of_a_plan["records"]} == {"pro"}


async def test_what_the_service_refuses_is_a_failure_with_its_words(crm: Crm, opened: Open) -> None:
    tools = opened(crm.url, {"get_customer_record": {}})
    with pytest.raises(EffectFailed, match=r"answered 404.*no such customer") as raised:
        await tools.call("get_customer_record", {"id": "C-9999"}, context())
    assert not raised.value.retryable
    crm.state.key = "another"
    with pytest.raises(EffectFailed, match="answered 401"):
        await tools.call("get_customer_record", {"id": "C-1004"}, context())


async def test_a_host_that_is_not_opened_is_not_reached(crm: Crm, opened: Open) -> None:
    tools = opened(crm.url, {"get_customer_record": {}}, inner_hosts=[], auth=None)
    with pytest.raises(EffectFailed, match="no open network") as raised:
        await tools.call("get_customer_record", {"id": "C-1004"}, context())
    assert raised.value.code == "egress.denied"


@pytest.mark.parametrize("value", ["..", ".", "", "a/b", "a\\b", "../../health", "a\nb"])
def test_an_argument_stays_one_segment_of_a_path(value: str) -> None:
    placed = {"id": Placed(where="path", schema={}, is_required=True)}
    operation = Operation(name="o", method="GET", path="/x/{id}/y", description="", placed=placed)
    with pytest.raises(EffectFailed, match="can be no part of a path"):
        operation.request("http://a.test", {"id": value})


def test_arguments_go_where_they_belong_and_stay_values() -> None:
    placed = {
        "id": Placed(where="path", schema={}, is_required=True),
        "q": Placed(where="query", schema={}, is_required=False),
        "x-trace": Placed(where="header", schema={}, is_required=False),
        "body": Placed(where="body", schema={}, is_required=False),
    }
    operation = Operation(name="o", method="POST", path="/x/{id}", description="", placed=placed)
    args = {"id": "a?b#c%2f", "q": ["1&x=2", "#"], "x-trace": 7, "body": {"k": None}}
    url, headers, content = operation.request("http://a.test/v1/", args)
    assert url == "http://a.test/v1/x/a%3Fb%23c%252f?q=1%26x%3D2&q=%23"
    assert headers == {"accept": "application/json", "x-trace": "7", "content-type": "application/json"}
    assert json.loads(content) == {"k": None}


Answer = Callable[[Request], Response]


class Odd:
    """A service of one path that answers as it is told, in turn, and then with the last answer for good."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []

    def app(self) -> Starlette:
        async def act(request: Request) -> Response:
            self.requests.append(request)
            answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
            return answer(request)

        return Starlette(routes=[Route("/x", act, methods=["GET", "POST"])])


READ = {"act": {"method": "GET", "path": "/x"}}
WRITE = {"act": {"method": "POST", "path": "/x", "args": {"n": {"type": "integer"}}}}


async def call(odd: Odd, opened: Open, operations: Any, args: Any = None, **keys: Any) -> Any:
    async with serving(odd.app()) as url:
        tools = opened(url, operations, openapi=None, **keys)
        return await tools.call("act", {} if args is None else args, context(timeout_s=5.0))


async def test_a_read_is_tried_again_and_says_when_it_gives_up(opened: Open) -> None:
    def busy(_: Request) -> Response:
        return JSONResponse({"error": "busy"}, 503)

    odd = Odd(busy, lambda _: JSONResponse({"ok": 1}))
    assert (await call(odd, opened, READ))["body"] == {"ok": 1}
    odd = Odd(busy)
    with pytest.raises(EffectFailed, match="answered 503") as raised:
        await call(odd, opened, READ)
    assert (len(odd.requests), raised.value.retryable) == (3, True)


async def test_retry_after_is_kept_where_there_is_time_for_it(opened: Open) -> None:
    odd = Odd(lambda _: JSONResponse({}, 429, {"retry-after": "3600"}))
    with pytest.raises(EffectFailed, match="answered 429"):
        await call(odd, opened, READ)
    assert len(odd.requests) == 1


KEYED = {"act": {**WRITE["act"], "idempotency_header": "Idempotency-Key"}}


@pytest.mark.parametrize("status", [302, 303, 500, 503])
async def test_a_write_is_sent_once_and_nobody_knows_where_it_broke(opened: Open, status: int) -> None:
    odd = Odd(lambda _: JSONResponse({}, status))
    with pytest.raises(NoAnswer, match=f"answered {status}"):
        await call(odd, opened, WRITE, {"n": 1})
    assert len(odd.requests) == 1


@pytest.mark.parametrize("status", [307, 400, 409, 422, 429])
async def test_a_write_that_a_service_refuses_was_not_done(opened: Open, status: int) -> None:
    odd = Odd(lambda _: JSONResponse({"error": "n"}, status))
    with pytest.raises(EffectFailed, match=f"answered {status}"):
        await call(odd, opened, WRITE, {"n": 1})
    assert len(odd.requests) == 1


async def test_a_write_with_a_key_is_tried_again_by_that_key(opened: Open) -> None:
    odd = Odd(lambda _: JSONResponse({}, 503), lambda _: JSONResponse({"ok": 1}))
    assert (await call(odd, opened, KEYED, {"n": 1}))["body"] == {"ok": 1}
    assert {request.headers["idempotency-key"] for request in odd.requests} == {"r.1.t0"}


@pytest.mark.parametrize("last", [400, 429, 503])
async def test_a_try_that_may_have_been_done_leaves_it_open_whatever_comes_after(
    opened: Open, last: int
) -> None:
    """Else the model would take it for undone, and do it again with another key."""
    odd = Odd(lambda _: JSONResponse({}, 503), lambda _: JSONResponse({}, last))
    with pytest.raises(NoAnswer, match="answered 503"):
        await call(odd, opened, KEYED, {"n": 1})
    assert len(odd.requests) > 1


async def test_a_ticket_whose_answer_is_lost_is_made_once(crm: Crm, opened: Open) -> None:
    tools = opened(crm.url, {"open_ticket": {"idempotency_header": "Idempotency-Key"}})
    crm.state.faults += ["lost", "busy"]
    made = await tools.call("open_ticket", {"body": TICKET}, context())
    assert (made["status"], list(crm.state.tickets)) == (200, ["T-1"])
    crm.state.faults += ["lost"] * 3
    with pytest.raises(NoAnswer):
        await tools.call("open_ticket", {"body": TICKET}, context(key="r.2.t0"))
    assert list(crm.state.tickets) == ["T-1", "T-2"]


async def test_a_read_whose_answer_is_lost_is_asked_for_again(crm: Crm, opened: Open) -> None:
    tools = opened(crm.url, {"get_customer_record": {}})
    crm.state.faults += ["lost", "busy"]
    assert (await tools.call("get_customer_record", {"id": "C-1004"}, context()))["status"] == 200
    crm.state.faults += ["slow"]
    crm.state.slow_s = 0.6
    with pytest.raises(EffectFailed, match="no answer within"):
        await tools.call("get_customer_record", {"id": "C-1004"}, context(timeout_s=0.4))


async def test_a_write_to_nobody_certainly_did_not_happen(opened: Open) -> None:
    tools = opened("http://127.0.0.1:1", WRITE, openapi=None)
    with pytest.raises(EffectFailed, match="cannot be connected to"):
        await tools.call("act", {"n": 1}, context())


async def test_what_is_no_json_is_text_or_is_not_shown(opened: Open) -> None:
    assert (await call(Odd(lambda _: PlainTextResponse("hi")), opened, READ))["text"] == "hi"
    binary = await call(Odd(lambda _: Response(b"\0\1", media_type="image/png")), opened, READ)
    assert binary["note"] == "2 bytes of image/png, which are not shown"
    broken = await call(Odd(lambda _: Response(b"{", media_type="application/json")), opened, READ)
    assert broken["text"] == "{"


async def test_an_answer_is_cut_at_its_size(opened: Open) -> None:
    odd = Odd(lambda _: PlainTextResponse("x" * 100_000))
    found = await call(odd, opened, READ, response_bytes_max=1_000)
    assert (len(found["text"]), found["truncated"]) == (1_000, True)


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        ({"bearer_env": "KEY"}, "authorization", "Bearer k3y"),
        ({"basic_env": "KEY"}, "authorization", "Basic azN5"),
        ({"header": "X-Key", "header_env": "KEY"}, "x-key", "k3y"),
    ],
)
async def test_credentials_are_put_in_here(opened: Open, auth: Any, name: str, value: str) -> None:
    odd = Odd(lambda _: JSONResponse({}))
    await call(odd, opened, READ, auth=auth)
    assert odd.requests[0].headers[name] == value


async def test_a_key_in_the_query_and_one_that_is_not_set(opened: Open) -> None:
    odd = Odd(lambda request: JSONResponse(dict(request.query_params)))
    found = await call(odd, opened, READ, auth={"query": "api_key", "query_env": "KEY"})
    assert odd.requests[0].query_params["api_key"] == "k3y"
    assert found["body"] == {"api_key": "[hidden]"}  # what a service repeats of it, no model sees
    with pytest.raises(RemitError, match="NONE is not set"):
        opened("http://127.0.0.1:1", READ, openapi=None, auth={"bearer_env": "NONE"})


@pytest.mark.parametrize("auth", [{"bearer_env": "KEY"}, {"basic_env": "KEY"}])
async def test_what_a_service_repeats_of_the_credentials_is_not_shown(opened: Open, auth: Any) -> None:
    odd = Odd(
        lambda request: PlainTextResponse(f"{request.headers['authorization']} k3y"),
        lambda request: JSONResponse({"error": request.headers["authorization"]}, 400),
    )
    async with serving(odd.app()) as url:
        tools = opened(url, READ, openapi=None, auth=auth)
        text = (await tools.call("act", {}, context()))["text"]
        with pytest.raises(EffectFailed) as raised:
            await tools.call("act", {}, context())
    for shown in (text, raised.value.message, repr(tools.__dict__)):
        assert "k3y" not in shown
        assert "azN5" not in shown
    assert "[hidden]" in text


def test_credentials_go_over_https_or_within_a_network_of_ours(opened: Open) -> None:
    opened("https://api.example.com", READ, openapi=None)
    with pytest.raises(RemitError, match="credentials are sent over https"):
        opened("http://api.example.com", READ, openapi=None, inner_hosts=[])


def test_no_model_is_asked_for_what_is_put_in_here(tmp_path: Path, opened: Open) -> None:
    parameters = [
        {"name": "IDEMPOTENCY-KEY", "in": "header", "required": True},
        {"name": "x-key", "in": "header", "required": True},
        {"name": "n", "in": "query"},
    ]
    document = {"openapi": "3.1.0", "paths": {"/x": {"post": {"parameters": parameters}}}}
    (tmp_path / "api.json").write_text(json.dumps(document))
    section = HttpToolset.model_validate(
        {
            "kind": "http",
            "url": "https://a.test",
            "openapi": "api.json",
            "auth": {"header": "X-Key", "header_env": "KEY"},
            "operations": {"post /x": {"idempotency_header": "Idempotency-Key"}},
        }
    )
    (spec,) = declare_http("crm", section, tmp_path).specs
    assert (spec.name, spec.idempotency) == ("post_x", "idempotent")
    assert spec.args_schema["properties"].keys() == {"n"}
    assert spec.args_schema["required"] == []


async def test_an_argument_that_may_be_left_out(opened: Open) -> None:
    odd = Odd(lambda request: JSONResponse(dict(request.query_params)))
    args = {"a": {"type": "string"}, "b": {"type": "integer"}}
    operations = {"act": {"method": "GET", "path": "/x", "args": args, "optional": ["b"]}}
    async with serving(odd.app()) as url:
        tools = opened(url, operations, openapi=None)
        assert tools.specs[0].args_schema["required"] == ["a"]
        assert (await tools.call("act", {"a": "1&b=2"}, context()))["body"] == {"a": "1&b=2"}


async def test_retry_after_may_be_a_date(opened: Open) -> None:
    odd = Odd(lambda _: JSONResponse({}, 429, {"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}))
    with pytest.raises(EffectFailed, match="answered 429") as raised:
        await call(odd, opened, READ)
    assert len(odd.requests) == 1
    assert (raised.value.retry_after_s or 0.0) > 3600


async def test_no_page_is_followed_to_another_service_and_no_redirect_out(opened: Open) -> None:
    pages = {"act": {"method": "GET", "path": "/x", "pages": {"items": "items", "next_url": "next"}}}
    odd = Odd(lambda _: JSONResponse({"items": [1], "next": "http://evil.example/x"}))
    with pytest.raises(EffectFailed, match="at another service"):
        await call(odd, opened, pages)
    odd = Odd(lambda _: RedirectResponse("http://evil.example/"))
    with pytest.raises(EffectFailed, match=r"evil\.example is not permitted"):
        await call(odd, opened, READ)


async def test_an_endless_list_ends(opened: Open) -> None:
    pages = {"act": {"method": "GET", "path": "/x", "pages": {"items": "items", "page_param": "page"}}}
    odd = Odd(lambda request: JSONResponse({"items": [request.query_params["page"]]}))
    async with serving(odd.app()) as url:
        tools = opened(url, pages, openapi=None)
        found = await tools.call("act", {}, context(records_max=5))
    assert found["records"] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"url": "http://a.test", "url_env": "A"}, "a url or a url_env"),
        ({"url_env": "A", "operations": {"nothing": {}}}, "no operation 'nothing'"),
        ({"url_env": "A", "operations": {"health": {"path": "/x"}}}, "stand in the document"),
        ({"url_env": "A", "openapi": None, "operations": {"x": {}}}, "no method and path"),
        (
            {"url_env": "A", "openapi": None, "operations": {"x": {"method": "GET", "path": "/{id}"}}},
            "nothing says what id",
        ),
        ({"url_env": "A", "openapi": "none.json"}, "cannot be read"),
        ({"url_env": "A", "openapi": "service.py"}, "neither JSON nor YAML|no OpenAPI"),
        ({"url_env": "A", "auth": {"bearer_env": "A", "basic_env": "B"}}, "one of"),
        ({"url_env": "A", "auth": {"header": "X"}}, "one of"),
        ({"url_env": "A", "operations": {"health": {"tool": {"idempotency": "reconcilable"}}}}, "no service"),
        ({"url_env": "A", "operations": {"open_ticket": {"pages": {"items": "x"}}}}, "of what is read"),
        (
            {"url_env": "A", "openapi": None, "operations": {"x": {"method": "GET", "path": "a.test/"}}},
            "begins with /",
        ),
        (
            {
                "url_env": "A",
                "openapi": None,
                "operations": {"x": {"method": "GET", "path": "/", "optional": ["b"]}},
            },
            "none of its args",
        ),
    ],
)
def test_a_section_that_makes_no_sense_is_refused(keys: dict[str, Any], why: str) -> None:
    given = {"kind": "http", "openapi": "openapi.json", "operations": {"health": {}}} | keys
    section = HttpToolset.model_validate({key: value for key, value in given.items() if value is not None})
    with pytest.raises(RemitError, match=why):
        declare_http("crm", section, EXAMPLE)


async def test_many_calls_at_once_have_answers_of_their_own(crm: Crm, opened: Open) -> None:
    tools = opened(crm.url, {"get_customer_record": {}})
    names = [f"C-{1000 + number}" for number in range(1, 31)]
    found = await asyncio.gather(
        *(tools.call("get_customer_record", {"id": name}, context()) for name in names)
    )
    assert [one["body"]["id"] for one in found] == names


def test_the_page_in_the_documentation_is_a_section_that_works(tmp_path: Path) -> None:
    page = (EXAMPLE.parents[1] / "docs" / "http.md").read_text()
    given = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])["agent"]
    section = HttpToolset.model_validate(given["toolsets"]["crm"])
    (tmp_path / "crm.openapi.json").write_bytes((EXAMPLE / "openapi.json").read_bytes())
    specs = {spec.name: spec for spec in declare_http("crm", section, tmp_path).specs}
    assert set(given["allowed_tools"]) <= set(specs)
    assert specs["get_customer_record"].classes == ("pii",)
    assert (specs["open_ticket"].idempotency, specs["open_ticket"].rate_group) == ("idempotent", "tickets")


PERSON = {"name": "Ana", "email": "ana@example.com", "notes": "x" * 2_000}


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
@pytest.mark.parametrize("status", [200, 409])
@pytest.mark.parametrize("bytes_max", [1_000, 100_000])
@pytest.mark.parametrize("nested", [False, True])
async def test_a_field_that_is_denied_is_in_no_text_of_an_answer(
    kind: str, status: int, bytes_max: int, nested: bool
) -> None:
    body = json.dumps(json.dumps(PERSON) if nested else PERSON)

    def look(_request: Request) -> Response:
        return Response(body, status_code=status, media_type=kind)

    async with serving(Starlette(routes=[Route("/a", look)])) as url:
        section = HttpToolset.model_validate(
            {
                "kind": "http",
                "url": url,
                "free": ["GET"],
                "inner_hosts": ["127.0.0.1"],
                "response_bytes_max": bytes_max,
                "tool": {"field_classes": {"email": "pii"}},
            }
        )
        declared = declare_http("s", section, EXAMPLE)
        tools = open_http(section, declared, EXAMPLE, ({}, SystemClock()))
        denies = context(timeout_s=1.0)
        denies = denies._replace(constraints=replace(denies.constraints, denied_classes=frozenset({"pii"})))
        try:
            found = await tools.call("request_s", {"method": "GET", "path": "/a"}, denies)
            shown = str(data.clean(found, declared.specs[0], denies.constraints).value)
        except EffectFailed as error:
            shown = error.message
        finally:
            await tools.close()
    assert "ana@" not in shown
    whole = (kind, status, bytes_max, nested) == ("application/json", 200, 100_000, False)
    assert ("Ana" in shown) == whole
