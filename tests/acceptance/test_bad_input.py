"""Bad input of every kind: no worker crashes, nothing is lost, each gives a typed outcome and a recorded run.

Real parts: gate, rules, runner, SQLite journal and the support toolset. The model is scripted, because it is
what sends the bad input here.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import shutil
import sqlite3
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from acceptance_cli import EXAMPLE
from acceptance_world import World, open_world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.adapters.tools.support.settings import SupportSettings
from remit.adapters.tools.support.toolset import SupportToolset, open_support
from remit.core.canonical import Json
from remit.core.errors import CODES, RemitError
from remit.core.outcomes import Done, Failed, Outcome, Refused, Unknown
from remit.core.runs import FINAL
from remit.core.tools import Effect, ToolSpec
from remit.ports.effects import CallContext
from remit.ports.journal import AuditQuery
from remit.ports.services import EffectEnded
from remit.runtime.clock import SystemClock
from remit.runtime.runner import RunResult
from remit.testing.fakes import FunctionTools, calls, says

TOGETHER = 50
TOOLS = ("search_kb", "get_customer", "create_ticket", "send_email", "run_sql_query")


@asynccontextmanager
async def opened(home: Path, kb: Path = EXAMPLE / "kb") -> AsyncIterator[tuple[World, SupportToolset]]:
    """A world and the support toolset, both in `home`."""
    parts = SupportSettings(kb=kb, data=EXAMPLE / "data", home=home)
    async with open_world(home) as world:
        support = open_support(parts, SystemClock())
        try:
            yield world, support
        finally:
            await support.close()


def uses_of(text: str) -> list[tuple[str, Json]]:
    """A call of each tool with `text` wherever a text can stand, and of a tool of that name."""
    return [
        ("search_kb", {"query": text}),
        ("get_customer", {"customer_id": text}),
        ("create_ticket", {"customer_id": "C-1042", "issue": text, "priority": "low"}),
        ("create_ticket", {"customer_id": text, "issue": "x", "priority": text}),
        ("send_email", {"to": "a@example.com", "subject": text, "body": text}),
        ("send_email", {"to": text, "subject": "x", "body": "x"}),
        ("run_sql_query", {"sql": text}),
        ("search_kb", {"query": "refund", text: text}),
        ("search_kb", text),
        (text, {"query": text}),
    ]


async def give(world: World, tools: Any, task: str, uses: Sequence[tuple[str, Json]]) -> RunResult | None:
    """A run of `task` whose model makes the calls and answers with the task; None where it was not begun."""
    try:
        result = await world.run(task, [calls(*uses), says(task)], tools)
    except RemitError as error:
        if error.code not in ("value.invalid", "value.too_large", "usage.invalid"):
            raise
        return None
    record = await world.journal.run(result.run.id)
    assert record is not None
    assert record.status == result.end.status
    assert record.status in FINAL | {"suspended"}
    if result.end.code:
        assert result.end.code in CODES
    return result


def outcomes_of(world: World, kind: str = "tool") -> list[Outcome]:
    """The outcomes of all the world's calls of a kind; each refusal and failure has a code of the table."""
    found = [
        event.outcome
        for event in world.telemetry.events
        if isinstance(event, EffectEnded) and event.action.kind == kind
    ]
    for outcome in found:
        if isinstance(outcome, Failed):
            assert outcome.code in CODES
        elif isinstance(outcome, Refused):
            assert outcome.decision.code in CODES
    return found


async def check_whole(world: World, home: Path) -> None:
    """Nothing is open, no run is left, the journal is sound, and the customer data is as it was."""
    assert await world.journal.audit(AuditQuery(open_only=True)) == []
    assert await world.journal.runs(status="running") == []
    assert await world.journal.runs(status="queued") == []
    for name in ("remit.db", "support/tickets.db"):
        with closing(sqlite3.connect(home / name)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    customers = len((EXAMPLE / "data" / "customers.csv").read_text().splitlines()) - 1
    with closing(sqlite3.connect(home / "support" / "customers.db")) as connection:
        assert connection.execute("SELECT COUNT(*) FROM customers").fetchone() == (customers,)


async def test_the_naughty_strings_as_tasks_and_arguments(shared_data: Path, tmp_path: Path) -> None:
    naughty = json.loads((shared_data / "payloads" / "blns.json").read_text())
    async with opened(tmp_path) as (world, support):
        results: list[RunResult | None] = []
        for first in range(0, len(naughty), TOGETHER):
            texts = naughty[first : first + TOGETHER]
            results += await asyncio.gather(*(give(world, support, text, uses_of(text)) for text in texts))
        blank = [text for text in naughty if not text.strip()]
        assert sum(result is None for result in results) == len(blank)
        # what a model says is given out as it is, byte for byte, or the run has failed with a code
        for text, result in zip(naughty, results, strict=True):
            if result is not None:
                assert result.end.status == "succeeded", (text, result.end)
                assert result.end.answer == text
        outcomes = outcomes_of(world)
        assert len(outcomes) == 10 * (len(naughty) - len(blank))
        assert {type(outcome) for outcome in outcomes} == {Done, Refused, Failed}
        await check_whole(world, tmp_path)


async def test_the_naughty_strings_as_pages(shared_data: Path, tmp_path: Path) -> None:
    naughty = json.loads((shared_data / "payloads" / "blns.json").read_text())
    kb = tmp_path / "kb"
    kb.mkdir()
    for number, text in enumerate(naughty):
        page = f"---\nvisibility: public\n---\n# {text}\n\nmarker{number} {text}\n"
        (kb / f"page-{number}.md").write_text(page, encoding="utf-8", newline="")
    (kb / "not-utf-8.md").write_bytes(b"\xff\xfe# broken \x80 marker9999")
    (kb / "empty.md").touch()
    (kb / "a folder.md").mkdir()
    home = tmp_path / "home"
    home.mkdir()
    async with opened(home, kb) as (world, support):
        for first in range(0, len(naughty), TOGETHER):
            uses = [("search_kb", {"query": f"marker{first + n}"}) for n in range(TOGETHER)]
            assert await give(world, support, "look", uses) is not None
        found = outcomes_of(world)
        done = [outcome for outcome in found if isinstance(outcome, Done)]
        assert len(done) == len(found)
        # every page is found by its marker, unless its own front matter was spoilt by what stands in it
        hits = sum(bool(outcome.value["results"]) for outcome in done)
        assert hits >= len(naughty) - 5
        await check_whole(world, home)


async def test_every_json_value_as_arguments(shared_data: Path, tmp_path: Path) -> None:
    suite = json.loads(gzip.decompress((shared_data / "payloads" / "jsontestsuite.json.gz").read_bytes()))
    values = list(_parsed(suite))
    assert len(values) > 100

    def uses(value: Json) -> list[tuple[str, Json]]:
        return [(name, value) for name in TOOLS] + [("search_kb", {"query": value})]

    unusable = 0
    async with opened(tmp_path) as (world, support):
        for first in range(0, len(values), TOGETHER):
            some = values[first : first + TOGETHER]
            results = await asyncio.gather(*(give(world, support, "x", uses(value)) for value in some))
            for value, result in zip(some, results, strict=True):
                assert result is not None
                if result.end.status != "succeeded":
                    # a reply beyond plain JSON (NaN, a lone surrogate, an integer beyond 2**53, a great
                    # depth) is the model's failure, billed and recorded
                    assert (result.end.status, result.end.code) == ("failed", "model.failed"), value
                    assert result.cost_nano_usd > 0
                    unusable += 1
        assert unusable < len(values) / 5
        assert len(outcomes_of(world)) == 6 * (len(values) - unusable)
        await check_whole(world, tmp_path)


def _parsed(suite: list[dict[str, str]]) -> Iterator[Json]:
    """What Python reads of the suite's documents; it reads more than JSON, such as NaN."""
    for entry in suite:
        try:
            yield json.loads(base64.b64decode(entry["b64"]))
        except (ValueError, RecursionError):
            continue


any_text = st.text(st.characters(codec=None), max_size=200)
any_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.just(10**4000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, World, Any, Path]]:
    """A world that lives through all the examples of a property."""
    home = tmp_path_factory.mktemp("fuzzed")
    with asyncio.Runner() as runner:
        context: AbstractAsyncContextManager[tuple[World, SupportToolset]] = opened(home)
        world, support = runner.run(context.__aenter__())
        yield runner, world, support, home
        runner.run(context.__aexit__(None, None, None))


FUZZ = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(task=any_text, tool=st.sampled_from(TOOLS) | any_text, args=any_value)
def test_any_task_and_any_arguments(running: Any, task: str, tool: str, args: Json) -> None:
    runner, world, support, home = running
    runner.run(give(world, support, task, [(tool, args), *uses_of(task)]))
    outcomes_of(world)
    world.telemetry.events.clear()
    runner.run(check_whole(world, home))


class _Endless(Mapping[str, int]):
    """A mapping without an end."""

    def __getitem__(self, key: str) -> int:
        return 1

    def __len__(self) -> int:
        return 2**31

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            number += 1
            yield str(number)


class _Broken(Mapping[str, int]):
    """A mapping that raises when it is looked at."""

    def __getitem__(self, key: str) -> int:
        raise ZeroDivisionError(key)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        yield "a"


def _cycle() -> Json:
    value: list[Any] = []
    value.append({"again": value})
    return value


def _laughs() -> Json:
    value: Json = ["ha"]
    for _ in range(50):
        value = [value] * 10
    return value


def _deep() -> Json:
    value: Json = 1
    for _ in range(100_000):
        value = [value]
    return value


# name: (what the tool returns, whether it is used, cut to what an agent may receive)
RESULTS: dict[str, tuple[Callable[[], Any], bool]] = {
    "200 MB of text": (lambda: "x" * 200_000_000, True),
    "200 MB of text beyond ASCII": (lambda: "ä" * 100_000_000, True),
    "200 MB in a list": (lambda: ["x" * 1000] * 200_000, True),
    "200 MB in a mapping": (lambda: {f"k{number}": "x" * 1000 for number in range(200_000)}, True),
    "200 MB nested": (lambda: {"a": [{"b": ["x" * 200_000_000]}]}, True),
    "10 to the 50th laughs": (_laughs, True),
    "a million empty lists": (lambda: [[]] * 1_000_000, True),
    "an endless mapping": (_Endless, True),
    "an integer beyond 2**53": (lambda: {"n": 2**80}, True),
    "nothing": (lambda: None, True),
    "a tuple": (lambda: (1, 2), True),
    "NaN": (lambda: {"n": float("nan")}, False),
    "infinity": (lambda: [float("-inf")], False),
    "a lone surrogate": (lambda: {"text": "a\ud800b"}, False),
    "a lone surrogate as key": (lambda: {"\udfff": 1}, False),
    "a cycle": (_cycle, False),
    "a depth of 100,000": (_deep, False),
    "bytes": (lambda: b"\x00\xff", False),
    "an integer of 40,000 digits": (lambda: 10**40_000, False),
    "keys that are no texts": (lambda: {1: "a", None: "b", (2, 3): "c"}, False),
    "a generator": (lambda: (number for number in range(3)), False),
    "a set": (lambda: {1, 2}, False),
    "a decimal": (lambda: Decimal("1.5"), False),
    "a time": (lambda: datetime(2026, 1, 1, tzinfo=UTC), False),
    "an object": (object, False),
    "a class": (lambda: int, False),
    "an exception": (lambda: ValueError("x"), False),
    "a mapping that breaks": (_Broken, False),
}


def _tool(make: Callable[[], Any], effect: Effect) -> FunctionTools:
    async def function(args: Json, context: CallContext) -> Json:
        return make()

    spec = ToolSpec(
        name="foreign", description="", args_schema={"type": "object"}, effect=effect, records="rows"
    )
    return FunctionTools([(spec, function)])


@pytest.mark.parametrize("effect", ["read", "write"])
@pytest.mark.parametrize("name", RESULTS)
async def test_any_result_of_a_tool(name: str, effect: Effect, tmp_path: Path) -> None:
    make, is_used = RESULTS[name]
    value = make()
    async with open_world(tmp_path) as world:
        began = time.process_time()
        result = await give(world, _tool(lambda: value, effect), "x", [("foreign", {}), ("foreign", {})])
        took_s = time.process_time() - began
        assert result is not None
        assert took_s < 2.0
        outcomes = outcomes_of(world)
        assert len(outcomes) == 2
        for outcome in outcomes:
            if is_used:
                assert isinstance(outcome, Done)
                assert len(json.dumps(outcome.value)) < 8 * 65_536
            elif isinstance(outcome, Failed) and outcome.code == "tool.result_invalid":
                # the model must know that it took place, whatever its result was
                assert outcome.happened
            elif effect == "read":
                assert isinstance(outcome, Failed)
            else:
                assert isinstance(outcome, Unknown)
        waits = any(isinstance(outcome, Unknown) for outcome in outcomes)
        assert result.end.status == ("suspended" if waits else "succeeded")
        assert await world.journal.audit(AuditQuery(open_only=True)) == []
        assert (tmp_path / "remit.db").stat().st_size < 2_000_000


async def test_a_result_of_200_mb_costs_no_memory_of_its_size(tmp_path: Path) -> None:
    value = {"rows": ["x" * 200_000_000]}
    async with open_world(tmp_path) as world:
        tracemalloc.start()
        try:
            result = await give(world, _tool(lambda: value, "read"), "x", [("foreign", {})])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert result is not None
    assert result.end.status == "succeeded"
    assert peak < 20_000_000


async def _raises(error: BaseException) -> Json:
    raise error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a secret: hunter2"),
        RecursionError(),
        MemoryError(),
        TimeoutError(),
        StopIteration(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "hunter2"),
        ExceptionGroup("hunter2", [ValueError("hunter2")]),
        asyncio.CancelledError("hunter2"),
        SystemExit("hunter2"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("effect", ["read", "write"])
async def test_any_error_of_a_tool(error: BaseException, effect: Effect, tmp_path: Path) -> None:
    spec = ToolSpec(name="foreign", description="", args_schema={"type": "object"}, effect=effect)
    tools = FunctionTools([(spec, lambda args, context: _raises(error))])
    async with open_world(tmp_path) as world:
        result = await give(world, tools, "x", [("foreign", {})])
        assert result is not None
        (outcome,) = outcomes_of(world)
        # nobody knows whether a write that broke took place; a read can simply be said to have failed
        assert isinstance(outcome, Unknown if effect == "write" else Failed)
        assert result.end.status == ("suspended" if effect == "write" else "succeeded")
        # what a foreign error says may be anything, so it is told to nobody
        assert "hunter2" not in repr(outcome) + result.end.message
        entries = await world.journal.audit(AuditQuery(limit=100))
        assert not any(b"hunter2" in entry.body for entry in entries)
        assert await world.journal.audit(AuditQuery(open_only=True)) == []


async def test_a_file_that_is_no_knowledge_base_and_no_data_stops_nothing(tmp_path: Path) -> None:
    kb = tmp_path / "kb"
    shutil.copytree(EXAMPLE / "kb", kb)
    (kb / "huge.md").write_bytes(b"# huge\n" + b"word " * 400_000)
    home = tmp_path / "home"
    home.mkdir()
    async with opened(home, kb) as (world, support):
        assert await give(world, support, "x", [("search_kb", {"query": "double charge"})]) is not None
        (outcome,) = outcomes_of(world)
        assert isinstance(outcome, Done)
        assert outcome.value["results"]
        await check_whole(world, home)


async def test_more_calls_in_a_turn_than_anybody_makes(tmp_path: Path) -> None:
    tools = _tool(partial(dict, ok=True), "read")
    async with open_world(tmp_path) as world:
        result = await give(world, tools, "x", [("foreign", {"n": number}) for number in range(500)])
        assert result is not None
        assert result.end.status == "succeeded"
        assert len(tools.called) <= 64
