"""LangGraph at the job: `create_agent` with its SQLite or PostgreSQL checkpointer, in the peer's own environment."""

# The peer has an environment of its own, so its types are not known here.
# mypy: disable-error-code="import-not-found,misc"

from __future__ import annotations

import sqlite3
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from benchmarks.workload import ANSWER, INSTRUCTIONS, TASK, TOOL_CALLS, Pace

RECURSION_LIMIT = 60


class InstantChatModel(BaseChatModel):
    """Asks for five look-ups, one a turn, then answers."""

    pace: Any

    @property
    def _llm_type(self) -> str:
        return "instant"

    def bind_tools(self, tools: Any, **options: Any) -> InstantChatModel:
        """The script knows the tool already."""
        return self

    def _generate(self, messages: list[BaseMessage], *rest: Any, **options: Any) -> ChatResult:
        raise NotImplementedError("this model is asked asynchronously")

    async def _agenerate(self, messages: list[BaseMessage], *rest: Any, **options: Any) -> ChatResult:
        turn = sum(isinstance(message, ToolMessage) for message in messages)
        await self.pace.model_turn(turn)
        tokens = 500 + 100 * turn
        reply = AIMessage(
            content="" if turn < TOOL_CALLS else ANSWER,
            tool_calls=[_call(turn)] if turn < TOOL_CALLS else [],
            usage_metadata={"input_tokens": tokens, "output_tokens": 40, "total_tokens": tokens + 40},
        )
        return ChatResult(generations=[ChatGeneration(message=reply)])


def _call(turn: int) -> dict[str, Any]:
    return {"name": "lookup", "args": {"order_id": f"o{turn}"}, "id": f"call-{turn}", "type": "tool_call"}


class LangGraphSystem:
    """The job as a thread of a checkpointed graph."""

    def __init__(self, graph: Any, stack: AsyncExitStack) -> None:
        self._graph = graph
        self._stack = stack

    async def run(self, name: str) -> str:
        """Do the job once, in a thread of its own."""
        state = await self._graph.ainvoke(
            {"messages": [{"role": "user", "content": TASK}]},
            config={"configurable": {"thread_id": name}, "recursion_limit": RECURSION_LIMIT},
        )
        return str(state["messages"][-1].content)

    async def close(self) -> None:
        """Close the database, its write-ahead log taken into it."""
        await self._stack.aclose()


async def open_system(folder: Path, pace: Pace, database: str | None = None) -> LangGraphSystem:
    """LangGraph with its checkpoints in `database`, or in `folder` where there is none."""
    stack = AsyncExitStack()
    if database is None:
        path = folder / "checkpoints.db"
        stack.callback(_checkpoint, path)
        saver = await stack.enter_async_context(AsyncSqliteSaver.from_conn_string(str(path)))
    else:
        # one connection, as its documentation has it: a pool gains nothing, because the saver has one lock
        saver = await stack.enter_async_context(AsyncPostgresSaver.from_conn_string(database))
    await saver.setup()

    async def lookup(order_id: str) -> dict[str, str | int]:
        """Look up an order."""
        return pace.look_up(order_id)

    graph = create_agent(
        InstantChatModel(pace=pace),
        [StructuredTool.from_function(coroutine=lookup, name="lookup", description="Look up an order.")],
        system_prompt=INSTRUCTIONS,
        checkpointer=saver,
    )
    return LangGraphSystem(graph, stack)


def _checkpoint(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
