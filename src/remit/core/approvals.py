"""An approval is bound to one action's digest under one remit, expires, and is used once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

ApprovalVerdict: TypeAlias = Literal["pending", "approved", "denied"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Times are microseconds since 1970 in UTC. `action` is the canonical JSON a person is shown."""

    id: str
    action_id: str
    action_digest: str
    run_id: str
    remit_digest: str
    requested_by: str
    requested_at_us: int
    expires_at_us: int
    resource: str
    action: bytes
    rule: str
    verdict: ApprovalVerdict = "pending"
    decided_by: str | None = None
    decided_at_us: int | None = None
    reason: str = ""
    used_at_us: int | None = None
