"""What data is: its classes, and how far the source that returned it is trusted.

Labels come from declarations and results, never from what a model wrote.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

DataClass: TypeAlias = Literal["public", "internal", "pii", "financial"]
DATA_CLASSES: tuple[DataClass, ...] = ("public", "internal", "pii", "financial")

ResultTrust: TypeAlias = Literal["untrusted", "directory", "trusted"]
RESULT_TRUSTS: tuple[ResultTrust, ...] = ("untrusted", "directory", "trusted")
"""From the least."""


class ResultLabel(NamedTuple):
    """The label of one tool result, written by the commit that completes the call."""

    call_id: str
    tool: str
    trust: ResultTrust
    classes: tuple[DataClass, ...]
    digest: str
