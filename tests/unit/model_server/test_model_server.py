"""The scripted model server, through the real SDK and over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from remit.adapters.models import AnthropicModel
from remit.adapters.prices import PriceBook
from remit.core.errors import RemitError
from remit.core.messages import Message, ModelReply, ModelRequest, Text, ToolOffer, ToolResult, Usage
from remit.ports.effects import EffectFailed
from remit.testing.model_server import (
    BillRate,
    RunningServer,
    Script,
    ServerOptions,
    load_script,
    load_scripts,
    run,
    serve,
)

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "support" / "scripts"
MODEL = "claude-sonnet-4-20260514"
TOOLS = ("search_kb", "get_customer", "create_ticket", "send_email", "run_sql_query")
REFUSED = {
    "error": {"code": "data.denied", "message": "PII is not permitted.", "rule": "data_access.allow_pii"}
}


class Conversation:
    """A caller that plays the runtime's part: it keeps the messages and answers the calls."""

    def __init__(self, model: AnthropicModel, task: str, tools: tuple[str, ...] = TOOLS) -> None:
        self.model = model
        self.messages: list[Message] = [Message(role="user", parts=(Text(text=task),))]
        self.tools = tuple(
            ToolOffer(name=name, description="", args_schema={"type": "object"}) for name in tools
        )

    async def next(self, *results: Any) -> ModelReply:
        if results:
            uses = [part for part in self.messages[-1].parts if hasattr(part, "args")]
            parts = tuple(
                ToolResult(
                    call_id=use.id,
                    content=orjson.dumps(result).decode(),
                    is_error=isinstance(result, dict) and "error" in result,
                )
                for use, result in zip(uses, results, strict=True)
            )
            self.messages.append(Message(role="user", parts=parts))
        request = ModelRequest(
            model=MODEL, system="", messages=tuple(self.messages), tools=self.tools, max_output_tokens=500
        )
        reply = await self.model.complete(request)
        self.messages.append(Message(role="assistant", parts=reply.parts))
        return reply


@asynccontextmanager
async def served(
    *scripts: Script, options: ServerOptions | None = None
) -> AsyncIterator[tuple[RunningServer, AnthropicModel]]:
    async with serve(scripts, options or ServerOptions()) as server:
        model = AnthropicModel("key", base_url=server.base_url, timeout_s=5.0)
        try:
            yield server, model
        finally:
            await model.aclose()


@asynccontextmanager
async def talking(task: str, *scripts: Script, tools: tuple[str, ...] = TOOLS) -> AsyncIterator[Conversation]:
    async with served(*scripts) as (_, model):
        yield Conversation(model, task, tools)


def script(**fields: Any) -> Script:
    return Script.model_validate({"name": "s", "match": ".", **fields})


def calls(reply: ModelReply) -> list[tuple[str, Any]]:
    return [(use.name, use.args) for use in reply.tool_uses]


# the packaged default


async def test_the_default_searches_and_answers_from_the_best_page() -> None:
    async with talking("How do I reset my password, please?") as talk:
        assert calls(await talk.next()) == [("search_kb", {"query": "reset password"})]
        page = {"title": "Passwords", "snippet": "Press Reset.", "path": "kb/pw.md"}
        reply = await talk.next({"results": [page, {"title": "Other", "snippet": "", "path": ""}]})
        assert (reply.stop, reply.text) == ("end", "Passwords: Press Reset.\n\nSource: kb/pw.md")


async def test_the_default_says_honestly_that_nothing_was_found_or_that_it_was_refused() -> None:
    async with talking("Where is my parcel?") as talk:
        await talk.next()
        assert "found nothing" in (await talk.next({"results": []})).text
    async with talking("Where is my parcel?") as talk:
        await talk.next()
        text = (await talk.next(REFUSED)).text
        assert "PII is not permitted." in text
        assert "data_access.allow_pii" in text
    async with talking("Where is my parcel?", tools=("send_email",)) as talk:
        assert "no tools" in (await talk.next()).text


async def test_a_task_of_stop_words_alone_is_searched_as_it_is() -> None:
    async with talking("What is it?") as talk:
        assert calls(await talk.next()) == [("search_kb", {"query": "What is it?"})]


# scripts


async def test_references_keep_their_type_and_context_is_split_from_the_task() -> None:
    turns = [
        {
            "call": [
                {
                    "tool": "search_kb",
                    "args": {"query": "{{ task }}", "n": "{{ context.n }}", "t": "n={{context.n}}"},
                }
            ]
        },
        {"say": "{{ results[0].rows[1] }} / {{ last.rows[0].a }} / {{ results[0].none or 'this or that' }}"},
    ]
    async with talking('Do it\n\nContext (JSON):\n{"n": [1, 2]}', script(turns=turns)) as talk:
        assert calls(await talk.next()) == [("search_kb", {"query": "Do it", "n": [1, 2], "t": "n=[1, 2]"})]
        assert (await talk.next({"rows": [{"a": "x"}, {"b": None}]})).text == '{"b": null} / x / this or that'


async def test_a_reference_to_nothing_is_an_error_that_names_script_and_turn() -> None:
    async with talking("x", script(name="lost", turns=[{"say": "a {{ context.gone.far }}"}])) as talk:
        with pytest.raises(EffectFailed, match=r"500.*'lost', turn 0: .*'context.gone.far'"):
            await talk.next()


async def test_a_condition_on_a_result_that_is_not_there_is_an_error_and_not_false() -> None:
    turns = [{"when": "results[0].error", "then": [{"say": "a"}], "else": [{"say": "b"}]}]
    async with talking("x", script(turns=turns)) as talk:
        with pytest.raises(EffectFailed, match="turn 0"):
            await talk.next()


async def test_running_over_the_end_of_a_script_is_an_error() -> None:
    async with talking("x", script(turns=[{"say": "done"}])) as talk:
        await talk.next()
        talk.messages.append(Message(role="user", parts=(Text(text="[remit] more"),)))
        with pytest.raises(EffectFailed, match="turn 1: the script has no such turn"):
            await talk.next()


async def test_a_branch_is_decided_by_what_was_known_when_it_was_reached() -> None:
    then = [{"call": [{"tool": "create_ticket"}]}, {"say": "refused before, {{ last.id }} now"}]
    turns = [
        {"call": [{"tool": "search_kb"}]},
        {"when": "last.error", "then": then, "else": [{"say": "fine"}]},
    ]
    async with talking("x", script(turns=turns)) as talk:
        await talk.next()
        await talk.next(REFUSED)
        assert (await talk.next({"id": 7})).text == "refused before, 7 now"


async def test_an_error_is_given_its_times_per_request_and_anew_for_the_next_run() -> None:
    error = {"status": 529, "type": "overloaded_error", "message": "Overloaded", "times": 2}
    async with talking("x", script(turns=[{"say": "fine", "error": error}])) as talk:
        for _ in range(2):
            for _ in range(2):
                with pytest.raises(EffectFailed, match="529: Overloaded"):
                    await talk.next()
            assert (await talk.next()).text == "fine"
            talk.messages.pop()


async def test_the_first_script_that_matches_answers_and_named_groups_can_be_used() -> None:
    one = script(name="one", match=r"order (?P<order>\d+)", turns=[{"say": "order {{ match.order }}"}])
    two = script(name="two", match="order", turns=[{"say": "two"}])
    mine = Script.model_validate({"name": "mine", "default": True, "turns": [{"say": "mine"}]})
    async with served(mine, one, two) as (_, model):
        for task, text in (("order 12", "order 12"), ("order x", "two"), ("else", "mine")):
            assert (await Conversation(model, task).next()).text == text


async def test_a_long_answer_is_cut_at_max_tokens() -> None:
    async with talking("x", script(turns=[{"say": "y" * 10_000}])) as talk:
        reply = await talk.next()
        assert (reply.stop, reply.text, reply.usage.output_tokens) == ("max_tokens", "y" * 2_000, 500)


# the example scripts


DUPLICATE = {"rows": [{"first_charge": "CH-1", "second_charge": "CH-2"}]}


async def test_double_charge_is_honest_about_what_was_refused() -> None:
    async with talking("Customer C-1042 was charged twice in May", *load_scripts(EXAMPLES)) as talk:
        first = await talk.next()
        assert [name for name, _ in calls(first)] == ["search_kb", "get_customer", "run_sql_query"]
        assert calls(first)[1][1] == {"customer_id": "C-1042"}
        assert "customer_id = 'C-1042'" in calls(first)[2][1]["sql"]
        second = await talk.next({"results": []}, REFUSED, DUPLICATE)
        ((name, args),) = calls(second)
        assert (name, args["customer_id"]) == ("create_ticket", "C-1042")
        assert "CH-1 CH-2" in args["issue"]
        text = (await talk.next({"ticket_id": "T-1"})).text
        assert "T-1" in text
        assert "PII is not permitted." in text


async def test_double_charge_with_access_writes_to_the_customer() -> None:
    task = 'I was charged twice\n\nContext (JSON):\n{"customer_id": "C-7"}'
    async with talking(task, *load_scripts(EXAMPLES)) as talk:
        await talk.next()
        record = {"found": True, "customer": {"email": "ann@example.com"}}
        second = await talk.next({"results": []}, record, {"rows": []})
        assert [name for name, _ in calls(second)] == ["create_ticket", "send_email"]
        assert calls(second)[1][1]["to"] == "ann@example.com"
        assert "no two were found" in calls(second)[0][1]["issue"]
        text = (await talk.next({"ticket_id": "T-1"}, REFUSED)).text
        assert "Ticket: T-1\nMail to the customer: PII is not permitted." in text


async def test_double_charge_without_an_id_asks_for_it() -> None:
    async with talking("I was charged twice", *load_scripts(EXAMPLES)) as talk:
        assert "customer's id" in (await talk.next()).text


async def test_the_injected_model_obeys_and_reports() -> None:
    async with talking("What do the community tips say about syncing?", *load_scripts(EXAMPLES)) as talk:
        await talk.next()
        tried = await talk.next({"results": [{"title": "Tips", "snippet": "Export all", "path": "p"}]})
        assert [name for name, _ in calls(tried)] == ["export_customers", "run_sql_query", "send_email"]
        text = (await talk.next(REFUSED, REFUSED, {"sent": True})).text
        assert 'send_email: {"sent": true}' in text
        assert "run_sql_query: PII is not permitted." in text


async def test_the_flood_opens_six_and_one() -> None:
    async with talking("Open six tickets for C-1 and one for C-2", *load_scripts(EXAMPLES)) as talk:
        first = await talk.next()
        assert [args["customer_id"] for _, args in calls(first)] == ["C-1"] * 6
        second = await talk.next(*[{"ticket_id": f"T-{number}"} for number in range(5)], REFUSED)
        assert [args["customer_id"] for _, args in calls(second)] == ["C-2"]
        text = (await talk.next({"ticket_id": "T-9"})).text
        assert "5: T-4\n6: PII is not permitted.\nFor C-2: T-9" in text


async def test_the_question_about_plans_is_asked_in_sql() -> None:
    async with talking("How many customers are on each plan?", *load_scripts(EXAMPLES)) as talk:
        assert calls(await talk.next())[0][0] == "run_sql_query"
        assert '"free"' in (await talk.next({"rows": [{"plan": "free", "customers": 3}]})).text


async def test_a_malformed_success_fails_and_is_billed() -> None:
    async with served(*load_scripts(EXAMPLES)) as (server, model):
        with pytest.raises(EffectFailed) as caught:
            await Conversation(model, "malformed, please").next()
        assert (caught.value.code, caught.value.usage) == ("model.failed", None)
        assert server.bill["calls"] == 1


# the bill


async def test_the_bill_is_the_servers_own_and_agrees_with_the_ledger() -> None:
    async with served(script(turns=[{"say": "Hello, {{ task }}"}])) as (server, model):
        replies = [await Conversation(model, f"task {number}").next() for number in range(5)]
        usage = sum((reply.usage for reply in replies), Usage())
        async with httpx2.AsyncClient(base_url=server.base_url) as http:
            bill = (await http.get("/bill")).json()
            assert bill["calls"] == 5
            assert (bill["input_tokens"], bill["output_tokens"]) == (usage.input_tokens, usage.output_tokens)
            assert bill["cost_nano_usd"] == PriceBook().charge(MODEL, usage).cost_nano_usd
            assert bill["by_model"] == {MODEL: {key: bill[key] for key in bill if key != "by_model"}}
            assert (await http.get("/health")).json() == {"status": "ok"}
            await http.post("/reset")
            assert (await http.get("/bill")).json()["calls"] == 0


async def test_a_caller_that_gives_up_is_billed_all_the_same() -> None:
    async with serve([script(turns=[{"say": "late", "after": 30}])]) as server:
        model = AnthropicModel("key", base_url=server.base_url, timeout_s=0.2)
        with pytest.raises(EffectFailed) as caught:
            await Conversation(model, "x").next()
        await model.aclose()
        assert (caught.value.code, caught.value.usage) == ("model.timeout", None)
        assert server.bill["calls"] == 1
        assert server.model_server.bill.entries[-1].outcome == "hung"


async def test_errors_are_not_billed_and_a_model_outside_the_table_is_not_found() -> None:
    options = ServerOptions(rates={"other": BillRate(input=1, output=1)})
    async with served(script(turns=[{"say": "x"}]), options=options) as (server, model):
        with pytest.raises(EffectFailed, match="404"):
            await Conversation(model, "x").next()
        assert server.bill["calls"] == 0


# the protocol

USER = {"role": "user", "content": "x"}
CALLING = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "a", "input": {}}]}
ANSWER = {"type": "tool_result", "tool_use_id": "t1", "content": "1"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": ""}, "model: Field required"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "greater than or equal to 1"),
        ({"max_tokens": True}, "max_tokens"),
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"stream": 1}, "stream"),
        ({"messages": []}, "at least one message"),
        ({"messages": ["x"]}, "messages.0.role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "alternate"),
        ({"messages": [USER, USER]}, "alternate"),
        ({"messages": [USER, {"role": "assistant", "content": "x"}]}, "prefill"),
        ({"messages": [{"role": "user", "content": []}]}, "non-empty content"),
        ({"messages": [{"role": "user", "content": ""}]}, "non-empty"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "hologram"),
        ({"messages": [{"role": "user", "content": [ANSWER]}]}, "unexpected `tool_use_id`"),
        ({"messages": [USER, CALLING, USER]}, "were found without `tool_result`"),
        ({"messages": [USER, CALLING, {"role": "user", "content": [{**ANSWER, "tool_use_id": "t2"}]}]}, "t2"),
        ({"messages": [USER, CALLING, {"role": "user", "content": [ANSWER, ANSWER]}]}, "unexpected"),
        ({"messages": [USER, CALLING, {"role": "user", "content": [ANSWER]}, CALLING, USER]}, "unique"),
        ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "pattern"),
        ({"tools": [{"name": "a", "input_schema": {}}]}, "input_schema"),
        ({"tools": [{"name": "a", "input_schema": {"type": "object"}}] * 2}, "unique"),
        ({"system": 3}, "system"),
    ],
)
async def test_what_the_real_api_refuses_is_refused(change: dict[str, Any], message: str) -> None:
    body = {"model": MODEL, "max_tokens": 5, "messages": [USER], **change}
    async with asked([body]) as (answer,):
        assert answer.status_code == 400
        error = answer.json()
        assert error["type"] == "error"
        assert error["error"]["type"] == "invalid_request_error"
        assert message in error["error"]["message"]
        assert error["request_id"] == answer.headers["request-id"]


@asynccontextmanager
async def asked(bodies: list[Any], drop: str = "") -> AsyncIterator[list[httpx2.Response]]:
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    headers.pop(drop, None)
    async with serve() as server, httpx2.AsyncClient(base_url=server.base_url, headers=headers) as http:
        yield [
            await http.post("/v1/messages", content=body if isinstance(body, bytes) else orjson.dumps(body))
            for body in bodies
        ]


async def test_headers_and_json_are_checked_and_the_answer_has_the_providers_shape() -> None:
    good = {"model": MODEL, "max_tokens": 50, "messages": [USER]}
    async with asked([good], drop="x-api-key") as (answer,):
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
    async with asked([good], drop="anthropic-version") as (answer,):
        assert answer.status_code == 400
    async with asked([b"{", b"[]", good, good]) as (broken, a_list, answer, again):
        assert (broken.status_code, a_list.status_code, answer.status_code) == (400, 400, 200)
        message = answer.json()
        assert message["type"] == "message"
        assert message["stop_reason"] == "end_turn"
        assert message["usage"]["input_tokens"] == -(-len(b'["user",{"type":"text","text":"x"}]') // 4)
        assert again.json() == message  # the same request, the same answer
        assert again.headers["request-id"] != answer.headers["request-id"]
        assert int(again.headers["anthropic-ratelimit-requests-remaining"]) == 3996


async def test_retry_after_is_sent() -> None:
    error = {"status": 429, "type": "rate_limit_error", "message": "slow", "retry_after_s": 7}
    async with (
        serve([script(turns=[{"say": "x", "error": error}])]) as server,
        httpx2.AsyncClient(base_url=server.base_url) as http,
    ):
        body = {"model": MODEL, "max_tokens": 5, "messages": [USER]}
        headers = {"x-api-key": "k", "anthropic-version": "1"}
        answer = await http.post("/v1/messages", json=body, headers=headers)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


async def test_a_port_that_is_taken_is_an_error_and_run_serves_a_folder() -> None:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run("127.0.0.1", 0, EXAMPLES, ready.set_result))
    base_url = await asyncio.wait_for(ready, 10)
    model = AnthropicModel("key", base_url=base_url, timeout_s=5.0)
    assert (await Conversation(model, "I was charged twice").next()).text.startswith(
        "I need the customer's id"
    )
    await model.aclose()
    with pytest.raises(RemitError) as caught:
        await run("127.0.0.1", int(base_url.rsplit(":", 1)[1]), None)
    assert caught.value.code == "usage.invalid"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_does_not_wait_for_the_network_stack() -> None:
    # Without TCP_NODELAY every call waits 40 ms for an acknowledgement; the fastest of many shows it.
    async with served(script(turns=[{"say": "x"}])) as (_, model):
        fastest = 1.0
        for _ in range(10):
            started = time.perf_counter()
            await Conversation(model, "x").next()
            fastest = min(fastest, time.perf_counter() - started)
        assert fastest < 0.035


# scripts that do not load


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("name: a\nturns:\n  - say: x\n", 1, "match or default"),
        ("name: a\nmatch: x\ndefault: true\nturns:\n  - say: x\n", 1, "match or default"),
        ("name: a\nmatch: '('\nturns:\n  - say: x\n", 2, "regular expression"),
        ("name: a\nmatch: x\nturns: []\n", 3, "at least 1"),
        ("name: a\nmatch: x\nturns:\n  - say: x\n    shout: y\n", 5, "shout"),
        ("name: a\nmatch: x\nturns:\n  - say: x\n  - say: y\n", 1, "never reached"),
        ("name: a\nmatch: x\nturns:\n  - call: [{tool: t}]\n", 1, "another turn must follow"),
        ("name: a\nmatch: x\nturns:\n  - after: 1\n", 4, "say or call"),
        ("name: a\nmatch: x\nturns:\n  - say: '{{ resluts[0] }}'\n", 4, "'resluts' is nothing"),
        ("name: a\nmatch: x\nturns:\n  - say: '{{ task'\n", 4, "not closed"),
        (
            "name: a\nmatch: x\nturns:\n  - call:\n      - tool: t\n        args: {a: '{{ 1+1 }}'}\n  - say: x\n",
            6,
            "1+1",
        ),
        (
            "name: a\nmatch: x\nturns:\n  - when: nope\n    then: [{say: x}]\n    else: [{say: y}]\n",
            4,
            "'nope'",
        ),
        ("name: a\nmatch: x\nturns:\n  - say: x\n    error: {status: 200}\n", 5, "body"),
        ("name: a\nmatch: x\nturns:\n  - say: x\n    error: {times: 0}\n", 5, "at least 1"),
        ("name: a\nname: b\n", 2, "stands here and in line 1"),
        ("name: [\n", 2, "not YAML"),
    ],
)
def test_a_script_that_is_wrong_does_not_load_and_says_where(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(RemitError) as caught:
        load_script(path)
    assert caught.value.code == "script.invalid"
    assert caught.value.message.startswith(f"s.yaml:{line}:")
    assert message in str(caught.value)


def test_scripts_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    from remit.testing.model_server import ModelServer

    default = {"default": True, "turns": [{"say": "x"}]}
    one, two = (Script.model_validate({"name": name, **default}) for name in "ab")
    for scripts in ([one, two], [one, one]):
        with pytest.raises(RemitError) as caught:
            ModelServer(scripts)
        assert caught.value.code == "script.invalid"
    with pytest.raises(RemitError):
        load_scripts(tmp_path / "none")


async def test_a_further_task_in_the_same_conversation_begins_its_own_script() -> None:
    first = script(name="first", match="ticket", turns=[{"say": "opened"}])
    second = script(name="second", match="refund", turns=[{"say": "refunded"}])
    async with talking("a ticket, please", first, second) as talk:
        assert (await talk.next()).text == "opened"
        talk.messages.append(Message(role="user", parts=(Text(text="and a refund"),)))
        assert (await talk.next()).text == "refunded"
