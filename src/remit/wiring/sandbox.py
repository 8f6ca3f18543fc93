"""What sandbox this machine gives, found out by starting one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.adapters.sandbox.settings import SandboxSettings
from remit.core.tools import Isolation
from remit.ports.services import Clock

if TYPE_CHECKING:
    from remit.adapters.sandbox.probes.check import SelfCheck

SANDBOX = SandboxSettings(name="the self-check", sources={}, isolation="process", warm=0, processes_max=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The best level that a machine gives, and why none of the better ones."""

    isolation: Isolation
    causes: str


async def given_sandbox(clock: Clock) -> Given:
    """What calls of Python tools run in here. Raises: RemitError `sandbox.unavailable`."""
    # asyncio's processes, which most commands do without
    from remit.adapters.sandbox.pool import SandboxPool  # noqa: PLC0415

    pool = SandboxPool(SANDBOX, clock)
    try:
        isolation = await pool.start()
        return Given(isolation=isolation, causes=pool.causes)
    finally:
        await pool.close()


async def self_check(clock: Clock) -> SelfCheck:
    """Every attempt to get out, made in the best sandbox there is. Raises: RemitError `sandbox.unavailable`."""
    from remit.adapters.sandbox.probes.check import check_sandbox  # noqa: PLC0415 - as above

    return await check_sandbox(SANDBOX, clock)
