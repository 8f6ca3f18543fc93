"""Remit at the job: every model call, tool call and answer governed, recorded, traced and durable."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.parts import MODEL, PRINCIPAL, Parts, PartsOptions, open_parts, tool
from benchmarks.workload import ANSWER, INSTRUCTIONS, TASK, TOOL_CALLS, Pace
from remit.core.canonical import Json
from remit.core.messages import ModelReply, ModelRequest, Text, ToolUse, Usage
from remit.ports.effects import CallContext


class InstantModel:
    """Asks for five look-ups, one a turn, then answers."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    async def complete(self, request: ModelRequest, on_text: object = None) -> ModelReply:
        """The next turn, by the length of the conversation."""
        turn = len(request.messages) // 2
        await self._pace.model_turn(turn)
        usage = Usage(input_tokens=500 + 100 * turn, output_tokens=40)
        if turn >= TOOL_CALLS:
            return ModelReply(parts=(Text(text=ANSWER),), stop="end", usage=usage, model=MODEL)
        use = ToolUse(id=f"call-{turn}", name="lookup", args={"order_id": f"o{turn}"})
        return ModelReply(parts=(use,), stop="tool_use", usage=usage, model=MODEL)


class RemitSystem:
    """The job on Remit's runner."""

    def __init__(self, parts: Parts, stack: AsyncExitStack) -> None:
        self._runner = parts.runner
        self._stack = stack

    async def run(self, name: str) -> str:
        """Do the job once."""
        result = await self._runner.run(TASK, PRINCIPAL)
        if result.end.status != "succeeded":
            raise RuntimeError(f"{name}: {result.end}")
        return result.end.answer

    async def close(self) -> None:
        """Write everything and close the files."""
        await self._stack.aclose()


async def open_system(folder: Path, pace: Pace, database: str | None = None) -> RemitSystem:
    """Remit with its files in `folder`, and its journal in `database` where there is one."""

    async def look_up(args: Json, context: CallContext) -> Json:
        return pace.look_up(args["order_id"])

    options = PartsOptions(
        tools=[(tool("lookup"), look_up)],
        model=InstantModel(pace),
        database=database,
        limits=f"  instructions: {INSTRUCTIONS.strip()!r}\n  timeouts: {{model_call_s: 600, run_s: 3600}}\n",
    )
    stack = AsyncExitStack()
    return RemitSystem(await stack.enter_async_context(open_parts(folder, options)), stack)
