"""What authors of tools import: `@tool`, `Context`, `ToolFailure`. On the standard library alone.

    from remit.tools import Context, tool

    @tool(effect="read", idempotency="idempotent")
    def convert(amount: float, currency: Literal["EUR", "USD"], ctx: Context) -> float:
        \"\"\"Convert an amount of money.

        Args:
            amount: How much.
            currency: Into which currency.
        \"\"\"

A tool stays the function it is, so a test calls it: `convert(1.0, "EUR", FakeContext())`.
"""

from remit.tools.context import Context, FakeContext, ToolFailure
from remit.tools.declarations import Declaration, declaration_of, tool
from remit.tools.schemas import Length, Pattern, Range, ToolError

__all__ = [
    "Context",
    "Declaration",
    "FakeContext",
    "Length",
    "Pattern",
    "Range",
    "ToolError",
    "ToolFailure",
    "declaration_of",
    "tool",
]
