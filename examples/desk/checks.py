"""What the desk works out itself: in the sandbox, from the CRM and the database that it is granted."""

from collections import defaultdict
from typing import TypedDict

from remit.tools import Context, ToolFailure, tool


class Refund(TypedDict):
    """What is owed to a customer, and for which charges."""

    name: str
    email: str
    eur: float
    charges: list[int]


@tool(effect="read", idempotency="idempotent", classes=("pii",), timeout_s=20)
def double_charges(customer: str, ctx: Context) -> Refund:
    """Find what a customer was charged twice on one day.

    Args:
        customer: The customer's id, such as C-1004.
    """
    record = ctx.call("get_customer_record", id=customer)["body"]
    ctx.progress(f"looking through the charges of {customer}")
    same: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for charge in ctx.sql.query("charges_of", customer=customer):
        same[charge["day"], charge["cents"]].append(charge["id"])
    twice = {key: ids for key, ids in same.items() if len(ids) > 1}
    if not twice:
        raise ToolFailure(f"{customer} was charged nothing twice")
    cents = sum(cents * (len(ids) - 1) for (_, cents), ids in twice.items())
    return {
        "name": record["name"],
        "email": record["email"],
        "eur": cents / 100,
        "charges": sorted(one for ids in twice.values() for one in ids),
    }
