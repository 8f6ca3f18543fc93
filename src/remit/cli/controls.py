"""Pausing and resuming, which `remit agents` and `remit tools` share: it holds at the next gate crossing, everywhere."""

from __future__ import annotations

import os
from pathlib import Path

from remit.cli.asynchronous import run_async
from remit.cli.output import clean, print_json
from remit.cli.people import person
from remit.core import audit
from remit.core.actions import Principal
from remit.core.audit import Fields
from remit.core.errors import RemitError
from remit.runtime.clock import SystemClock
from remit.wiring.deployment import Deployment
from remit.wiring.journals import open_writer


def set_control(home: Path, scope: str, reason: str, *, paused: bool, as_name: str | None) -> None:
    """Pause or resume `scope`, recorded under the name of who typed it."""
    who = person(as_name)
    run_async(_set(Deployment(home=home, environment=os.environ), scope, who, (paused, clean(reason, 500))))


def told(scope: str, *, paused: bool, as_json: bool) -> None:
    """Say what was done."""
    if as_json:
        print_json({"scope": scope, "paused": paused})
    else:
        print(f"{scope}  {'paused' if paused else 'resumed'}")


async def _set(deployment: Deployment, scope: str, who: Principal, what: tuple[bool, str]) -> None:
    paused, reason = what
    async with open_writer(deployment) as journal:
        if not paused and scope not in {one.scope for one in await journal.controls()}:
            raise RemitError("usage.invalid", f"{scope} is not paused", remedy="see `remit agents list`")
        at_us = SystemClock().now_us()
        fields: Fields = {"scope": scope, "paused": paused, "by": str(who), "reason": reason}
        record = audit.record("control", at_us, fields)
        await journal.set_control(scope, paused, f"{reason} ({who})", at_us, record)
