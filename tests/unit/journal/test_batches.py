"""Calls that share a commit come to what they would come to one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from remit.adapters.journal.postgres.journal import PostgresJournal, PostgresOptions
from remit.adapters.journal.sqlite import SqliteJournal
from remit.ports.journal import Admission, Completion, Journal, Window
from remit.ports.runs import StartRun
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
    kind_of,
    run_of,
    vote_on,
)

SCOPES = ("day:a", "day:b", "run:c")
APPROVAL = "approval-r0.1.t0"


def admission(random: Random, number: int, clock: FakeClock) -> Admission:
    run = random.choices(("r0", "r1", "gone"), (6, 3, 1))[0]
    resource = random.choices(("pay", "paused"), (9, 1))[0]
    limits = random.choices((1, 3, 5), k=random.choice((0, 0, 1, 2)))
    return admission_of(
        f"{run}.1.t{number}",
        clock,
        action_digest=digest_of(random.choices("xy", (9, 1))[0]),
        control_scopes=("all", "agent:t/a", f"tool:{resource}"),
        holds=tuple(
            hold_of(500, scope, random.choice((None, 50)))
            for scope in random.sample(SCOPES, random.randint(0, 3))
        ),
        amount_nano_usd=random.choices((-1, 0, 20, 60, 200), (1, 4, 8, 4, 1))[0],
        windows=tuple(
            Window(key=f"w{index}.{limit}", limit=limit, span_s=60, rule=f"limits.{index}")
            for index, limit in enumerate(limits)
        ),
        approval_id=random.choices((None, APPROVAL), (15, 1))[0],
    )


def completion(random: Random, number: int, clock: FakeClock) -> Completion:
    return completion_of(
        f"{random.choice(('r0', 'r1'))}.1.t{number}",
        clock,
        cost_nano_usd=random.randint(0, 90),
        presumed=random.random() < 0.2,
        ending=ending_of("succeeded") if random.random() < 0.02 else None,
    )


async def opened(path: Path, template: bytes, clock: FakeClock) -> Journal:
    path.write_bytes(template)
    return await prepared(SqliteJournal.open(path, clock), clock)


async def prepared(journal: Journal, clock: FakeClock) -> Journal:
    for run in ("r0", "r1"):
        await journal.create_run(StartRun(run=run_of(run), audit=Z))
        assert await journal.begin_run(run, 1000, clock.now_us())
    await journal.set_control("tool:paused", True, "by the test", clock.now_us(), Z)
    approval = approval_of("r0.1.t0", clock, action_digest=digest_of("x"))
    await journal.request_approval(approval, Z)
    await journal.decide_approval(vote_on(approval), Z)
    return journal


async def together(commit: Callable[[Any], Any], operations: Sequence[object]) -> list[object]:
    return [said(result) for result in await asyncio.gather(*map(commit, operations), return_exceptions=True)]


async def one_by_one(commit: Callable[[Any], Any], operations: Sequence[object]) -> list[object]:
    return [said for operation in operations for said in await together(commit, [operation])]


def said(result: object) -> object:
    return (type(result).__name__, str(result)) if isinstance(result, BaseException) else result


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return empty_journal(tmp_path_factory.mktemp("template") / "empty.db").read_bytes()


@pytest.mark.parametrize("seed", range(12))
async def test_a_shared_commit_is_as_many_commits_one_after_the_other(
    seed: int, template: bytes, tmp_path: Path
) -> None:
    random, clock = Random(seed), FakeClock()
    shared = await opened(tmp_path / "shared.db", template, clock)
    single = await opened(tmp_path / "single.db", template, clock)
    await compare(shared, single, random, clock)


@pytest.mark.parametrize("seed", range(6))
async def test_a_shared_commit_on_postgresql_is_as_many_on_sqlite_one_after_the_other(
    seed: int, template: bytes, tmp_path: Path, database: str
) -> None:
    random, clock = Random(seed), FakeClock()
    on_postgres = PostgresJournal.open(PostgresOptions(url=database, clock=clock))
    shared = await prepared(on_postgres, clock)
    single = await opened(tmp_path / "single.db", template, clock)
    await compare(shared, single, random, clock)


async def compare(shared: Journal, single: Journal, random: Random, clock: FakeClock) -> None:
    """Commit the same on both, on one of them together, and find no difference."""
    for batch in range(4):
        # the same action twice in a batch takes another way, so mostly there is none
        numbers = [random.randrange(40) for _ in range(20)] if batch == 3 else random.sample(range(40), 20)
        wanted = [admission(random, number, clock) for number in numbers]
        assert await together(shared.admit, wanted) == await one_by_one(single.admit, wanted)
        numbers = [random.randrange(40) for _ in range(15)]
        ended = [completion(random, number, clock) for number in numbers]
        assert await together(shared.complete, ended) == await one_by_one(single.complete, ended)
        assert await shared.balances() == await single.balances()
        clock.advance(seconds=25)
    for run in ("r0", "r1"):
        assert await shared.run(run) == await single.run(run)
        assert sorted(await shared.calls(run), key=str) == sorted(await single.calls(run), key=str)
    await shared.close()
    await single.close()


async def test_a_refused_call_leaves_no_balance_though_another_of_its_commit_is_admitted(
    template: bytes, tmp_path: Path
) -> None:
    clock = FakeClock()
    journal = await opened(tmp_path / "remit.db", template, clock)
    fits = admission_of("r0.1.t1", clock, holds=(hold_of(500, "day:a"),), amount_nano_usd=20)
    refused = admission_of("r0.1.t2", clock, holds=(hold_of(10, "day:b"),), amount_nano_usd=20)
    verdicts = await asyncio.gather(journal.admit(fits), journal.admit(refused))
    assert [kind_of(verdict) for verdict in verdicts] == ["Admitted", "budget"]
    assert [balance.scope for balance in await journal.balances()] == ["day:a"]
    await journal.close()
