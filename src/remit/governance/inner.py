"""The calls that a tool makes within a call of its own: each is an action of the run, and passes the gate.

They are numbered in their order. A run that goes on does the tool's call again from its beginning, and each of its calls
finds its record: what was done is not done again, and what has come out otherwise is refused. The result of the tool counts as
data of every class that its calls have returned, and is trusted no more than they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from remit.core import actions
from remit.core.actions import Action, ToolCall
from remit.core.canonical import Json
from remit.core.labels import DATA_CLASSES, RESULT_TRUSTS, DataClass, ResultTrust
from remit.core.outcomes import Done, Failed, Outcome, Refused, Suspended, Unknown
from remit.core.tools import ToolSpec
from remit.governance import denials
from remit.governance.deadlines import cancels_of_task
from remit.governance.rules import Rules
from remit.ports.effects import EffectFailed, EffectPending

CALLS_MAX = 100
"""So many calls may be made within one."""


class InnerCalls:
    """Makes the calls of one call."""

    def __init__(
        self, outer: ToolCall, rules: Rules, perform: Callable[[Action], Awaitable[Outcome]]
    ) -> None:
        self._outer = outer
        self._rules = rules
        self._perform = perform
        self._made = 0
        self._happened: list[str] = []
        self._classes: set[DataClass] = set()
        self._trusts: set[ResultTrust] = set()

    async def make(self, tool: str, args: Json) -> Done | Refused | Failed:
        """What becomes of the next call.

        Raises: EffectPending where the call that makes it has to wait as well, also where that one's time was up while
        a write was under way: else it would have failed, and be tried again beside a write that nobody knows of.
        """
        self._made += 1
        if self._made > CALLS_MAX:
            reason = f"{self._outer.resource} has made {CALLS_MAX} calls within one, and may make no more"
            return Refused(decision=denials.of_code("rate.limited", reason))
        place = self._outer.place.inner(self._made, self._outer.resource)
        name = self._rules.name_of(tool)  # which the tool may have made up
        cancels = cancels_of_task()
        outcome = await self._perform(actions.tool_call(place, name, "", args))
        match outcome:
            case Suspended() | Unknown():
                raise EffectPending(f"a call of {name} is not over", outcome)
            case Failed(code="worker.fenced", replayed=False):
                raise EffectPending(outcome.message, outcome)
            case Failed(happened=happened):
                self._trusts.add(self._rules.tools[name].result_trust)  # whose words they are
                if happened:
                    self._happened.append(name)
            case Done(label=label):
                self._happened.append(name)
                if label is not None:
                    self._trusts.add(label.trust)
                    self._classes.update(label.classes)
        if cancels_of_task() > cancels:
            raise asyncio.CancelledError
        return outcome

    def labelled(self, tool: ToolSpec) -> ToolSpec:
        """`tool`, as that of a result which may hold whatever its calls have returned."""
        classes = self._classes.union(tool.classes)
        trusts = self._trusts | {tool.result_trust}
        return replace(
            tool,
            classes=tuple(name for name in DATA_CLASSES if name in classes),
            result_trust=next(trust for trust in RESULT_TRUSTS if trust in trusts),
        )

    def after(self, error: EffectFailed) -> EffectFailed:
        """`error`, by which the call that made them failed, with what was changed before."""
        changed = [name for name in self._happened if self._rules.tools[name].effect == "write"]
        if not changed:
            return error
        message = f"{error.message} (done before, and not undone: {', '.join(changed)})"
        return EffectFailed(error.code, message, output=error.output)
