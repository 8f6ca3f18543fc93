"""The script engine: a conversation in, the scripted answer out. No protocol, no clock, no I/O.

The only thing it remembers is how often a scripted error has been given for one request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from remit.testing.model_server import references
from remit.testing.model_server.conversation import Call, Conversation, Failure, Reply, Served, View
from remit.testing.model_server.references import Unresolved
from remit.testing.model_server.scripts import Branch, Script, ScriptError, Step, arrange

REMEMBERED_MAX = 4096


class Engine:
    """Answers conversations from scripts; the first script whose pattern finds the task is the one."""

    def __init__(self, scripts: Sequence[Script]) -> None:
        """Raises: RemitError `script.invalid` where two scripts have one name, or both are the default."""
        self._scripts = arrange(scripts)
        self._patterns = tuple(
            None if script.match is None else re.compile(script.match) for script in self._scripts
        )
        self._failed: dict[tuple[str, int, str], int] = {}

    def answer(self, conversation: Conversation) -> Reply | Failure:
        """The answer of the turn that the conversation has reached."""
        script, groups = self._choose(conversation.task)
        try:
            step = self._step(script, conversation, groups)
            if step is None:
                return _broken(script, conversation, "the script has no such turn")
            error = self._error(script, step, conversation)
            if error is not None and error.fault is None:
                return replace(error.failure, delay_s=step.after)
            view = _view(conversation, groups, conversation.turn)
            reply = _reply(step, view)
            return reply if error is None else replace(reply, fault=error.fault)
        except (Unresolved, RecursionError) as error:
            return _broken(script, conversation, f"a reference cannot be resolved: {error}")

    def reset(self) -> None:
        """Forget which errors have been given."""
        self._failed.clear()

    def _choose(self, task: str) -> tuple[Script, Mapping[str, str]]:
        for script, pattern in zip(self._scripts, self._patterns, strict=True):
            found = None if pattern is None else pattern.search(task)
            if found is not None:
                return script, {name: text for name, text in found.groupdict().items() if text is not None}
        return self._scripts[-1], {}

    def _step(self, script: Script, conversation: Conversation, groups: Mapping[str, str]) -> Step | None:
        turns: Sequence[Step | Branch] = script.turns
        turn = 0  # how many steps lie behind
        position = 0
        while position < len(turns):
            here = turns[position]
            if isinstance(here, Branch):
                # Decided by what was known when the branch was reached, so that it never changes later.
                holds = references.holds(here.when, _view(conversation, groups, turn))
                turns, position = (here.then if holds else here.otherwise), 0
                continue
            if turn == conversation.turn:
                return here
            turn, position = turn + 1, position + 1
        return None

    def _error(self, script: Script, step: Step, conversation: Conversation) -> ScriptError | None:
        """The scripted error, where it is due."""
        error = step.error
        if error is not None and error.times != "always":
            key = (script.name, conversation.turn, conversation.digest)
            given = self._failed.pop(key, 0)
            if given >= error.times:
                return None  # and forgotten, so that the next run of the same task meets it again
            if len(self._failed) >= REMEMBERED_MAX:
                del self._failed[next(iter(self._failed))]
            self._failed[key] = given + 1
        return error


def _reply(step: Step, view: View) -> Reply:
    if step.say_json is None:
        text = references.fill_text(step.say, view)
    else:
        text = json.dumps(references.fill(step.say_json, view), ensure_ascii=False)
    return Reply(
        text=text,
        calls=tuple(Call(tool=call.tool, args=references.fill(call.args, view)) for call in step.call),
        think=references.fill_text(step.think, view),
        refusal=None if step.refuse is None else references.fill_text(step.refuse, view),
        delay_s=step.after,
        drip_s=step.drip_s,
        served=Served(**step.served.model_dump()),
    )


def _view(conversation: Conversation, groups: Mapping[str, str], turn: int) -> View:
    return View(
        task=conversation.task,
        context=conversation.context or {},
        match=groups,
        tools=conversation.tools,
        results=tuple(result for results in conversation.results[:turn] for result in results),
    )


def _broken(script: Script, conversation: Conversation, why: str) -> Failure:
    message = f"script {script.name!r}, turn {conversation.turn}: {why}"
    return Failure(status=500, type="api_error", message=message)
