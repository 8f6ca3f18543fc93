"""`remit doctor --sandbox`: every attempt to get out of the sandbox, and what stopped it."""

from __future__ import annotations

from dataclasses import asdict

from remit.cli.asynchronous import run_async
from remit.cli.output import dim, paint, print_json, print_table
from remit.runtime.clock import SystemClock
from remit.wiring.sandbox import self_check


def report(*, as_json: bool) -> bool:
    """Make the attempts, print what became of each, and say whether all were stopped.

    Raises: RemitError `sandbox.unavailable`.
    """
    found = run_async(self_check(SystemClock()))
    opened = [one for one in found.probed if not one.closed]
    if as_json:
        print_json(
            {
                "isolation_level": found.isolation,
                "probes": len(found.probed),
                "open": [one.name for one in opened],
                "attempts": [asdict(one) for one in found.probed],
            }
        )
        return not opened
    print_table(
        ("attempt", "what it tried", "", "by"),
        [(one.name, one.tried, "closed" if one.closed else "OPEN", one.by) for one in found.probed],
    )
    said = f"{len(found.probed) - len(opened)} of {len(found.probed)} closed"
    print(f"{dim('isolation level')} {found.isolation}: {paint(said, 'red' if opened else 'green')}")
    for one in opened:
        print(f"{paint('open', 'red')} {one.name}: {one.tried}")
    return not opened
