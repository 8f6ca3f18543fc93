"""Two agents, `front` and `back`: front may ask back. Each process has gates, runners and models of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remit.core.actions import Principal
from remit.core.approvals import Vote
from remit.core.messages import ModelReply
from remit.core.runs import RunRecord
from remit.core.tools import ToolSpec
from remit.governance.compiler import Surroundings, parse
from remit.governance.gate import Effects, Gate, GateServices
from remit.governance.remit import Remit
from remit.governance.rules import Rules
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.journal import AuditQuery, Journal
from remit.runtime.delegation import Delegate, Delegation
from remit.runtime.registry import Registry
from remit.runtime.runner import Runner
from remit.testing.fakes import FakeClock, FixedPrices, FunctionTools, RecordingTelemetry, ScriptedModel
from remit.testing.memory_journal import MemoryJournal
from remit.testing.memory_store import MemoryStore

FRONT = """agent:
  name: front
  model: m
  max_retries: 0
  allowed_tools: [look, ask_back]
  data_access: {allow_pii: true}
  agents: {back: {config: back.yaml, description: knows more}}
  timeouts: {run_s: 100}
  cost_controls: {max_daily_spend_usd: 5, max_cost_per_run_usd: 1}
"""
BACK = """agent:
  name: back
  model: m
  max_retries: 0
  allowed_tools: [look, pay]
  data_access: {allow_pii: true}
  approvals: [{tool: pay, when: {n: {gt: 10}}, reason: dear}]
  timeouts: {run_s: 60}
  cost_controls: {max_daily_spend_usd: 5, max_cost_per_run_usd: 1}
"""
_ARGS = {"type": "object", "properties": {"n": {"type": "number"}}}
LOOK = ToolSpec(name="look", description="l", args_schema=_ARGS, effect="read", classes=("pii",))
PAY = ToolSpec(name="pay", description="p", args_schema=_ARGS)
WHO = Principal(kind="user", id="u", tenant="t", roles=("clerk",))
ASK = ("ask_back", {"task": "do it"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process: the runners of its agents, and the models that answer them."""

    runners: Mapping[str, Runner]
    models: Mapping[str, ScriptedModel]

    @property
    def front(self) -> Runner:
        return self.runners["front"]

    def told(self, agent: str) -> str:
        """What an agent's model was shown last."""
        return str(self.models[agent].requests[-1].messages[-1].parts)


class World:
    """One store, and what was paid. `open_journal`: another journal on it, for a worker of a name."""

    def __init__(self, open_journal: Callable[[str], Journal] | None = None, clock: Any = None) -> None:
        self.clock = clock or FakeClock()
        self.store = MemoryStore()
        self.telemetry = RecordingTelemetry()
        self.paid: list[Any] = []
        self._open = open_journal or (lambda worker: MemoryJournal(self.clock, self.store, worker))
        self.journal = self._open("")

    def remits(self, files: Mapping[str, str]) -> dict[str, Remit]:
        """The compiled files, by the names of their agents; each may name those before it."""
        remits: dict[str, Remit] = {}
        for name, text in files.items():
            remits[name] = parse(
                text, f"{name}.yaml", (LOOK, PAY), around=Surroundings(load_agent=lambda p: remits[p[:-5]])
            )
        return remits

    def process(
        self,
        replies: Mapping[str, Sequence[ModelReply | EffectFailed]],
        *,
        worker: str = "",
        models: Mapping[str, Any] | None = None,
        **files: str,
    ) -> Process:
        """A process that serves front, back and, before them, other agents of `files`."""
        others = {name: text for name, text in files.items() if name not in ("back", "front")}
        known = {"back": files.get("back", BACK), "front": files.get("front", FRONT)}
        remits = self.remits(others | known)
        journal = self._open(worker)
        services = GateServices(
            journal=journal, prices=FixedPrices({"m": 1000}), clock=self.clock, telemetry=self.telemetry
        )
        runners: dict[str, Runner] = {}
        asked = {name: ScriptedModel(list(replies.get(name, ()))) for name in remits} | dict(models or {})
        for name, remit in remits.items():
            delegates = [
                Delegate(tool=one.tool, remit=one.remit, runner=runners[one.remit.agent])
                for one in remit.agents
            ]
            tools = FunctionTools([(LOOK, self._look), (PAY, self._pay)])
            host = Registry([tools, Delegation(delegates, journal, self.clock)])
            gate = Gate(services, Effects(model=asked[name], tools=host))
            runners[name] = Runner(services, gate, Rules(remit, host.specs))
        return Process(runners=runners, models=asked)

    async def child(self) -> RunRecord:
        """The only run of `back`."""
        (record,) = [one for one in await self.journal.runs() if one.run.agent == "back"]
        return record

    async def ready(self) -> list[str]:
        """The runs that may go on, of any agent's under any remit."""
        digests = {(one.run.agent, one.run.remit_digest) for one in await self.journal.runs()}
        found = []
        for agent, digest in sorted(digests):
            found += [one.run_id for one in await self.journal.ready_runs(agent, digest, self.clock.now_us())]
        return found

    async def decide(self, *, approves: bool = True) -> None:
        """Somebody decides the only approval that is pending."""
        (asked,) = await self.journal.approvals(pending_at_us=self.clock.now_us())
        vote = Vote(
            approval_id=asked.id,
            approves=approves,
            by="user:alice",
            at_us=self.clock.now_us(),
            digest=asked.digest,
            reason="because",
        )
        assert await self.journal.decide_approval(vote, b"{}") is not None

    async def records(self, kind: Any) -> list[bytes]:
        return [entry.body for entry in await self.journal.audit(AuditQuery(kind=kind, limit=10_000))]

    async def _look(self, args: Any, context: CallContext) -> Any:
        assert context.caller is None
        return {"name": "Ada"}

    async def _pay(self, args: Any, context: CallContext) -> Any:
        self.paid.append(args)
        return {"paid": args["n"]}
