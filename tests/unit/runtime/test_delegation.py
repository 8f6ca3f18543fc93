"""An agent that asks another: one run for one call, under both remits, waiting, stopping and going on together."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.unit.runtime.delegation_world import ASK, BACK, FRONT, WHO, World

from remit.core import ids
from remit.core.approvals import Vote
from remit.core.decisions import NO_EFFECT
from remit.core.errors import RemitError
from remit.core.messages import ModelReply, Usage
from remit.core.runs import RunEnd
from remit.governance import budget
from remit.governance.source import ConfigErrors
from remit.ports.effects import CallContext, Caller, EffectFailed
from remit.ports.journal import CostQuery
from remit.ports.runs import RunEnding
from remit.runtime import intake
from remit.runtime.delegation import Delegate, Delegation
from remit.testing.fakes import ScriptedModel, calls, says

NO_PII = ("allow_pii: true", "allow_pii: false")


async def waiting(world: World) -> str:
    """A run of front that waits, because back waits for an approval of `pay 20`."""
    process = world.process({"front": [calls(ASK)], "back": [calls(("pay", {"n": 20}))]})
    result = await process.front.run("t", WHO)
    assert (result.end.status, result.end.code) == ("suspended", "run.waits"), result.end
    return result.run.id


class Hanging(ScriptedModel):
    """Answers as scripted; then it is asked and never answers."""

    def __init__(self, *replies: ModelReply) -> None:
        super().__init__(list(replies))
        self.hangs = asyncio.Event()

    async def complete(self, request: Any, on_text: Any = None) -> ModelReply:
        if not self._replies:
            self.hangs.set()
            await asyncio.Event().wait()
        return await super().complete(request, on_text)


async def test_what_is_asked_is_a_run_of_its_own_for_the_same_person() -> None:
    world = World()
    process = world.process({"front": [calls(ASK), says("done")], "back": [calls(("look", {})), says("42")]})
    result = await process.front.run("I am tenant other", WHO)
    assert (result.end.status, result.end.answer) == ("succeeded", "done")
    assert "42" in process.told("front")
    child = await world.child()
    assert child.run.id == ids.child_run_id(f"{result.run.id}.1.t0")
    assert (child.run.parent, child.run.depth) == (f"{result.run.id}.1.t0", 1)
    assert (child.run.principal, child.run.tenant) == (WHO, "t")
    assert child.run.trace_id == result.run.trace_id
    assert child.run.task.text == "do it"
    assert child.run.deadline_us <= result.run.deadline_us
    created = [json.loads(body) for body in await world.records("run.created")]
    assert [one.get("parent") for one in created] == [None, child.run.parent]
    # the call is a governed one of front's, and cost what it cost by itself: nothing
    asked = [one for one in await world.journal.calls(result.run.id) if one.resource == "ask_back"]
    assert [(one.state, one.cost_nano_usd) for one in asked] == [("done", 0)]
    rows = await world.journal.costs(CostQuery(by=("run",)))
    spent = {one.group[0]: one.cost_nano_usd for one in rows}
    assert spent == {result.run.id: result.cost_nano_usd, child.run.id: child.cost_nano_usd}
    balances = {one.scope: one.spent_nano_usd for one in await world.journal.balances()}
    assert balances[f"run:{result.run.id}"] == sum(spent.values())
    assert balances[f"run:{child.run.id}"] == child.cost_nano_usd


async def test_both_wait_for_a_person_and_go_on_together() -> None:
    world = World()
    run_id = await waiting(world)
    assert (await world.child()).status == "suspended"
    assert await world.ready() == []
    assert all(one.held_nano_usd == 0 for one in await world.journal.balances())
    assert list(await world.journal.unresolved()) == []  # nobody need find out what is on another record
    await world.decide()
    assert await world.ready() == [run_id]
    process = world.process({"front": [says("done")], "back": [says("paid")]})
    result = await process.front.resume(run_id)
    assert (result.end.status, result.end.answer) == ("succeeded", "done")
    assert "paid" in process.told("front")
    assert world.paid == [{"n": 20}]
    assert (await world.child()).status == "succeeded"
    made = [one.action_id.partition(".")[2] for one in await world.journal.calls(run_id)]
    assert made == ["1.m1", "1.t0", "2.m1", "2.answer"]


async def test_what_a_person_denies_is_told_to_the_agent_that_wanted_it() -> None:
    world = World()
    run_id = await waiting(world)
    await world.decide(approves=False)
    process = world.process({"front": [says("done")], "back": [says("I could not")]})
    assert (await process.front.resume(run_id)).end.status == "succeeded"
    assert "because" in process.told("back")
    assert "I could not" in process.told("front")
    assert world.paid == []


async def test_two_that_are_asked_at_once_are_waited_for_together() -> None:
    world = World()
    process = world.process(
        {"front": [calls(ASK, ASK)], "back": [calls(("pay", {"n": 20})), calls(("pay", {"n": 30}))]}
    )
    result = await process.front.run("t", WHO)
    first, second = await world.journal.approvals()
    for asked in (first, second):
        assert await world.ready() == []
        at_us = world.clock.now_us()
        vote = Vote(approval_id=asked.id, approves=True, by="user:a", at_us=at_us, digest=asked.digest)
        await world.journal.decide_approval(vote, b"{}")
    assert await world.ready() == [result.run.id]
    process = world.process({"front": [says("done")], "back": [says("a"), says("b")]})
    assert (await process.front.resume(result.run.id)).end.status == "succeeded"
    assert sorted(one["n"] for one in world.paid) == [20, 30]
    assert len(await world.journal.children(result.run.id)) == 2


async def test_who_is_asked_goes_on_with_who_asked_and_never_alone() -> None:
    world = World()
    run_id = await waiting(world)
    child = await world.child()
    await world.decide()
    process = world.process({"back": [says("paid")]})
    with pytest.raises(RemitError, match=run_id) as caught:
        await process.runners["back"].resume(child.run.id)
    assert caught.value.code == "run.not_running"
    assert world.paid == []


async def test_who_cancels_a_run_cancels_what_it_has_asked_for() -> None:
    world = World()
    run_id = await waiting(world)
    end = RunEnding(end=RunEnd(status="cancelled", code="run.cancelled", message="wrong"), audit=b"{}")
    assert await world.journal.cancel_run(run_id, end, world.clock.now_us())
    assert (await world.child()).status == "cancelled"
    await world.decide()
    assert await world.ready() == []


async def test_a_cancelled_task_ends_both_runs() -> None:
    world = World()
    back = Hanging()
    process = world.process({"front": [calls(ASK)]}, models={"back": back})
    task = asyncio.create_task(process.front.run("t", WHO))
    await back.hangs.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert {one.status for one in await world.journal.runs()} == {"cancelled"}
    balances = await world.journal.balances()
    assert all(one.held_nano_usd == 0 for one in balances)


async def test_both_are_handed_over_and_go_on_elsewhere() -> None:
    world = World()
    back = Hanging(calls(("pay", {"n": 1})))
    process = world.process({"front": [calls(ASK)]}, models={"back": back})
    task = asyncio.create_task(process.front.run("t", WHO))
    await back.hangs.wait()
    process.front.hand_over()
    result = await task
    assert (result.end.status, result.end.code) == ("suspended", "run.handed_over")
    assert (await world.child()).end == RunEnd(
        status="suspended", code="run.handed_over", message="its process was asked to end"
    )
    assert await world.ready() == [result.run.id]
    process = world.process({"front": [says("done")], "back": [says("paid")]})
    assert (await process.front.resume(result.run.id)).end.status == "succeeded"
    assert world.paid == [{"n": 1}]


async def test_a_process_that_dies_leaves_both_to_another() -> None:
    world = World()
    back = Hanging(calls(("pay", {"n": 1})))
    dead = world.process({"front": [calls(ASK)]}, worker="dead", models={"back": back})
    task = asyncio.create_task(dead.front.run("t", WHO))
    await back.hangs.wait()
    assert sorted(await world.journal.interrupt_runs(world.clock.now_us())) == sorted(
        one.run.id for one in await world.journal.runs()
    )
    (run_id,) = await world.ready()
    process = world.process({"front": [says("done")], "back": [says("paid")]}, worker="next")
    assert (await process.front.resume(run_id)).end.status == "succeeded"
    assert world.paid == [{"n": 1}]
    assert (await world.child()).status == "succeeded"
    # what the dead one still wants is nobody's business
    task.cancel()
    await asyncio.wait({task})
    assert {one.status for one in await world.journal.runs()} == {"succeeded"}


async def test_the_answer_that_was_given_before_is_found_again() -> None:
    """The process died after back had answered, and before front's call had its outcome."""
    world = World()
    front = Hanging(calls(ASK))
    process = world.process({"back": [says("42")]}, worker="dead", models={"front": front})
    journal_complete = process.runners["front"]._journal.complete
    stuck = asyncio.Event()

    def complete(completion: Any) -> Any:
        if completion.action_id.endswith(".1.t0"):
            stuck.set()
            return asyncio.get_running_loop().create_future()
        return journal_complete(completion)

    process.runners["front"]._journal.complete = complete  # type: ignore[method-assign]
    task = asyncio.create_task(process.front.run("t", WHO))
    await stuck.wait()
    await world.journal.interrupt_runs(world.clock.now_us())
    (run_id,) = await world.ready()
    again = world.process({"front": [says("done")]}, worker="next")  # back has nothing to say any more
    assert (await again.front.resume(run_id)).end.status == "succeeded"
    assert "42" in again.told("front")
    assert len(await world.journal.children(run_id)) == 1
    task.cancel()
    await asyncio.wait({task})


async def test_an_agent_that_is_paused_is_not_asked_and_the_model_is_told() -> None:
    world = World()
    await world.journal.set_control("agent:t/back", True, "incident", world.clock.now_us(), b"{}")
    process = world.process({"front": [calls(ASK), says("done")]})
    assert (await process.front.run("t", WHO)).end.status == "succeeded"
    assert "incident" in process.told("front")
    assert {one.run.agent for one in await world.journal.runs()} == {"front"}


@pytest.mark.parametrize("paused", ["agent:t/back", "agent:t/front", "tool:ask_back"])
async def test_a_pause_meanwhile_is_waited_for_and_loses_nothing(paused: str) -> None:
    world = World()
    back = Hanging(calls(("pay", {"n": 1})))
    process = world.process({"front": [calls(ASK)]}, models={"back": back})
    task = asyncio.create_task(process.front.run("t", WHO))
    await back.hangs.wait()
    process.front.hand_over()
    run_id = (await task).run.id
    await world.journal.set_control(paused, True, "incident", world.clock.now_us(), b"{}")
    process = world.process({"front": [], "back": []})
    result = await process.front.resume(run_id)
    assert result.end.status == "suspended"
    assert "agent.paused" in f"{result.end.code} {result.end.message}"
    assert await world.ready() == []
    await world.journal.set_control(paused, False, "", world.clock.now_us(), b"{}")
    assert await world.ready() == [run_id]
    process = world.process({"front": [says("done")], "back": [says("paid")]})
    assert (await process.front.resume(run_id)).end.status == "succeeded"
    assert world.paid == [{"n": 1}]


async def test_what_one_may_not_see_the_other_cannot_tell_it() -> None:
    world = World()
    process = world.process(
        {"front": [calls(ASK), says("done")], "back": [calls(("look", {})), says("Ada, of course")]},
        front=FRONT.replace(*NO_PII),
    )
    result = await process.front.run("t", WHO)
    assert "Ada" not in process.told("front")
    assert "data.denied" in process.told("front")
    (call,) = [one for one in await world.journal.calls(result.run.id) if one.resource == "ask_back"]
    assert call.state == "failed"


async def test_an_answer_is_of_the_classes_that_were_read_however_long_it_is() -> None:
    world = World()
    process = world.process(
        {"front": [calls(ASK), says("done")], "back": [calls(("look", {})), says("x" * 5000)]},
        front=FRONT.replace("  max_retries: 0", "  max_retries: 0\n  max_result_bytes: 256"),
    )
    result = await process.front.run("t", WHO)
    assert result.end.status == "succeeded"
    assert list(await world.journal.classes(result.run.id)) == ["pii"]
    assert result.run.id + ".1.t0" in (await world.journal.run(result.run.id)).exposed_by  # type: ignore[union-attr]


async def test_who_may_not_see_what_was_read_above_is_not_asked() -> None:
    world = World()
    process = world.process(
        {"front": [calls(("look", {})), calls(ASK), says("done")]},
        back=BACK.replace(*NO_PII).replace("[look, pay]", "[pay]"),
    )
    assert (await process.front.run("t", WHO)).end.status == "succeeded"
    assert "has read pii" in process.told("front")
    assert {one.run.agent for one in await world.journal.runs()} == {"front"}


async def test_what_became_of_the_other_is_told() -> None:
    world = World()
    broken = EffectFailed("model.failed", "no")
    process = world.process({"front": [calls(ASK), says("done")], "back": [broken]})
    assert (await process.front.run("t", WHO)).end.status == "succeeded"
    assert "model.failed" in process.told("front")
    assert (await world.child()).status == "failed"


async def test_less_is_left_than_the_other_may_spend() -> None:
    """Each call of back's is held at front's caps too, so its own larger cap is of no use."""
    world = World()
    poor = FRONT.replace("max_cost_per_run_usd: 1", "max_cost_per_run_usd: 0.02")
    process = world.process(
        {"front": [calls(ASK), says("done")], "back": [calls(("look", {})), says("42")]}, front=poor
    )
    result = await process.front.run("t", WHO)
    balances = {one.scope: one for one in await world.journal.balances()}
    assert balances[f"run:{result.run.id}"].spent_nano_usd <= 20_000_000
    spent = sum(one.cost_nano_usd for one in await world.journal.runs())
    assert balances[f"run:{result.run.id}"].spent_nano_usd == spent
    day = next(scope for scope in balances if scope.startswith("day:t/front/"))
    assert balances[day].spent_nano_usd == spent


async def test_nothing_is_left_for_the_other() -> None:
    world = World()
    poor = FRONT.replace("max_cost_per_run_usd: 1", "max_cost_per_run_usd: 0.0022")
    dear = calls(ASK, usage=Usage(input_tokens=300, output_tokens=1500))
    process = world.process({"front": [dear], "back": [says("42")]}, front=poor)
    result = await process.front.run("t", WHO)
    child = await world.child()
    assert (child.status, child.end and child.end.code) == ("refused", "budget.exhausted"), child.end
    assert child.end is not None
    assert "the remit of the agent that asked" in child.end.message
    balances = {one.scope: one for one in await world.journal.balances()}
    assert balances[f"run:{result.run.id}"].spent_nano_usd <= 2_200_000


async def test_three_that_ask_each_other_wait_and_spend_as_one() -> None:
    world = World()
    deep = BACK.replace("name: back", "name: deep")
    asks = "agents: {deep: {config: deep.yaml, description: d}}\n  timeouts:"
    back = BACK.replace("timeouts:", asks).replace("[look, pay]", "[look, pay, ask_deep]")
    files = {"deep": deep, "back": back, "front": FRONT.replace(*NO_PII)}
    process = world.process(
        {
            "front": [calls(ASK)],
            "back": [calls(("ask_deep", {"task": "deeper"}))],
            "deep": [calls(("look", {})), calls(("pay", {"n": 20}))],
        },
        **files,
    )
    result = await process.front.run("t", WHO)
    assert result.end.code == "run.waits"
    assert await world.ready() == []
    await world.decide()
    assert await world.ready() == [result.run.id]
    process = world.process({"front": [says("done")], "back": [says("Ada")], "deep": [says("Ada")]}, **files)
    assert (await process.front.resume(result.run.id)).end.status == "succeeded"
    assert world.paid == [{"n": 20}]
    # what the deepest has read is not told to the first, though the one between says nothing of it
    assert "Ada" in process.told("back")
    assert "data.denied" in process.told("front")
    runs = {one.run.agent: one for one in await world.journal.runs()}
    assert [runs[name].run.depth for name in ("front", "back", "deep")] == [0, 1, 2]
    assert len({one.run.trace_id for one in runs.values()}) == 1
    spent = {one.scope: one.spent_nano_usd for one in await world.journal.balances()}
    below = 0
    for name in ("deep", "back", "front"):
        below += runs[name].cost_nano_usd
        assert spent[f"run:{runs[name].run.id}"] == below


def test_files_that_lead_back_or_too_deep_do_not_load() -> None:
    world = World()
    asks = "agents: {{{0}: {{config: {0}.yaml, description: d}}}}\n  max_agent_depth: {1}"

    def chain(*names: str, depth: int) -> dict[str, str]:
        files: dict[str, str] = {}
        for above, name in zip((None, *names), names, strict=False):
            text = BACK.replace("name: back", f"name: {name}")
            if above is not None:
                text = text.replace("timeouts:", asks.format(above, depth) + "\n  timeouts:")
            files[name] = text
        return files

    assert world.remits(chain("a", "b", "c", depth=2))["c"].height == 2
    for names, depth, code in ((("a", "b", "c"), 1, "config.out_of_range"), (("a", "b"), 0, "config.")):
        with pytest.raises(ConfigErrors) as caught:
            world.remits(chain(*names, depth=depth))
        assert caught.value.errors[0].code.startswith(code)
    circular = chain("a", "b", depth=3)
    circular["b"] = circular["b"].replace("name: b", "name: a")
    with pytest.raises(ConfigErrors) as caught:
        world.remits(circular)
    assert caught.value.errors[0].code == "config.circular"


def test_a_remit_is_another_where_that_of_an_agent_it_may_ask_is() -> None:
    world = World()
    one = world.remits({"back": BACK, "front": FRONT})
    two = world.remits({"back": BACK.replace("run_s: 60", "run_s: 61"), "front": FRONT})
    assert one["front"].digest != two["front"].digest


async def test_parts_that_were_put_together_in_a_circle_are_refused() -> None:
    """Whoever builds the parts by hand, so that the files did not show it."""
    world = World()
    process = world.process({"back": [calls(ASK), says("done")], "front": []})
    remits = world.remits({"back": BACK, "front": FRONT})
    (asked,) = remits["front"].agents
    for remit, depth, code in ((remits["front"], 9, "run.too_deep"), (asked.remit, 0, "run.too_deep")):
        run = intake.new_run(remits["front"], "t", WHO, world.clock)
        ceiling = budget.ceiling(run, remits["front"])._replace(depth_max=depth)
        host = Delegation(
            [Delegate(tool=asked.tool, remit=remit, runner=process.front)], world.journal, world.clock
        )
        context = CallContext(
            run_id=run.id,
            tenant="t",
            agent="front",
            idempotency_key="k",
            constraints=NO_EFFECT,
            caller=Caller(run, f"{run.id}.1.t0", (ceiling,)),
        )
        with pytest.raises(EffectFailed) as caught:
            await host.call("ask_back", {"task": "x"}, context)
        assert caught.value.code == code
    assert await world.journal.runs() == []
