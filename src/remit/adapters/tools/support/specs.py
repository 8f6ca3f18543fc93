"""The declarations of the five support tools. Opens nothing, so that `remit check` stays light."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from remit.adapters.tools.mail.address import RECIPIENT, SUBJECT
from remit.adapters.tools.sql.tables import (
    CUSTOMERS,
    SQL_CHARS_MAX,
    Table,
    describe,
    field_classes,
    find_table,
)
from remit.core.labels import DataClass
from remit.core.tools import ToolSpec

CUSTOMER_ID = "^C-[0-9]{4,8}$"
FINANCIAL_FIELDS: Final[Mapping[str, DataClass]] = MappingProxyType(
    {"card_last4": "financial", "balance_usd": "financial", "iban": "financial"}
)


def support_specs(tables: tuple[Table, ...] = ()) -> tuple[ToolSpec, ...]:
    """The five declarations; with `tables`, `run_sql_query` also names tables, columns and classes."""
    return (_search_kb(), _get_customer(tables), _create_ticket(), _send_email(), _run_sql_query(tables))


def _object(properties: dict[str, Any], required: list[str] | None = None) -> Mapping[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _search_kb() -> ToolSpec:
    return ToolSpec(
        name="search_kb",
        description=(
            "Search the support knowledge base. Returns the best five pages with a passage of each. "
            "Use plain words, such as: refund double charge."
        ),
        args_schema=_object({"query": {"type": "string", "minLength": 1, "maxLength": 500}}),
        effect="read",
        idempotency="idempotent",
        records="results",
        record_class_field="visibility",
        result_trust="untrusted",
        rate_group="searches",
        timeout_s=5.0,
    )


def _get_customer(tables: tuple[Table, ...]) -> ToolSpec:
    customers = find_table(tables, CUSTOMERS)
    declared = field_classes((customers,)) if customers else {}
    return ToolSpec(
        name="get_customer",
        description=(
            "Look up one customer's record by customer id (such as C-1042): name, contact, plan, status. "
            "Personal data."
        ),
        args_schema=_object({"customer_id": {"type": "string", "pattern": CUSTOMER_ID}}),
        effect="read",
        idempotency="idempotent",
        classes=("pii",),
        field_classes={
            **FINANCIAL_FIELDS,
            **{name: kind for name, kind in declared.items() if kind != "pii"},
        },
        result_trust="directory",
        timeout_s=5.0,
    )


def _create_ticket() -> ToolSpec:
    return ToolSpec(
        name="create_ticket",
        description="Open a support ticket for a customer, for people to work on. Returns the ticket's id.",
        args_schema=_object(
            {
                "customer_id": {"type": "string", "pattern": CUSTOMER_ID},
                "issue": {"type": "string", "minLength": 1, "maxLength": 2000},
                "priority": {"type": "string", "enum": ["low", "normal", "high", "urgent"]},
            }
        ),
        effect="write",
        idempotency="idempotent",
        result_trust="trusted",
        rate_group="tickets",
        rate_key="customer_id",
        timeout_s=10.0,
    )


def _send_email() -> ToolSpec:
    return ToolSpec(
        name="send_email",
        description="Send a plain-text email to one address. Cannot be undone.",
        args_schema=_object(
            {
                "to": {"type": "string", "maxLength": 254, "pattern": RECIPIENT},
                "subject": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": SUBJECT},
                "body": {"type": "string", "minLength": 1, "maxLength": 20000},
            }
        ),
        effect="write",
        idempotency="at_most_once",
        result_trust="trusted",
        rate_group="emails",
        timeout_s=30.0,
    )


def _run_sql_query(tables: tuple[Table, ...]) -> ToolSpec:
    known = f"\nTables (a column's data class in brackets):\n{describe(tables)}" if tables else ""
    return ToolSpec(
        name="run_sql_query",
        description=(
            "Run one read-only SQLite SELECT over the customer data. Name the columns you need: a query that "
            "reads a column of a data class you are not permitted is refused. Join with ON, not with USING "
            f"or NATURAL. Rows are cut at a limit, so aggregate where you can.{known}"
        ),
        args_schema=_object({"sql": {"type": "string", "minLength": 1, "maxLength": SQL_CHARS_MAX}}),
        effect="read",
        idempotency="idempotent",
        records="rows",
        field_classes=field_classes(tables),
        classes_field="classes",
        result_trust="untrusted",
        timeout_s=5.0,
    )
