"""Real customer-service conversations pass the gate: not one legitimate call is blocked.

Source: tau2-bench (MIT), the ground-truth calls of its tasks and what its simulated shops returned.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from acceptance_world import World, open_world

from remit.core.canonical import Json
from remit.core.outcomes import Done, Failed, Refused
from remit.core.tools import Effect, ToolSpec
from remit.ports.effects import CallContext, EffectFailed
from remit.ports.journal import AuditQuery
from remit.ports.services import EffectEnded
from remit.testing.fakes import calls, says

EFFECTS: Mapping[str, Effect] = {"read": "read", "write": "write", "generic": "pure"}
# tasks, the assistant's calls, and those of them whose recorded result is an error of the domain
EXPECTED = {"retail": (114, 550, 18), "telecom": (114, 123, 0), "mock": (10, 8, 0)}


class Recorded:
    """A tool host that returns what was recorded, call by call, and insists on the recorded call."""

    def __init__(self, specs: tuple[ToolSpec, ...], steps: list[dict[str, Any]]) -> None:
        self.specs = specs
        self._steps = list(steps)

    async def call(self, tool: str, args: Json, context: CallContext) -> Json:
        step = self._steps.pop(0)
        assert (tool, args) == (step["name"], step["arguments"])
        if not step["ok"]:
            raise EffectFailed("tool.failed", str(step["result"]))
        return step["result"]

    @property
    def is_used_up(self) -> bool:
        return not self._steps


def _specs(path: Path) -> tuple[ToolSpec, ...]:
    return tuple(
        ToolSpec(
            name=tool["name"],
            description=tool["schema"].get("description", ""),
            args_schema=tool["schema"]["parameters"],
            effect=EFFECTS[tool["type"]],
        )
        for tool in json.loads(path.read_text())
        if tool["requestor"] == "assistant"
    )


async def _replay(
    world: World, specs: tuple[ToolSpec, ...], task: dict[str, Any], counts: Counter[str]
) -> None:
    steps = [step for step in task["steps"] if step["requestor"] == "assistant"]
    tools = Recorded(specs, steps)
    replies = [calls((step["name"], step["arguments"])) for step in steps]
    instructions = task["user_instructions"]
    text = instructions if isinstance(instructions, str) else json.dumps(instructions)
    result = await world.run(text, [*replies, says("done")], tools)
    assert result.end.status == "succeeded", (task["task_id"], result.end)
    assert tools.is_used_up
    counts["tasks"] += 1
    counts["calls"] += len(steps)


@pytest.mark.parametrize("domain", EXPECTED)
async def test_no_legitimate_call_is_blocked(
    domain: str, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = _specs(shared_data / "tau2" / f"{domain}_tools.json")
    counts: Counter[str] = Counter()
    async with open_world(tmp_path) as world:
        with gzip.open(shared_data / "tau2" / f"{domain}_replay.jsonl.gz", "rt") as lines:
            tasks = [json.loads(line) for line in lines]
        await asyncio.gather(*(_replay(world, specs, task, counts) for task in tasks))
        assert await world.journal.audit(AuditQuery(kind="refusal")) == []
        assert await world.journal.audit(AuditQuery(open_only=True)) == []
    for event in world.telemetry.events:
        if isinstance(event, EffectEnded) and event.action.kind == "tool":
            counts[type(event.outcome).__name__] += 1
    with capsys.disabled():
        print(f"\ntau2 {domain}: {dict(counts)}")
    expected, called, failed = EXPECTED[domain]
    assert (counts["tasks"], counts["calls"]) == (expected, called)
    assert counts[Refused.__name__] == 0
    assert counts[Failed.__name__] == failed
    assert counts[Done.__name__] == called - failed
