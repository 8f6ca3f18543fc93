"""A state machine that drives a gate through every act and fault, and holds it to the invariants.

Subclass it with another `make_gate` or `make_store` to put another gate or journal to the same proof:
what breaks an invariant fails with the steps that led to it.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from remit.core import actions, audit, canonical
from remit.core.actions import Action, Place, Release, TaskSource
from remit.core.approvals import Vote
from remit.core.messages import Message, ModelRequest, Text
from remit.core.outcomes import Done, Failed, Outcome, Refused, Suspended, Unknown
from remit.core.runs import Run, RunEnd
from remit.governance import pauses
from remit.governance.gate import Effects, Gate, GateServices, GovernedRun
from remit.ports.journal import Journal
from remit.ports.runs import RunEnding, StartRun
from remit.testing.faulty_journal import FAULTS, Fault
from remit.testing.gate_model import Act, GateModel
from remit.testing.gate_world import BEHAVIOURS, PRINCIPAL, MemoryBackend, Process, Store, World

T = TypeVar("T")

_TOOLS = st.sampled_from(["lookup", "pay", "pay", "note", "search", "search", "people", "wire", "nothing"])
_TO = st.sampled_from(["ann", " Ann", "bob"])
_GOOD_ARGS: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries({"to": _TO, "amount": st.sampled_from([1, 50, 100.5, 500])}),
    st.fixed_dictionaries({"to": _TO}, optional={"more": st.just({})}),
)
_BAD_ARGS = st.sampled_from(
    [{}, {"to": 3}, {"to": "ann", "x": 1}, [], {"to": float("nan")}, {"to": "\ud800"}]
)
_ARGS = st.one_of(_GOOD_ARGS, _GOOD_ARGS, _GOOD_ARGS, _BAD_ARGS)
_FAULT = st.one_of(st.just("none"), st.sampled_from(FAULTS))
_BEHAVIOUR = st.one_of(st.just("ok"), st.sampled_from(BEHAVIOURS))
_ADVANCE_US = st.sampled_from(
    [1, 30_000_000, 59_999_999, 60_000_000, 600_000_000, 3_600_000_000, 86_400_000_000]
)
_SCOPES = ("all", "agent:default/sim", "tool:pay", "model:m")


class GateMachine(RuleBasedStateMachine):
    """Two processes on one store; `make_gate` and `make_store` say which gate and which store."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World(store=self.make_store(), make_gate=self.make_gate, wrap=self.wrap_journal)
        self.model = GateModel()
        self.acts: list[Act] = []
        self.runs: list[Run] = []
        self.processes = self._run(self._two_processes())
        self._new_run()

    # what is put to the proof

    def make_gate(self, services: GateServices, effects: Effects) -> Gate:
        """The gate under test."""
        return Gate(services, effects)

    def wrap_journal(self, journal: Journal) -> Any:
        """The journal as the gate under test sees it."""
        return journal

    def make_store(self) -> Store:
        """The store of the journals."""
        return MemoryBackend()

    # what happens

    @rule(tool=_TOOLS, args=_ARGS, fault=_FAULT, behaviour=_BEHAVIOUR, second=st.booleans())
    def call_tool(self, tool: str, args: Any, fault: Fault, behaviour: Any, second: bool) -> None:
        """A new tool call; what the caller does to its arguments afterwards changes nothing."""
        sent = copy.deepcopy(args)
        action = actions.tool_call(self._place(), tool, "c", sent)
        if isinstance(sent, dict):
            sent["to"] = "mallory"
            sent["amount"] = 1
        self._act(Act(action=action, args=args, fault=fault, behaviour=behaviour), second)

    @rule(fault=_FAULT, behaviour=_BEHAVIOUR, output=st.integers(0, 16), second=st.booleans())
    def call_model(self, fault: Fault, behaviour: Any, output: int, second: bool) -> None:
        """A new model call."""
        self._act(
            Act(action=self._model_call(), args=None, fault=fault, behaviour=behaviour, output_tokens=output),
            second,
        )

    @rule(fault=_FAULT, second=st.booleans())
    def release(self, fault: Fault, second: bool) -> None:
        """The run's answer; after it nothing is performed for this run."""
        self._act(Act(action=actions.release(self._place(), "hello"), args=None, fault=fault), second)

    @precondition(lambda self: self.acts)
    @rule(index=st.integers(0, 10**6), fault=_FAULT, behaviour=_BEHAVIOUR, second=st.booleans())
    def again(self, index: int, fault: Fault, behaviour: Any, second: bool) -> None:
        """The very same action once more, perhaps by the other process."""
        act = self.acts[-1 - index % min(len(self.acts), 6)]
        self._act(replace(act, fault=fault, behaviour=behaviour), second)

    @precondition(lambda self: self._unsettled())
    @rule(index=st.integers(0, 100), second=st.booleans())
    def again_unsettled(self, index: int, second: bool) -> None:
        """An action that nobody knows the outcome of, once more."""
        unsettled = self._unsettled()
        self._act(replace(unsettled[index % len(unsettled)], fault="none", behaviour="ok"), second)

    @precondition(lambda self: self.acts)
    @rule(index=st.integers(0, 10**6), args=_GOOD_ARGS, tool=st.sampled_from(["pay", "note"]))
    def same_id(self, index: int, args: Any, tool: str) -> None:
        """Another action under the id of an old one."""
        old = self.acts[index % len(self.acts)]
        place = self.world.places[old.action.id]
        self._act(Act(action=actions.tool_call(place, tool, "c", args), args=args), second=False)

    @rule(
        calls=st.lists(
            st.tuples(st.sampled_from(["lookup", "pay", "search", "note"]), st.integers(0, 3)),
            min_size=2,
            max_size=8,
        )
    )
    def at_once(self, calls: list[tuple[str, int]]) -> None:
        """Several calls side by side, some of them the same one twice."""
        places = [self._place() for _ in range(4)]
        acts = []
        for tool, place in calls:
            args = {"to": "ann", "amount": 50}
            acts.append(Act(action=actions.tool_call(places[place], tool, "c", args), args=args))
        now_us = self.world.clock.now_us()
        begun = [self.model.begin(act, now_us) for act in acts]
        expected = [
            verdict if verdict is not None else self.model.finish(act)
            for verdict, act in zip(begun, acts, strict=True)
        ]
        self._prepare(self.processes[0], acts[0])
        outcomes = self._run(self._together(acts))
        assert outcomes == expected, (outcomes, expected)
        self.acts += acts

    @rule(approve=st.sampled_from([True, True, False, None]), late=st.booleans(), fault=_FAULT)
    def ask_a_person(self, approve: bool | None, late: bool, fault: Fault) -> None:
        """A call that needs approval; a person decides in time, late or never; the call is tried again."""
        if self.runs[-1].id not in self.model.running:
            self._new_run()
        args = {"to": "ann", "amount": 500}
        act = Act(action=actions.tool_call(self._place(), "pay", "c", args), args=args)
        self._act(act, second=False)
        if late:
            self.world.clock.advance(600)
        if approve is not None:
            self._decide(act.action.digest, approves=approve)
        self._act(replace(act, fault=fault), second=True)

    def _decide(self, digest: str, *, approves: bool) -> None:
        journal = self.processes[1].journal.inner
        standing = self._run(journal.approval_for(digest))
        assert standing is not None
        now_us = self.world.clock.now_us()
        vote = Vote(approval_id=standing.id, approves=approves, by="user:p", at_us=now_us, digest=digest)
        after = self._run(self._await(lambda: journal.decide_approval(vote, self._note("approval.decided"))))
        assert (after is not None) == standing.is_pending(now_us)
        if after is not None:
            self.model.approvals[digest].verdict = after.verdict

    @rule(scope=st.sampled_from(_SCOPES), paused=st.booleans())
    def control(self, scope: str, paused: bool) -> None:
        """Somebody in another process pauses or resumes something."""
        journal, at_us = self.processes[1].journal.inner, self.world.clock.now_us()
        self._run(
            self._await(lambda: journal.set_control(scope, paused, "drill", at_us, self._note("control")))
        )
        (self.model.paused.add if paused else self.model.paused.discard)(scope)

    @rule(by_us=_ADVANCE_US)
    def wait(self, by_us: int) -> None:
        """Time passes."""
        self.world.clock.advance(by_us / 1_000_000)

    @rule(end_old=st.booleans())
    def new_run(self, end_old: bool) -> None:
        """Another task; the one before may be cancelled from outside."""
        run = self.runs[-1]
        if end_old and run.id in self.model.running:
            ending = RunEnding(end=RunEnd(status="cancelled"), audit=self._note("run.ended"))
            journal, at_us = self.processes[1].journal.inner, self.world.clock.now_us()
            assert self._run(self._await(lambda: journal.end_run(run.id, ending, at_us)))
            self.model.running.discard(run.id)
        self._new_run()

    # what must hold after every step

    @invariant()
    def books_agree(self) -> None:
        """The money, the calls and the audit trail are what the model says, to the nano-dollar."""
        witness = self.world.store.witness
        held_to = {scope: tuple(row) for scope, row in self.model.money.items()}
        assert dict(witness.balances()) == held_to, (dict(witness.balances()), held_to)
        assert not self.world.overspent, self.world.overspent
        used = {digest for digest, one in self.model.approvals.items() if one.used}
        assert witness.used_approvals() == used
        for action_id, call in self.model.calls.items():
            assert witness.call(action_id) == (call.digest, call.state), (action_id, call)
            run_id, _, place = action_id.partition(".")
            assert witness.outcomes(run_id, place) == (call.state != "started")

    @invariant()
    def effects_were_allowed(self) -> None:
        """Each effect ran once, after its intent was on record, with the very arguments decided on."""
        counts: dict[str, int] = {}
        known = {act.action.digest: act for act in self.acts}
        for seen in self.world.seen:
            counts[seen.action_id] = counts.get(seen.action_id, 0) + 1
            assert seen.recorded_state == "started", seen
            assert seen.recorded_digest == seen.digest, seen
            assert seen.intents == 1, seen
            act = known[seen.digest]
            assert seen.args == act.args, seen
            run = next(run for run in self.runs if run.id == act.action.place.run_id)
            assert not seen.paused & set(pauses.scopes(run, act.action)), seen
        releases = {act.action.digest for act in self.acts if isinstance(act.action, Release)}
        expected = {
            name: count
            for name, count in self.model.effects.items()
            if self.model.calls[name].digest not in releases
        }
        assert counts == expected, (counts, expected)
        assert all(count == 1 for count in counts.values()), counts

    def teardown(self) -> None:
        async def close() -> None:
            for process in self.processes:
                await process.journal.inner.close()

        self._run(close())
        self.loop.close()
        self.world.store.remove()

    # how it is done

    def _act(self, act: Act, second: bool) -> None:
        process = self.processes[second]
        expected = self.model.expect(act, self.world.clock.now_us())
        self.acts.append(act)
        self._prepare(process, act)
        outcome = self._run(self._perform(process, act))
        assert _shown(outcome) == expected, (act, _shown(outcome), expected, outcome)
        if isinstance(outcome, Done) and outcome.label is not None:
            assert (outcome.label.trust, outcome.label.classes) == ("untrusted", ())
        if process.journal.dead:
            self.model.crash()
            self._run(self._restart())
            self._new_run()

    def _prepare(self, process: Process, act: Act) -> None:
        world = self.world
        world.current, world.behaviour, world.output_tokens = process, act.behaviour, act.output_tokens
        world.expecting = act.action.id
        process.rules.fault = process.journal.fault = act.fault
        process.rules.impatient = act.behaviour == "hangs"

    async def _perform(self, process: Process, act: Act) -> Outcome | None:
        governed = GovernedRun(run=self._run_of(act.action), rules=process.rules)
        task = asyncio.ensure_future(process.gate.perform(act.action, governed))
        process.journal.task = task
        if act.fault == "cancel_before":
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            return None
        except Exception as error:
            raise AssertionError("perform raised something else than cancellation") from error
        finally:
            process.journal.fault, process.journal.task = "none", None
            # a commit after all others: what the gate left to be completed is on record now
            at_us = self.world.clock.now_us()
            ending = RunEnding(end=RunEnd(status="cancelled"), audit=b"")
            await process.journal.inner.end_run("nobody", ending, at_us)

    async def _together(self, acts: list[Act]) -> list[str]:
        process = self.processes[0]
        governed = GovernedRun(run=self.runs[-1], rules=process.rules)
        outcomes = await asyncio.gather(*(process.gate.perform(act.action, governed) for act in acts))
        return [_shown(outcome) for outcome in outcomes]

    async def _two_processes(self) -> list[Process]:
        return [self.world.process(), self.world.process()]

    async def _restart(self) -> None:
        for process in self.processes:
            await process.journal.inner.close()
        self.processes = await self._two_processes()
        await self.processes[0].journal.inner.interrupt_runs(self.world.clock.now_us())

    def _new_run(self) -> None:
        now_us = self.world.clock.now_us()
        run = Run(
            id=f"run{len(self.runs)}",
            tenant="default",
            agent="sim",
            remit_digest=self.processes[0].rules.remit.digest,
            task=TaskSource(principal=PRINCIPAL, text="t", digest=canonical.digest(b"t")),
            trace_id="0" * 32,
            created_at_us=now_us,
            deadline_us=now_us + 10**12,
        )
        journal = self.processes[0].journal.inner
        self._run(self._await(lambda: journal.create_run(StartRun(run=run, audit=self._note("run.created")))))
        assert self._run(self._await(lambda: journal.begin_run(run.id, 10_000, now_us)))
        self.runs.append(run)
        self.model.running.add(run.id)

    def _place(self, prefix: str = "t") -> Place:
        run = self.runs[-1]
        place = Place(run_id=run.id, step=1, name=f"{prefix}{len(self.world.places)}", principal=PRINCIPAL)
        self.world.places[place.action_id] = place
        return place

    def _model_call(self) -> Action:
        message = Message(role="user", parts=(Text(text="hello"),))
        request = ModelRequest(model="m", system="s", messages=(message,), tools=(), max_output_tokens=16)
        return actions.model_call(self._place("m"), request, (actions.message_digest(message),))

    def _unsettled(self) -> list[Act]:
        calls = self.model.calls
        states = {name: call.state for name, call in calls.items()}
        acts = [act for act in self.acts if states.get(act.action.id) in ("unknown", "started")]
        return [act for act in acts if calls[act.action.id].digest == act.action.digest]

    def _run_of(self, action: Action) -> Run:
        return next(run for run in self.runs if run.id == action.place.run_id)

    def _note(self, kind: Any) -> bytes:
        return audit.record(kind, self.world.clock.now_us(), {})

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    async def _await(self, begin: Any) -> Any:
        return await begin()


def _shown(outcome: Outcome | None) -> str:
    match outcome:
        case None:
            return "cancelled"
        case Done():
            return "done"
        case Refused(decision=decision):
            return f"refused:{decision.code}"
        case Suspended():
            return "suspended"
        case Failed(code=code):
            return f"failed:{code}"
        case Unknown():
            return "unknown"
