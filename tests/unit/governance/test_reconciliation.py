"""Why a bill and a ledger differ: every nano-USD of the difference has a reason, and agreeing is what it says."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from remit.core.messages import Usage
from remit.governance.reconciliation import PARTS, Billed, Key, Line, reconcile
from remit.ports.journal import CostRow

DAYS = ("2026-11-21", "2026-11-22")
KEYS: list[Key] = [(day, model) for day in DAYS for model in ("a", "b")]
NOTHING = CostRow(
    group=(),
    calls=1,
    usage=Usage(input_tokens=10, output_tokens=5, cache_read_tokens=90),
    cost_nano_usd=0,
    saved_nano_usd=0,
    wasted_nano_usd=0,
    presumed_nano_usd=0,
    held_nano_usd=0,
    repeats=0,
    repeated_nano_usd=0,
    assumed_calls=0,
)
HALF_PERCENT = PARTS // 200


def spent(cost: int, presumed: int = 0, held: int = 0) -> CostRow:
    return replace(NOTHING, cost_nano_usd=cost, presumed_nano_usd=presumed, held_nano_usd=held)


@st.composite
def rows(draw: st.DrawFn) -> CostRow:
    cost = draw(st.integers(0, 10**6))
    return spent(cost, draw(st.integers(0, cost)), draw(st.integers(0, 10**6)))


bills = st.builds(
    Billed,
    cost_nano_usd=st.integers(-(10**5), 10**6),
    rounding_nano_usd=st.integers(0, 100),
    input_tokens=st.none() | st.integers(0, 200),
    output_tokens=st.none() | st.integers(0, 10),
)


@given(
    ours=st.dictionaries(st.sampled_from(KEYS), rows()),
    theirs=st.dictionaries(st.sampled_from(KEYS), bills),
    ppm=st.integers(0, PARTS),
)
def test_the_reasons_add_up_to_the_difference_and_nothing_is_left_out(
    ours: dict[Key, CostRow], theirs: dict[Key, Billed], ppm: int
) -> None:
    lines = reconcile(ours, theirs, ppm)
    assert [(line.day, line.model) for line in lines] == sorted({*ours, *theirs})
    assert sum(line.ours_nano_usd for line in lines) == sum(row.cost_nano_usd for row in ours.values())
    assert sum(line.theirs_nano_usd for line in lines) == sum(one.cost_nano_usd for one in theirs.values())
    for line in lines:
        assert sum(reason.nano_usd for reason in line.reasons) == line.difference_nano_usd
        assert all(reason.nano_usd * line.difference_nano_usd > 0 for reason in line.reasons)
        for reason in line.reasons:
            if reason.code == "presumed":
                assert line.ours is not None
                assert -reason.nano_usd <= line.ours.presumed_nano_usd
            if reason.code == "held":
                assert line.ours is not None
                assert reason.nano_usd <= line.ours.held_nano_usd
        rounding = 0 if line.theirs is None else line.theirs.rounding_nano_usd
        greater = max(abs(line.ours_nano_usd), abs(line.theirs_nano_usd))
        assert line.agrees == (abs(line.difference_nano_usd) <= Fraction(greater * ppm, PARTS) + rounding)


def only(ours: CostRow | None, theirs: Billed | None) -> Line:
    key = KEYS[0]
    (line,) = reconcile(
        {} if ours is None else {key: ours}, {} if theirs is None else {key: theirs}, HALF_PERCENT
    )
    return line


def codes(line: Line) -> list[tuple[str, int]]:
    return [(reason.code, reason.nano_usd) for reason in line.reasons]


def test_each_reason_is_found() -> None:
    tokens = {"input_tokens": 10, "output_tokens": 5}
    same = Billed(cost_nano_usd=1000, **tokens)
    assert only(spent(1000), same).reasons == ()
    assert codes(only(spent(1004), same)) == [("rounding", -4)]
    assert codes(only(spent(1500, presumed=500), same)) == [("presumed", -500)]
    assert codes(only(spent(1500, presumed=400), same)) == [("presumed", -400), ("price", -100)]
    assert codes(only(spent(800, held=300), same)) == [("held", 200)]
    assert codes(only(spent(500), same)) == [("price", 500)]
    assert codes(only(spent(500), replace(same, input_tokens=100))) == [("price", 500)]  # the cached ones too
    assert codes(only(spent(500), replace(same, input_tokens=11))) == [("tokens", 500)]
    assert codes(only(spent(500), replace(same, output_tokens=None))) == [("unexplained", 500)]
    assert codes(only(None, same)) == [("not_ours", 1000)]
    assert codes(only(spent(500), None)) == [("not_theirs", -500)]
    assert only(spent(1004), same).agrees
    assert not only(spent(1006), same).agrees
    assert only(spent(1006), replace(same, rounding_nano_usd=1)).agrees


def test_what_was_counted_on_another_day_is_said_so() -> None:
    ours = {(DAYS[0], "a"): spent(700), (DAYS[1], "a"): spent(300)}
    theirs = {(DAYS[0], "a"): Billed(cost_nano_usd=400), (DAYS[1], "a"): Billed(cost_nano_usd=600)}
    lines = reconcile(ours, theirs, HALF_PERCENT)
    assert [codes(line) for line in lines] == [[("other_day", -300)], [("other_day", 300)]]
    assert not any(line.agrees for line in lines)
