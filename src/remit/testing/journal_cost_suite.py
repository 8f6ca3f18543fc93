"""The part of the `Journal` port's conformance suite that is about adding up what calls cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from remit.core.runs import RunStatus
from remit.ports.journal import CostDimension, CostQuery, CostRow, Journal
from remit.ports.runs import StartRun
from remit.testing.journal_values import (
    JournalPlace,
    Z,
    admission_of,
    completion_of,
    digest_of,
    ending_of,
    hold_of,
    run_of,
    started,
)

_HOLD = hold_of(10**6)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A call to make: of a model, but for `tool`; without an outcome where its `state` is empty."""

    id: str
    state: str = "done"
    cost: int = 10
    tool: str = ""
    content: str = ""
    saved: int = 0
    presumed: bool = False
    assumed: bool = False


async def _make(journal: Journal, place: JournalPlace, call: _Call) -> None:
    clock = place.clock
    asked: dict[str, Any] = {
        "kind": "tool" if call.tool else "model",
        "resource": call.tool or "m-1",
        "content": digest_of(call.content or call.id),
        "holds": (_HOLD,) if call.cost else (),
        "amount_nano_usd": call.cost,
    }
    await journal.admit(admission_of(call.id, clock, **asked))
    if call.state:
        done: dict[str, Any] = {
            "state": call.state,
            "cost_nano_usd": call.cost,
            "presumed": call.presumed,
            "saved_nano_usd": call.saved,
            "assumed": call.assumed,
        }
        await journal.complete(completion_of(call.id, clock, **done))


async def _costs(journal: Journal, *by: CostDimension, **asked: Any) -> dict[tuple[str | None, ...], CostRow]:
    rows = await journal.costs(CostQuery(by=by, **asked))
    assert [row.group for row in rows] == sorted(
        (row.group for row in rows), key=lambda group: [(value is not None, value or "") for value in group]
    )
    return {row.group: row for row in rows}


class JournalCostSuite:
    """What every journal promises of costs; `JournalSuite` holds these tests too."""

    async def test_nothing_costs_nothing(self, place: JournalPlace) -> None:
        journal = await started(place)
        assert list(await journal.costs(CostQuery())) == []
        assert list(await journal.costs(CostQuery(by=("day", "agent")))) == []
        await journal.close()

    async def test_what_counts_and_what_was_wasted(self, place: JournalPlace) -> None:
        journal = await started(place)
        for call in (
            _Call(id="r.1.m", saved=-3),
            _Call(id="r.2.m", saved=8, assumed=True),
            _Call(id="r.3.m", state="failed", cost=7),
            _Call(id="r.4.m", state="failed", cost=5, presumed=True),
            _Call(id="r.5.m", state="cancelled", cost=0),
            _Call(id="r.6.m", state="", cost=4),
            _Call(id="r.1.a", tool="look"),
            _Call(id="r.1.b", tool="free", cost=0),
            _Call(id="r.1.c", tool="pay", cost=3, state="unknown", presumed=True),
        ):
            await _make(journal, place, call)
        (row,) = await journal.costs(CostQuery())
        assert row == CostRow(
            group=(),
            calls=6,
            usage=row.usage,
            cost_nano_usd=10 + 10 + 7 + 5 + 10 + 3,
            saved_nano_usd=5,
            wasted_nano_usd=7 + 5 + 3,
            presumed_nano_usd=5 + 3,
            held_nano_usd=4,
            repeats=0,
            repeated_nano_usd=0,
            assumed_calls=1,
        )
        assert (row.usage.input_tokens, row.usage.output_tokens) == (6, 12)
        by_kind = await _costs(journal, "model", "tool")
        assert {group: found.cost_nano_usd for group, found in by_kind.items()} == {
            ("m-1", None): 32,
            (None, "look"): 10,
            (None, "pay"): 3,
        }
        await journal.close()

    async def test_an_expired_call_counts_as_presumed_and_wasted(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        await _make(journal, place, _Call(id="r.1.m", state="", cost=6))
        (row,) = await journal.costs(CostQuery())
        assert (row.calls, row.cost_nano_usd, row.held_nano_usd) == (0, 0, 6)
        await journal.expire_holds(clock.now_us() + 10**12)
        (row,) = await journal.costs(CostQuery())
        assert (row.calls, row.cost_nano_usd, row.held_nano_usd) == (1, 6, 0)
        assert (row.presumed_nano_usd, row.wasted_nano_usd) == (6, 6)
        await journal.complete(completion_of("r.1.m", clock, cost_nano_usd=2))
        (row,) = await journal.costs(CostQuery())
        assert (row.calls, row.cost_nano_usd, row.presumed_nano_usd, row.wasted_nano_usd) == (1, 2, 0, 0)
        await journal.close()

    async def test_what_a_run_without_an_answer_cost_was_wasted(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        ends: tuple[RunStatus, ...]
        ends = ("succeeded", "failed", "timed_out", "refused", "cancelled", "suspended")
        for status in ends:
            run_id = f"run-{status}"
            await journal.create_run(StartRun(run=run_of(run_id), audit=Z))
            await journal.begin_run(run_id, 1000, clock.now_us())
            await _make(journal, place, _Call(id=f"{run_id}.1.m"))
            await journal.end_run(run_id, ending_of(status), clock.now_us())
        rows = await _costs(journal, "run")
        wasted = {str(run_id).removeprefix("run-"): row.wasted_nano_usd for (run_id,), row in rows.items()}
        assert wasted == {
            "succeeded": 0,
            "suspended": 0,
            "failed": 10,
            "timed_out": 10,
            "refused": 10,
            "cancelled": 10,
        }
        await journal.close()

    async def test_a_repeat_is_the_same_content_again_in_one_run(self, place: JournalPlace) -> None:
        journal = await started(place)
        await journal.create_run(StartRun(run=run_of("s"), audit=Z))
        await journal.begin_run("s", 1000, place.clock.now_us())
        for call in (
            _Call(id="r.1.m", content="a", state="failed"),
            _Call(id="r.2.m", content="a"),
            _Call(id="r.3.m", content="b"),
            _Call(id="r.4.m", content="a", cost=4),
            _Call(id="r.5.m", content="a", tool="look"),
            _Call(id="s.1.m", content="a"),
        ):
            await _make(journal, place, call)
        rows = await _costs(journal, "run")
        assert {group: (row.repeats, row.repeated_nano_usd) for group, row in rows.items()} == {
            ("r",): (2, 14),
            ("s",): (0, 0),
        }
        await journal.close()

    async def test_costs_are_of_the_day_of_admission_in_a_zone(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        # 2027-01-15 08:00 UTC; in steps of eight hours
        for index in range(6):
            await _make(journal, place, _Call(id=f"r.{index}.m"))
            await clock.sleep(8 * 3600)
        by_day = await _costs(journal, "day", "agent", timezone="Asia/Tokyo")
        assert {group: row.calls for group, row in by_day.items()} == {
            ("2027-01-15", "a"): 1,
            ("2027-01-16", "a"): 3,
            ("2027-01-17", "a"): 2,
        }
        assert [group[0] for group in await _costs(journal, "day", timezone="UTC")] == [
            "2027-01-15",
            "2027-01-16",
            "2027-01-17",
        ]
        await journal.close()

    async def test_since_is_within_and_until_is_not(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        moments = []
        for index in range(3):
            moments.append(clock.now_us())
            await _make(journal, place, _Call(id=f"r.{index}.m"))
            await clock.sleep(1)
        (row,) = await journal.costs(CostQuery(since_us=moments[1], until_us=moments[2]))
        assert row.calls == 1
        (row,) = await journal.costs(CostQuery(since_us=moments[0], until_us=moments[2]))
        assert row.calls == 2
        await journal.close()

    async def test_every_grouping_adds_up_to_the_same(self, place: JournalPlace) -> None:
        journal, clock = await started(place), place.clock
        await journal.create_run(StartRun(run=run_of("s", agent="other"), audit=Z))
        await journal.begin_run("s", 1000, clock.now_us())
        for index in range(4):
            await _make(journal, place, _Call(id=f"r.{index}.m", cost=1 + index, content="same"))
            await _make(journal, place, _Call(id=f"s.{index}.t", tool=f"t-{index}", cost=10 * index))
            await clock.sleep(40_000)
        (total,) = await journal.costs(CostQuery())
        everything: tuple[CostDimension, ...] = ("tool", "model", "run", "tenant", "agent", "day")
        for by in [(), *((one,) for one in everything), everything]:
            rows = await journal.costs(CostQuery(by=by))
            assert sum(row.usage.output_tokens for row in rows) == total.usage.output_tokens
            for name in asdict(total):
                if name not in ("group", "usage"):
                    assert sum(getattr(row, name) for row in rows) == getattr(total, name), (by, name)
        await journal.close()
