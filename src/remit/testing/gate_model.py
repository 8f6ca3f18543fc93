"""What the gate must do, in plain Python: the simulation's model of it.

`expect` predicts the outcome of one act and keeps the books that the journal must show afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from remit.core.actions import Action, ModelCall, Release
from remit.governance import budget
from remit.testing.faulty_journal import Fault
from remit.testing.gate_world import CAPS, PAY_PRICE, PRICE, Behaviour

PRICES: Mapping[str, int] = {"pay": PAY_PRICE, "search": 500_000}
GRANTED = ("lookup", "pay", "note", "search")
WRITES = ("pay", "note")
"""Interrupted, nobody knows whether they happened; a key would not help, for the next try has another."""


@dataclass(slots=True, kw_only=True)
class Act:
    """One call of `Gate.perform`: the action, the arguments as they were meant, and what shall go wrong."""

    action: Action
    args: Any
    fault: Fault = "none"
    behaviour: Behaviour = "ok"
    output_tokens: int = 16

    @property
    def resource(self) -> str:
        return self.action.resource

    @property
    def bound(self) -> int:
        """What the act may cost at most, in nano-USD."""
        if isinstance(self.action, ModelCall):
            return PRICE * sum(budget.call_bounds(self.action))
        return PRICES.get(self.resource, 0)


@dataclass(slots=True, kw_only=True)
class _Call:
    digest: str
    run_id: str
    state: str
    shown: str
    held: int
    scopes: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class _Standing:
    verdict: str
    expires_us: int
    used: bool = False


@dataclass(slots=True)
class GateModel:
    """The books: calls, money (spent, held, presumed), rate events, approvals, pauses, runs."""

    calls: dict[str, _Call] = field(default_factory=dict)
    money: dict[str, list[int]] = field(default_factory=dict)
    events: dict[str, list[int]] = field(default_factory=dict)
    approvals: dict[str, _Standing] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    running: set[str] = field(default_factory=set)
    effects: dict[str, int] = field(default_factory=dict)

    def expect(self, act: Act, now_us: int) -> str:
        """The outcome of `act`."""
        verdict = self.begin(act, now_us)
        return verdict if verdict is not None else self.finish(act)

    def begin(self, act: Act, now_us: int) -> str | None:
        """The outcome of `act` where it is not performed, else None: it is admitted."""
        if act.fault == "cancel_before":
            return "cancelled"
        refused = self._decide(act) or self._approve(act, now_us)
        if refused is not None:
            return refused
        if act.fault in ("admit_raises", "admit_fails"):
            return "refused:journal.unavailable"
        verdict = self._verdict(act, now_us)
        if verdict is None:
            self._admit(act, now_us)
        if act.fault == "crash_at_admit_known":
            return "cancelled"
        if act.fault in ("cancel_at_admit_sent", "cancel_at_admit_known"):
            if verdict is None:
                self._settle(act, "cancelled", "failed:effect.cancelled", 0)
            return "cancelled"
        return verdict

    def finish(self, act: Act) -> str:
        """The outcome of an admitted `act`."""
        self.effects[act.action.id] = self.effects.get(act.action.id, 0) + 1
        if act.fault == "crash_in_effect" and not isinstance(act.action, Release):
            return "cancelled"
        state, shown, cost = self._attempt(act)
        if act.fault in ("complete_raises", "complete_fails"):
            return "unknown"
        self._settle(act, state, shown, cost)
        if isinstance(act.action, Release):
            self.running.discard(act.action.place.run_id)
        struck = act.fault in ("cancel_at_complete_sent", "cancel_at_complete_known")
        if struck or (act.fault == "cancel_in_effect" and not isinstance(act.action, Release)):
            return "cancelled"
        return shown

    def crash(self) -> None:
        """Every process died; the next one interrupts what was running."""
        for call in self.calls.values():
            if call.state == "started":
                self._move(call.scopes, spent=call.held, held=-call.held, presumed=call.held)
                call.held = 0
        self.running.clear()

    def _decide(self, act: Act) -> str | None:
        if act.fault in ("policy_raises", "policy_times_out"):
            return "refused:policy.error"
        if isinstance(act.action, ModelCall | Release):
            return None
        if act.resource not in (*GRANTED, "people"):
            return "refused:tool.not_granted"
        if act.action.fault is not None:
            return "refused:args.invalid"
        if act.resource == "people":
            return "refused:data.denied"
        known = isinstance(act.args, dict) and set(act.args) <= {"to", "amount", "more"}
        fits = known and isinstance(act.args.get("to"), str)
        return None if fits else "refused:args.invalid"

    def _approve(self, act: Act, now_us: int) -> str | None:
        if act.resource != "pay" or act.args.get("amount", 101) <= 100:
            return None
        if act.fault == "cancel_at_approval":
            return "cancelled"
        standing = self.approvals.get(act.action.digest)
        if standing is None:
            self.approvals[act.action.digest] = _Standing(verdict="pending", expires_us=now_us + 600_000_000)
            return "suspended"
        if standing.used:
            return None
        if standing.verdict == "denied":
            return "refused:approval.denied"
        if standing.expires_us <= now_us:
            return "refused:approval.invalid"
        return "suspended" if standing.verdict == "pending" else None

    def _verdict(self, act: Act, now_us: int) -> str | None:
        action = act.action
        known = self.calls.get(action.id)
        if known is not None:
            if known.digest != action.digest:
                return "refused:action.conflict"
            if known.state == "started":
                return "refused:action.in_flight" if action.place.run_id in self.running else "unknown"
            return known.shown
        if action.place.run_id not in self.running:
            return "refused:run.not_running"
        if self.paused & {"all", "agent:default/sim", f"{action.kind}:{act.resource}"}:
            return "refused:agent.paused"
        for key, limit, span_s in _windows(act):
            if sum(at > now_us - span_s * 1_000_000 for at in self.events.get(key, [])) >= limit:
                return "refused:rate.limited"
        for scope in _scopes(act, now_us):
            spent, held, _ = self.money.get(scope, [0, 0, 0])
            if spent + held + act.bound > CAPS[scope.partition(":")[0]]:
                return "refused:budget.exhausted"
        return None

    def _admit(self, act: Act, now_us: int) -> None:
        scopes = _scopes(act, now_us)
        self.calls[act.action.id] = _Call(
            digest=act.action.digest,
            run_id=act.action.place.run_id,
            state="started",
            shown="",
            held=act.bound,
            scopes=scopes,
        )
        self._move(scopes, held=act.bound)
        for key, _, _ in _windows(act):
            self.events.setdefault(key, []).append(now_us)
        if act.action.digest in self.approvals:
            self.approvals[act.action.digest].used = True

    def _attempt(self, act: Act) -> tuple[str, str, int | None]:
        """State, outcome and cost (None where nobody can know it) of an effect that was tried."""
        if isinstance(act.action, Release):
            return "done", "done", 0
        model = isinstance(act.action, ModelCall)
        kind = "model" if model else "tool"
        open_cost = None if act.bound else 0
        cost = (100 + act.output_tokens) * PRICE if model else act.bound
        lost = ("unknown", "unknown") if act.resource in WRITES else ("failed", f"failed:{kind}.failed")
        if act.fault == "cancel_in_effect":
            shown = "unknown" if act.resource in WRITES else "failed:effect.cancelled"
            return lost[0], shown, open_cost
        match act.behaviour:
            case "bad_usage" if model:  # a reply whose usage is below zero: nobody knows what it cost
                return "failed", "failed:model.failed", None
            case "ok" | "bad_usage":
                return "done", "done", cost
            case "junk":
                return "failed", "failed:model.failed" if model else "failed:tool.result_invalid", cost
            case "failed":
                return "failed", "failed:tool.failed", 0
            case "hangs":
                shown = "unknown" if act.resource in WRITES else f"failed:{kind}.timeout"
                return lost[0], shown, open_cost
        return *lost, open_cost

    def _settle(self, act: Act, state: str, shown: str, cost: int | None) -> None:
        call = self.calls[act.action.id]
        spent = call.held if cost is None else cost
        self._move(call.scopes, held=-call.held, spent=spent, presumed=call.held if cost is None else 0)
        call.state, call.shown, call.held = state, shown, 0

    def _move(self, scopes: tuple[str, ...], *, spent: int = 0, held: int = 0, presumed: int = 0) -> None:
        for scope in scopes:
            row = self.money.setdefault(scope, [0, 0, 0])
            row[0] += spent
            row[1] += held
            row[2] += presumed


def _scopes(act: Act, now_us: int) -> tuple[str, ...]:
    if act.bound == 0:
        return ()
    day = datetime.fromtimestamp(now_us // 1_000_000, UTC).strftime("%Y-%m-%d")
    return f"run:{act.action.place.run_id}", f"day:default/sim/{day}"


def _windows(act: Act) -> tuple[tuple[str, int, int], ...]:
    """Key, limit and span of the act's rate windows."""
    if act.resource == "lookup":
        return ((f"lookup {str(act.args['to']).strip().casefold()}", 2, 60),)
    return (("pay", 4, 3600),) if act.resource == "pay" else ()
