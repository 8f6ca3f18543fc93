"""The ledger beside a provider's bill, day by day and model by model, and why the two differ. Pure, in integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from remit.ports.journal import CostRow

ReasonCode: TypeAlias = Literal[
    "presumed",  # we count what nobody could confirm as spent
    "held",  # calls are under way that may be billed already
    "not_ours",  # billed, and not in this journal
    "not_theirs",  # in this journal, and not on the bill
    "other_day",  # the sum of all days agrees
    "price",  # the same tokens at another price
    "tokens",  # another count of tokens
    "rounding",  # within the tolerance
    "unexplained",
]
Key: TypeAlias = tuple[str, str]
"""A day, `YYYY-MM-DD`, and a model."""

PARTS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """What a provider billed for one model on one day. Tokens are None where the bill does not tell them.

    `rounding_nano_usd`: how far its amounts may be off because they are written with few digits.
    """

    cost_nano_usd: int
    rounding_nano_usd: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None

    def __add__(self, other: Billed) -> Billed:
        return Billed(
            cost_nano_usd=self.cost_nano_usd + other.cost_nano_usd,
            rounding_nano_usd=self.rounding_nano_usd + other.rounding_nano_usd,
            input_tokens=_both(self.input_tokens, other.input_tokens),
            output_tokens=_both(self.output_tokens, other.output_tokens),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A part of a difference: `nano_usd` of it, by the bill less the ledger."""

    code: ReasonCode
    nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One day and model. The reasons add up to the difference; `agrees`: it is within the tolerance."""

    day: str
    model: str
    ours: CostRow | None
    theirs: Billed | None
    agrees: bool
    reasons: tuple[Reason, ...]

    @property
    def ours_nano_usd(self) -> int:
        """What the ledger counts as spent."""
        return 0 if self.ours is None else self.ours.cost_nano_usd

    @property
    def theirs_nano_usd(self) -> int:
        """What was billed."""
        return 0 if self.theirs is None else self.theirs.cost_nano_usd

    @property
    def difference_nano_usd(self) -> int:
        """The bill less the ledger."""
        return self.theirs_nano_usd - self.ours_nano_usd


def reconcile(
    ours: Mapping[Key, CostRow], theirs: Mapping[Key, Billed], tolerance_ppm: int
) -> tuple[Line, ...]:
    """Each day and model of either, in order, with what explains its difference.

    A line agrees where it differs by no more than `tolerance_ppm` millionths of the greater of the two, beside
    what the bill rounds.
    """
    moved = _agreeing_over_all_days(ours, theirs, tolerance_ppm)
    lines = []
    for key in sorted({*ours, *theirs}):
        row, billed = ours.get(key), theirs.get(key)
        agrees = _is_within(row, billed, tolerance_ppm)
        reasons = _reasons(row, billed, agrees=agrees, moves=key[1] in moved)
        lines.append(Line(day=key[0], model=key[1], ours=row, theirs=billed, agrees=agrees, reasons=reasons))
    return tuple(lines)


def _is_within(row: CostRow | None, billed: Billed | None, tolerance_ppm: int) -> bool:
    mine = 0 if row is None else row.cost_nano_usd
    bill = Billed(cost_nano_usd=0) if billed is None else billed
    return _close(mine, bill.cost_nano_usd, bill.rounding_nano_usd, tolerance_ppm)


def _close(mine: int, yours: int, rounding: int, tolerance_ppm: int) -> bool:
    allowed = max(abs(mine), abs(yours)) * tolerance_ppm + rounding * PARTS
    return abs(yours - mine) * PARTS <= allowed


def _agreeing_over_all_days(
    ours: Mapping[Key, CostRow], theirs: Mapping[Key, Billed], tolerance_ppm: int
) -> frozenset[str]:
    """The models whose sums over all days agree: what differs between days has only been counted on another."""
    models = {model for _, model in (*ours, *theirs)}
    found = set()
    for model in models:
        bills = [billed for (_, name), billed in theirs.items() if name == model]
        mine = sum(row.cost_nano_usd for (_, name), row in ours.items() if name == model)
        yours, rounding = (
            sum(one.cost_nano_usd for one in bills),
            sum(one.rounding_nano_usd for one in bills),
        )
        if _close(mine, yours, rounding, tolerance_ppm):
            found.add(model)
    return frozenset(found)


def _reasons(row: CostRow | None, billed: Billed | None, *, agrees: bool, moves: bool) -> tuple[Reason, ...]:
    rest = (0 if billed is None else billed.cost_nano_usd) - (0 if row is None else row.cost_nano_usd)
    if rest == 0:
        return ()
    if agrees:
        return (Reason(code="rounding", nano_usd=rest),)
    if moves:
        return (Reason(code="other_day", nano_usd=rest),)
    reasons = []
    if row is not None:
        for code, amount in (("presumed", -row.presumed_nano_usd), ("held", row.held_nano_usd)):
            part = max(rest, amount) if amount < 0 else min(rest, amount)
            if part * amount > 0:
                reasons.append(Reason(code=code, nano_usd=part))  # type: ignore[arg-type]
                rest -= part
    if rest:
        reasons.append(Reason(code=_last_reason(row, billed), nano_usd=rest))
    return tuple(reasons)


def _last_reason(row: CostRow | None, billed: Billed | None) -> ReasonCode:
    if row is None:
        return "not_ours"
    if billed is None:
        return "not_theirs"
    if billed.output_tokens is None or billed.input_tokens is None:
        return "unexplained"
    # some count what was cached as input, others beside it
    inputs = (row.usage.input_tokens, row.usage.prompt_tokens)
    same = billed.output_tokens == row.usage.output_tokens and billed.input_tokens in inputs
    return "price" if same else "tokens"


def _both(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
