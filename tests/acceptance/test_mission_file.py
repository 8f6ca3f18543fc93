"""The governance file of the mission, key for key: it loads as it stands, and every key of it has an effect.

Each scene runs the real gate and runner under the file, changes one value or crosses its limit, and looks at
what became different. The last test holds the table of scenes against the file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest
import yaml

import remit.cli
from remit.adapters.prices import PriceBook
from remit.adapters.tools.support.settings import SupportSettings
from remit.adapters.tools.support.toolset import open_support
from remit.core import audit
from remit.core.actions import Principal
from remit.core.messages import ModelReply, ModelRequest, ToolResult, Usage
from remit.governance.compiler import parse
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.rules import Rules
from remit.ports.effects import CallContext, EffectFailed, Model, ToolHost
from remit.ports.journal import AuditQuery
from remit.ports.services import TextSink, ThresholdCrossed
from remit.runtime.runner import Runner, RunResult
from remit.testing import fakes
from remit.testing.fakes import FakeClock, FunctionTools, ScriptedModel, calls, says
from remit.testing.memory_journal import MemoryJournal
from remit.wiring.remits import load_remit, tool_declarations

NAME = "mission.yaml"
FILE = """agent:
  name: customer-support-v2
  model: claude-sonnet-4-20260514
  max_retries: 3
  max_concurrent_runs: 10
  allowed_tools: [search_kb, get_customer, create_ticket, send_email, run_sql_query]
  data_access: {allow_pii: false, allow_financial: false, allow_internal_docs: true, max_records_per_query: 50}
  rate_limits: {max_tickets_per_hour: 5, max_emails_per_hour: 10, max_searches_per_minute: 30}
  cost_controls: {max_daily_spend_usd: 50.00, max_cost_per_run_usd: 2.00, alert_on_threshold: 0.8}
"""
Change: TypeAlias = tuple[str, str]
MODEL = "claude-sonnet-4-20260514"
WHO = Principal(kind="user", id="u")
USD = 10**9
TEMPLATE = Path(remit.cli.__file__).parent / "template"
PII = ("allow_pii: false", "allow_pii: true")
DAY = "cost_controls.max_daily_spend_usd"
RUN = "cost_controls.max_cost_per_run_usd"
DEAR = fakes.FixedPrices({MODEL: 100_000})
"""A token costs $0.0001, so that the file's dollars are reached within a test."""


def changed(*changes: Change) -> str:
    """The file with each `old` text, which stands in it once, made `new`."""
    text = FILE
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def denial(code: str, key: str) -> tuple[str, str, str]:
    """Code, rule and `file:line` of a refusal by `key` of the file."""
    word = key.rpartition(".")[2] + ":"
    (line,) = [number for number, text in enumerate(FILE.splitlines(), start=1) if word in text]
    return code, key, f"{NAME}:{line}"


def returning(value: Any) -> FunctionTools:
    """Every tool, each returning `value` whatever it is asked."""

    async def function(args: Any, context: CallContext) -> Any:
        return value

    return FunctionTools([(spec, function) for spec in tool_declarations()])


class World:
    """An agent under the file with `changes`. A world `beside` another is a second process on its journal."""

    def __init__(
        self, *changes: Change, host: ToolHost | None = None, dear: bool = False, beside: World | None = None
    ) -> None:
        self.clock = FakeClock(seed=0 if beside is None else 1)
        self.journal: MemoryJournal = MemoryJournal(self.clock) if beside is None else beside.journal
        self.host, self.telemetry = host or returning({"ok": True}), fakes.RecordingTelemetry()
        self.remit = parse(changed(*changes), NAME, tool_declarations())
        self.rules = Rules(self.remit, self.host.specs)
        self.requests: list[ModelRequest] = []
        self.services = GateServices(
            journal=self.journal,
            prices=DEAR if dear else PriceBook(None, self.clock),
            clock=self.clock,
            telemetry=self.telemetry,
        )

    def runner(self, model: Model) -> Runner:
        gate = Gate(self.services, Effects(model=model, tools=self.host))
        return Runner(self.services, gate, self.rules)

    async def run(self, *replies: ModelReply | EffectFailed) -> RunResult:
        """One task, for which the model has these replies; `requests` are what it was asked."""
        model = ScriptedModel(replies)
        self.requests = model.requests
        return await self.runner(model).run("t", WHO)

    async def call(self, *uses: tuple[str, Any]) -> list[Any]:
        """What the model is told of calls that it makes in one turn."""
        result = await self.run(calls(*uses), says("done"))
        assert result.end.status == "succeeded", result.end
        parts = [part for part in self.requests[-1].messages[-1].parts if isinstance(part, ToolResult)]
        told = [part.content.partition("\n") for part in parts]
        return [{**orjson.loads(value), "cut": "was cut" in note} for value, _, note in told]

    async def records(self, kind: Any) -> list[Any]:
        entries = await self.journal.audit(AuditQuery(kind=kind, limit=100_000))
        return [orjson.loads(entry.body) for entry in entries]

    async def refusals(self) -> list[tuple[str, str, str]]:
        return [(one["code"], one["rule"], one["source"]) for one in await self.records("refusal")]


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[ToolHost]:
    """The real support toolset on the pages and the customers that `remit init` gives."""
    settings = SupportSettings(kb=TEMPLATE / "kb", data=TEMPLATE / "data", home=tmp_path / "home")
    opened = open_support(settings, FakeClock(), environment={})
    yield opened
    await opened.close()


async def name(host: ToolHost) -> None:
    world = World()
    other = World(("customer-support-v2", "customer-support-v3"), beside=world)
    assert world.remit.digest != other.remit.digest
    for one in (world, other):
        assert await one.runner(ScriptedModel([])).announce()
    control = audit.record("control", 0, {})
    await world.journal.set_control("agent:default/customer-support-v2", True, "stop", 0, control)
    ends = [(await one.run(says("done"))).end for one in (world, other)]
    assert [(end.status, end.code) for end in ends] == [("suspended", "agent.paused"), ("succeeded", "")]
    for kind in ("remit", "run.created", "run.ended"):
        agents = [record["agent"] for record in await world.records(kind)]
        assert agents == ["customer-support-v2", "customer-support-v3"]
    assert {record["agent"] for record in await world.records("intent")} == {"customer-support-v3"}
    scopes = [balance.scope for balance in await world.journal.balances("day:")]
    assert [scope.rpartition("/")[0] for scope in scopes] == ["day:default/customer-support-v3"]


async def model(host: ToolHost) -> None:
    costs = {}
    for asked in (MODEL, "claude-opus-4-5"):
        world = World((MODEL, asked))
        result = await world.run(says("done"))
        assert [request.model for request in world.requests] == [asked]
        assert (await world.records("intent"))[0]["resource"] == f"model:{asked}"
        costs[asked] = result.cost_nano_usd
    assert 0 < costs[MODEL] < costs["claude-opus-4-5"]
    world = World((MODEL, "claude-of-no-known-price"))
    assert (await world.run(says("done"))).end.code == "price.unknown"
    assert (await world.refusals(), world.requests) == ([denial("price.unknown", "model")], [])


async def max_retries(host: ToolHost) -> None:
    busy = EffectFailed("model.unavailable", "busy", retryable=True)
    for retries in (3, 1, 0):
        world = World(("max_retries: 3", f"max_retries: {retries}"))
        result = await world.run(*[busy] * 9)
        assert (result.end.status, result.end.code) == ("failed", "model.unavailable")
        assert (result.attempts, len(world.requests)) == (retries + 1, retries + 1)
        assert [int(slept) for slept in world.clock.slept] == [1, 2, 4][:retries]


class Held:
    """A model that answers when it is let, and counts who waits for it."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.waiting = self.most = 0

    async def complete(self, request: ModelRequest, on_text: TextSink | None = None) -> ModelReply:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self.let.wait()
        self.waiting -= 1
        return says("done")


async def max_concurrent_runs(host: ToolHost) -> None:
    for limit, tasks in ((10, 11), (2, 3), (3, 3)):
        change = ("max_concurrent_runs: 10", f"max_concurrent_runs: {limit}")
        held, world = Held(), World(change)
        runner = world.runner(held)
        runs = [asyncio.create_task(runner.run("t", WHO)) for _ in range(tasks)]
        for _ in range(200):
            await asyncio.sleep(0)
        assert held.waiting == limit
        # another process counts the same runs, and gives up at its deadline
        end = (await World(change, beside=world).run(says("done"))).end
        assert (end.status, end.code) == ("timed_out", "run.no_slot")
        held.let.set()
        assert {result.end.status for result in await asyncio.gather(*runs)} == {"succeeded"}
        assert held.most == limit


ARGS: Mapping[str, Any] = {
    "search_kb": {"query": "refund"},
    "get_customer": {"customer_id": "C-1001"},
    "create_ticket": {"customer_id": "C-1001", "issue": "broken", "priority": "low"},
    "send_email": {"to": "ada@example.com", "subject": "Hello", "body": "Hello."},
    "run_sql_query": {"sql": "SELECT count(*) AS n FROM customers"},
}
SHOWN = dict(zip(ARGS, ("results", "customer", "ticket_id", "message_id", "rows"), strict=True))


async def allowed_tool(tool: str, host: ToolHost) -> None:
    others = ", ".join(other for other in ARGS if other != tool)
    # the file denies PII to get_customer; what is shown here is that it is granted or not
    granted = World(PII, host=host)
    (told,) = await granted.call((tool, ARGS[tool]))
    assert SHOWN[tool] in told
    assert tool in {offer.name for offer in granted.requests[0].tools}
    world = World((", ".join(ARGS), others), host=host)
    (told,) = await world.call((tool, ARGS[tool]))
    assert told["error"]["code"] == "tool.not_granted"
    assert await world.refusals() == [denial("tool.not_granted", "allowed_tools")]
    assert {offer.name for offer in world.requests[0].tools} == ARGS.keys() - {tool}
    assert not [one for one in await world.records("intent") if one["resource"] == f"tool:{tool}"]


def _reading(column: str) -> list[tuple[str, Any]]:
    sql = f"SELECT {column} FROM customers LIMIT 1"
    return [("get_customer", ARGS["get_customer"]), ("run_sql_query", {"sql": sql})]


async def allow_pii(host: ToolHost) -> None:
    uses = _reading("name")
    world = World(host=host)
    denied = await world.call(*uses)
    permitted = await World(PII, host=host).call(*uses)
    assert [one["error"]["code"] for one in denied] == ["data.denied"] * 2
    assert await world.refusals() == [denial("data.denied", "data_access.allow_pii")]
    assert "PII access is not permitted" in denied[0]["error"]["message"]
    assert permitted[0]["customer"]["name"] == permitted[1]["rows"][0]["name"] == "Ada Example"


async def allow_financial(host: ToolHost) -> None:
    uses = _reading("card_last4")
    denied = await World(PII, host=host).call(*uses)
    permitted = await World(PII, ("allow_financial: false", "allow_financial: true"), host=host).call(*uses)
    assert ("card_last4" in denied[0]["customer"], denied[1]["error"]["code"]) == (False, "data.denied")
    assert permitted[0]["customer"]["card_last4"] == permitted[1]["rows"][0]["card_last4"] == "4242"
    # a tool that does not leave it out itself: the gate masks it
    (told,) = await World(PII, host=returning({"customer": {"card_last4": "4242"}})).call(uses[0])
    assert told["customer"]["card_last4"] == "[redacted: financial]"


async def allow_internal_docs(host: ToolHost) -> None:
    denying = ("allow_internal_docs: true", "allow_internal_docs: false")
    seen = []
    for world in (World(host=host), World(denying, host=host)):
        (told,) = await world.call(("search_kb", ARGS["search_kb"]))
        seen.append({page["visibility"] for page in told["results"]})
    assert seen == [{"public", "internal"}, {"public"}]
    # a tool that does not leave it out itself: the gate does
    both = returning({"results": [{"visibility": "internal"}, {"visibility": "public"}]})
    (told,) = await World(denying, host=both).call(("search_kb", ARGS["search_kb"]))
    assert told["results"] == [{"visibility": "public"}]


async def max_records_per_query(host: ToolHost) -> None:
    sql = "SELECT a.id FROM customers a, customers b, customers c, customers d LIMIT 51"
    every = returning({"rows": [{"id": number} for number in range(51)]})  # a tool that cuts nothing itself
    for limit in (50, 7, 51):
        change = ("max_records_per_query: 50", f"max_records_per_query: {limit}")
        (told,) = await World(change, host=host).call(("run_sql_query", {"sql": sql}))
        assert (len(told["rows"]), told["truncated"]) == (limit, limit < 51)
        (told,) = await World(change, host=every).call(("run_sql_query", {"sql": sql}))
        assert (len(told["rows"]), told["cut"]) == (limit, limit < 51)


RATES = (
    ("max_tickets_per_hour", 5, "create_ticket", 3600, {"customer_id": "C-1002"}),
    ("max_emails_per_hour", 10, "send_email", 3600, {"to": "grace@example.com"}),
    ("max_searches_per_minute", 30, "search_kb", 60, {"query": "password"}),
)


async def rate_limit(key: str, limit: int, tool: str, span_s: int, other: Any, host: ToolHost) -> None:
    world, one_more = World(), [(tool, ARGS[tool])]
    told = await world.call(*one_more * (limit + 1))
    assert ["error" in one for one in told].count(False) == limit
    assert await world.refusals() == [denial("rate.limited", f"rate_limits.{key}")]
    (elsewhere,) = await world.call((tool, {**ARGS[tool], **other}))
    assert ("error" in elsewhere) == (tool != "create_ticket")  # tickets are counted for each customer
    world.clock.advance(span_s - 1)
    (late,) = await world.call(*one_more)
    assert (late["error"]["code"], late["error"]["remedy"]) == ("rate.limited", "there is room again in 1 s")
    world.clock.advance(1)
    assert "error" not in (await world.call(*one_more))[0]
    raised = World((f"{key}: {limit}", f"{key}: {limit + 1}"))
    assert not any("error" in one for one in await raised.call(*one_more * (limit + 1)))


ANSWER = says("done", usage=Usage(input_tokens=2000, output_tokens=200))


async def max_cost_per_run_usd(host: ToolHost) -> None:
    turn = calls(("search_kb", ARGS["search_kb"]), usage=ANSWER.usage)
    asked = []
    for dollars in (2, 1):
        cap = ("max_cost_per_run_usd: 2.00", f"max_cost_per_run_usd: {dollars}.00")
        world = World(cap, dear=True)
        result = await world.run(*[turn] * 30)
        assert (result.end.status, result.end.code) == ("refused", "budget.exhausted")
        assert await world.refusals() == [denial("budget.exhausted", RUN)]
        # the call that might have passed the cap was not made, and no other was held back
        assert (dollars - 0.3) * USD < result.cost_nano_usd <= dollars * USD
        asked.append(len(world.requests))
    assert asked[0] > asked[1] > 1
    world = World(("max_cost_per_run_usd: 2.00", "max_cost_per_run_usd: 0.01"), dear=True)
    result = await world.run(ANSWER)
    assert (result.end.code, result.cost_nano_usd, world.requests) == ("budget.exhausted", 0, [])


async def spend_a_day(world: World) -> tuple[int, list[ThresholdCrossed]]:
    """Run until the day's cap refuses; what was spent, and the alerts."""
    spent = 0
    for _ in range(1000):
        result = await world.run(ANSWER)
        spent += result.cost_nano_usd
        if result.end.status != "succeeded":
            assert (result.end.code, result.cost_nano_usd) == ("budget.exhausted", 0)
            break
    assert await world.refusals() == [denial("budget.exhausted", DAY)]
    events = [event for event in world.telemetry.events if isinstance(event, ThresholdCrossed)]
    assert len(await world.records("alert")) == len(events)
    return spent, events


async def max_daily_spend_usd(host: ToolHost) -> None:
    for dollars in (50, 10):
        cap = ("max_daily_spend_usd: 50.00", f"max_daily_spend_usd: {dollars}.00")
        world = World(cap, dear=True)
        spent, _ = await spend_a_day(world)
        assert (dollars - 1) * USD < spent <= dollars * USD
        # another process has no money left either, and asks nobody
        for one in (world, World(cap, dear=True, beside=world)):
            assert ((await one.run(ANSWER)).end.code, one.requests) == ("budget.exhausted", [])
        world.clock.advance(86_400)
        assert (await world.run(ANSWER)).end.status == "succeeded"


async def alert_on_threshold(host: ToolHost) -> None:
    for share, percent in (("0.8", 80), ("0.25", 25)):
        world = World(("alert_on_threshold: 0.8", f"alert_on_threshold: {share}"), dear=True)
        _, (crossed,) = await spend_a_day(world)
        alert = crossed.alert
        due = USD * percent // 2
        assert (alert.threshold_percent, alert.cap_nano_usd) == (percent, 50 * USD)
        assert due <= alert.spent_nano_usd < due + 100_000 * ANSWER.usage.prompt_tokens * 2


Scene: TypeAlias = Callable[[ToolHost], Awaitable[None]]
DATA = (allow_pii, allow_financial, allow_internal_docs, max_records_per_query)
COSTS = (max_daily_spend_usd, max_cost_per_run_usd, alert_on_threshold)
SCENES: Mapping[str, Scene] = {
    **{scene.__name__: scene for scene in (name, model, max_retries, max_concurrent_runs)},
    **{f"allowed_tools.{tool}": partial(allowed_tool, tool) for tool in ARGS},
    **{f"data_access.{scene.__name__}": scene for scene in DATA},
    **{f"rate_limits.{rate[0]}": partial(rate_limit, *rate) for rate in RATES},
    **{f"cost_controls.{scene.__name__}": scene for scene in COSTS},
}


@pytest.mark.parametrize("key", SCENES)
async def test_the_key_has_an_effect(key: str, host: ToolHost) -> None:
    await SCENES[key](host)


def test_the_file_loads_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(FILE)
    loaded = load_remit(tmp_path / NAME)
    assert (loaded.agent, loaded.model, loaded.allowed_tools) == ("customer-support-v2", MODEL, tuple(ARGS))
    assert loaded.digest == World().remit.digest


def test_every_key_of_the_file_has_its_scene() -> None:
    keys: set[str] = set()
    for key, value in yaml.safe_load(FILE)["agent"].items():
        keys |= {f"{key}.{inner}" for inner in value} if isinstance(value, dict | list) else {key}
    assert keys == SCENES.keys()
