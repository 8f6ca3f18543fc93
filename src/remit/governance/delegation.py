"""An agent as a tool of another: what the asking agent's model is told of it, and what its call is."""

from __future__ import annotations

from remit.core.tools import ToolSpec

TASK_CHARS_MAX = 64 * 1024


def ask_tool(name: str, description: str, agent: str) -> ToolSpec:
    """The tool by which `agent` is asked.

    The same call, made again, finds the run that it started; so it may be. Its run says which classes of data it
    has read: they are those of the answer, whatever the answer says.
    """
    return ToolSpec(
        name=f"ask_{name}",
        description=description,
        args_schema={
            "type": "object",
            "properties": {
                "task": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": TASK_CHARS_MAX,
                    "description": "What to do, with all that has to be known for it.",
                }
            },
            "required": ["task"],
        },
        effect="write",
        idempotency="idempotent",
        classes_field="classes",
        rate_group=f"{name}_tasks",
        agent=agent,
    )
