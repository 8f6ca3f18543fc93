"""The declaration of the tool that searches a folder of pages. Opens nothing."""

from __future__ import annotations

from remit.core.canonical import digest
from remit.core.tools import Declared, ToolSpec
from remit.governance.toolsets import KnowledgeToolset


def declare_knowledge(name: str, section: KnowledgeToolset) -> Declared:
    """`search_<name>`, with what the section declares of it."""
    spec = ToolSpec(
        name=f"search_{name}",
        description=section.description,
        args_schema={
            "type": "object",
            "properties": {"query": {"type": "string", "minLength": 1, "maxLength": 500}},
            "required": ["query"],
            "additionalProperties": False,
        },
        effect="read",
        idempotency="idempotent",
        records="results",
        record_class_field="visibility",
        rate_group="searches",
        timeout_s=5.0,
    )
    return Declared((section.tool.applied(spec),), digest(b""))
