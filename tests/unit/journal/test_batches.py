"""Calls that share a commit come to what they would come to one after the other."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.adapters.journal.sqlite import SqliteJournal
from remit.ports.journal import Admission, Completion, Journal, StartRun, Window
from remit.testing.fakes import FakeClock
from remit.testing.gate_world import empty_journal
from remit.testing.journal_values import (
    Z,
    admission_of,
    approval_of,
    completion_of,
    digest_of,
    ending_of,
    hold_of,
    run_of,
)

RUNS = ("r0", "r1", "gone")
SCOPES = ("day:a", "day:b", "run:c")


@st.composite
def admissions(draw: st.DrawFn, clock: FakeClock) -> Admission:
    run = draw(st.sampled_from(RUNS))
    number = draw(st.integers(0, 6))
    names = draw(st.lists(st.sampled_from(SCOPES), unique=True, max_size=3))
    limits = draw(st.lists(st.integers(1, 4), max_size=2))
    resource = draw(st.sampled_from(("pay", "paused")))
    return admission_of(
        f"{run}.1.t{number}",
        clock,
        action_digest=digest_of(draw(st.sampled_from(("x", "y")))),
        control_scopes=("all", "agent:t/a", f"tool:{resource}"),
        holds=tuple(hold_of(500, scope, draw(st.sampled_from((None, 50)))) for scope in names),
        amount_nano_usd=draw(st.integers(-1, 200)),
        windows=tuple(
            Window(key=f"w{index}", limit=limit, span_s=60, rule=f"limits.{index}")
            for index, limit in enumerate(limits)
        ),
        approval_id=draw(st.sampled_from((None, None, "approval-r0.1.t0"))),
    )


def completions(clock: FakeClock) -> st.SearchStrategy[Completion]:
    return st.builds(
        lambda run, number, cost, presumed, ends: completion_of(
            f"{run}.1.t{number}",
            clock,
            cost_nano_usd=cost,
            presumed=presumed,
            ending=ending_of("succeeded") if ends else None,
        ),
        st.sampled_from(RUNS),
        st.integers(0, 6),
        st.integers(0, 300),
        st.booleans(),
        st.sampled_from((False, False, True)),
    )


async def opened(folder: Path, template: bytes, clock: FakeClock) -> Journal:
    (folder / "remit.db").write_bytes(template)
    journal = SqliteJournal.open(folder / "remit.db", clock)
    for run in ("r0", "r1"):
        await journal.create_run(StartRun(run=run_of(run), audit=Z))
        assert await journal.begin_run(run, 1000, clock.now_us())
    await journal.set_control("tool:paused", True, "by the test", clock.now_us(), Z)
    approval = approval_of("r0.1.t0", clock, action_digest=digest_of("x"))
    await journal.request_approval(approval, Z)
    await journal.decide_approval(
        approval_of("r0.1.t0", clock, action_digest=digest_of("x"), verdict="approved", decided_by="user:p"),
        Z,
    )
    return journal


async def together(journal: Journal, wanted: list[Admission], ended: list[Completion]) -> list[object]:
    verdicts = await asyncio.gather(
        *(journal.admit(admission) for admission in wanted), return_exceptions=True
    )
    settled = await asyncio.gather(*(journal.complete(each) for each in ended), return_exceptions=True)
    return [*map(said, verdicts), *map(said, settled)]


async def one_by_one(journal: Journal, wanted: list[Admission], ended: list[Completion]) -> list[object]:
    found: list[object] = []
    for admission in wanted:
        found += await asyncio.gather(journal.admit(admission), return_exceptions=True)
    for completion in ended:
        found += await asyncio.gather(journal.complete(completion), return_exceptions=True)
    return [said(result) for result in found]


def said(result: object) -> object:
    return (type(result).__name__, str(result)) if isinstance(result, BaseException) else result


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return empty_journal(tmp_path_factory.mktemp("template") / "empty.db").read_bytes()


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_shared_commit_is_as_many_commits_one_after_the_other(template: bytes, data: st.DataObject) -> None:
    clock = FakeClock()
    wanted = data.draw(st.lists(admissions(clock), max_size=12))
    ended = data.draw(st.lists(completions(clock), max_size=12))

    async def compare(folder: Path) -> None:
        (folder / "a").mkdir()
        (folder / "b").mkdir()
        shared = await opened(folder / "a", template, clock)
        single = await opened(folder / "b", template, clock)
        assert await together(shared, wanted, ended) == await one_by_one(single, wanted, ended)
        assert await shared.balances() == await single.balances()
        for run in RUNS:
            assert await shared.run(run) == await single.run(run)
            assert sorted(await shared.calls(run), key=str) == sorted(await single.calls(run), key=str)
        await shared.close()
        await single.close()

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(compare(Path(name)))
