"""Who may decide what: no order of votes approves without a quorum of others, and no edit gets past a rule."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.core import actions
from remit.core.actions import Place, Principal
from remit.core.approvals import Approval, Vote, voted
from remit.core.errors import RemitError
from remit.core.outcomes import Done, Refused, Suspended
from remit.core.runs import Run
from remit.core.tools import ToolSpec
from remit.governance import votes
from remit.governance.compiler import parse
from remit.governance.gate import Effects, Gate, GateServices, GovernedRun
from remit.governance.rules import Rules
from remit.governance.votes import Verdict
from remit.ports.runs import StartRun
from remit.testing.fakes import FakeClock, FixedPrices, FunctionTools, NoTelemetry, ScriptedModel
from remit.testing.journal_values import Z, approval_of, digest_of, run_of, vote_on
from remit.testing.memory_journal import MemoryJournal

FILE = """agent:
  name: a
  model: m
  allowed_tools: [pay]
  approvals:
    - {tool: pay, when: {n: {gt: 1000}}, reason: very dear, roles: [cfo]}
    - {tool: pay, when: {n: {gt: 10}}, reason: dear, roles: [lead]}
  cost_controls: {max_daily_spend_usd: 5, max_cost_per_run_usd: 1}
"""
PAY = ToolSpec(
    name="pay",
    description="p",
    args_schema={"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]},
)
LEAD = Principal(kind="user", id="lead", tenant="t", roles=("lead",))


class Scene:
    """A running run, its gate, and what was paid."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.journal = MemoryJournal(self.clock)
        self.rules = Rules(parse(FILE, "f.yaml", (PAY,)), (PAY,))
        self.tools = FunctionTools([(PAY, self._pay)])
        services = GateServices(
            journal=self.journal, prices=FixedPrices({}), clock=self.clock, telemetry=NoTelemetry()
        )
        self.gate = Gate(services, Effects(model=ScriptedModel([]), tools=self.tools))
        self.run: Run = replace(run_of("r"), remit_digest=self.rules.remit.digest)
        place = Place(run_id="r", step=1, name="t0", principal=self.run.principal)
        self.action = actions.tool_call(place, "pay", "c", {"n": 20})
        self.governed = GovernedRun(run=self.run, rules=self.rules)

    async def asked(self) -> Approval:
        """The approval that the call of `pay 20` waits for."""
        await self.journal.create_run(StartRun(run=self.run, audit=Z))
        await self.journal.begin_run("r", 1, 0)
        assert isinstance(await self.gate.perform(self.action, self.governed), Suspended)
        (approval,) = await self.journal.approvals()
        return approval

    async def _pay(self, args: object, context: object) -> object:
        return {}


@pytest.mark.parametrize(
    ("args", "code"),
    [({"n": 5000}, "approval.invalid"), ({"n": "x"}, "args.invalid"), ({"n": 1, "to": "me"}, "args.invalid")],
)
async def test_an_edit_that_escapes_its_rule_is_refused_when_typed_and_when_used(
    args: dict[str, object], code: str
) -> None:
    scene = Scene()
    approval = await scene.asked()
    edited = votes.edited(approval, scene.run, args)
    with pytest.raises(RemitError) as refused:
        votes.check_edit(edited, approval, scene.rules)
    assert refused.value.code == code
    # and where somebody stores it all the same, the gate does not let it through
    vote, record = votes.vote(
        approval, scene.run, LEAD, Verdict(approves=True, edited=edited), scene.clock.now_us()
    )
    assert await scene.journal.decide_approval(vote, record) is not None
    outcome = await scene.gate.perform(scene.action, scene.governed)
    assert isinstance(outcome, Refused)
    assert outcome.decision.code == code
    assert scene.tools.called == []


async def test_an_edit_within_its_rule_is_what_is_done_and_the_model_is_told() -> None:
    scene = Scene()
    approval = await scene.asked()
    edited = votes.edited(approval, scene.run, {"n": 15})
    votes.check_edit(edited, approval, scene.rules)
    vote, record = votes.vote(
        approval, scene.run, LEAD, Verdict(approves=True, edited=edited), scene.clock.now_us()
    )
    await scene.journal.decide_approval(vote, record)
    for _ in range(2):  # the second is a replay
        outcome = await scene.gate.perform(scene.action, scene.governed)
        assert isinstance(outcome, Done)
        assert '{"n":15}' in outcome.note
    assert scene.tools.called == [("pay", {"n": 15})]


async def test_who_may_not_decide_does_not() -> None:
    scene = Scene()
    approval = await scene.asked()
    owner = replace(scene.run.principal, roles=("lead",))
    for person in (owner, replace(LEAD, roles=("cfo",)), replace(LEAD, tenant="other")):
        with pytest.raises(RemitError, match=r"approval\.not_permitted"):
            votes.vote(approval, scene.run, person, Verdict(approves=True), scene.clock.now_us())


async def test_a_call_that_is_being_admitted_is_stopped_or_on_record_before_the_pause() -> None:
    """Whichever commit is first: after a pause is acknowledged nothing is begun."""
    for turn in range(8):
        scene = Scene()
        approval = await scene.asked()
        vote, record = votes.vote(approval, scene.run, LEAD, Verdict(approves=True), scene.clock.now_us())
        await scene.journal.decide_approval(vote, record)
        performing = asyncio.create_task(scene.gate.perform(scene.action, scene.governed))
        for _ in range(turn):
            await asyncio.sleep(0)
        await scene.journal.set_control("agent:t/a", True, "stop", 0, Z)
        admitted = "r.1.t0" in scene.journal.store.calls
        outcome = await performing
        assert isinstance(outcome, Done) == admitted == bool(scene.tools.called)
        used = (await scene.journal.approvals())[0].used_at_us
        assert (used is not None) == admitted  # a pause uses no approval up


_VOTES = st.lists(
    st.builds(
        lambda by, approves, edits, at, stale: (by, approves, edits, at, stale),
        st.sampled_from(["user:u", "user:p", "user:q", "user:s"]),
        st.sampled_from([True, True, True, False]),
        st.booleans(),
        st.integers(0, 70),
        st.booleans(),
    ),
    max_size=8,
)


@given(ballot=_VOTES, quorum=st.integers(1, 3))
def test_only_a_quorum_of_others_who_saw_it_approves(
    ballot: list[tuple[str, bool, bool, int, bool]], quorum: int
) -> None:
    clock = FakeClock()
    approval = approval_of("r.1.t", clock, quorum=quorum)
    counted: set[str] = set()
    for number, (by, approves, edits, at_s, stale) in enumerate(ballot):
        vote: Vote = vote_on(
            approval,
            by=by,
            approves=approves,
            at_us=approval.requested_at_us + at_s * 1_000_000,
            digest=digest_of("stale") if stale else approval.digest,
            edited_digest=digest_of(f"edit {number}") if edits and approves else None,
        )
        after = voted(approval, vote)
        counts = (approval.verdict == "pending" and at_s < 60 and not stale and by != "user:u") and not (
            approves and not edits and by in counted
        )
        assert (after is not None) == counts
        if after is None:
            continue
        if approves:
            counted = {by} if edits else counted | {by}
        assert (after.verdict == "approved") == (approves and len(counted) >= quorum)
        assert (after.verdict == "denied") == (not approves)
        approval = after
