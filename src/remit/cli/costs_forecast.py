"""`remit costs forecast`: what today will have cost by its end, and when a cap will be reached."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from remit.cli.asynchronous import run_async
from remit.cli.costs_period import existing_zone, timezone_option
from remit.cli.output import json_option, print_json, print_table
from remit.core import audit, days
from remit.core.money import format_usd, usd_text
from remit.governance.budget import TenantCap
from remit.governance.forecast import HOUR_US, Forecast, Spending, forecast
from remit.governance.remit import Remit
from remit.ports.journal import Balance, CostQuery, CostRow
from remit.runtime.clock import SystemClock
from remit.wiring.deployment import Deployment, open_reader
from remit.wiring.remits import load_remit, tenant_cap


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """The money of a day that is going on, of an agent or (where `agent` is None) of a whole tenant."""

    balance: Balance
    tenant: str
    agent: str | None
    timezone: str
    cap_nano_usd: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What is known of caps and days: of agents by their governance files, of tenants by the deployment."""

    remits: Mapping[str, Remit]
    tenant: TenantCap | None
    timezone: str

    def scope(self, balance: Balance) -> _Scope:
        """The scope of a balance of a day: `day:TENANT/AGENT/DAY` or `tenant:TENANT/DAY`."""
        kind, _, name = balance.scope.partition(":")
        owner, _, _ = name.rpartition("/")
        if kind == "tenant":
            cap = self.tenant
            zone = self.timezone if cap is None else cap.timezone
            day_cap = None if cap is None else cap.day_nano_usd
            return _Scope(balance=balance, tenant=owner, agent=None, timezone=zone, cap_nano_usd=day_cap)
        tenant, _, agent = owner.rpartition("/")  # an agent's name has no slash; a tenant's may have
        remit = self.remits.get(agent)
        return _Scope(
            balance=balance,
            tenant=tenant,
            agent=agent,
            timezone=self.timezone if remit is None else remit.timezone,
            cap_nano_usd=None if remit is None else remit.cap_day_nano_usd,
        )


@click.command(
    "forecast",
    epilog="\b\nExamples:\n"
    "  remit costs forecast agent-config.yaml\n"
    "  remit costs forecast agents/*.yaml --hours 3 --json\n",
)
@click.argument("configs", metavar="[CONFIG]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--hours",
    default=1,
    show_default=True,
    type=click.IntRange(1, 24),
    help="Go on as in so many hours before now.",
)
@timezone_option
@json_option
@click.pass_obj
def show_forecast(home: Path, configs: tuple[Path, ...], hours: int, timezone: str, as_json: bool) -> None:
    """Say what today will have cost by its end, for each agent and tenant that spent something today.

    The governance files say the agents' caps and the zones of their days; an agent whose file is not given has no
    cap here, and the day of --timezone. The cap of a tenant is REMIT_TENANT_DAILY_USD.
    """
    remits = {remit.agent: remit for remit in map(load_remit, configs)}
    known = _Known(remits=remits, tenant=tenant_cap(os.environ), timezone=existing_zone(timezone))
    deployment = Deployment(home=home, environment=os.environ)
    now_us = SystemClock().now_us()
    balances, recent = run_async(_read(deployment, now_us - hours * HOUR_US))
    scopes = [known.scope(balance) for balance in balances]
    today = [
        (scope, _forecast(scope, recent, hours, now_us))
        for scope in scopes
        if scope.balance.scope.endswith("/" + days.local_day(scope.timezone, now_us))
    ]
    if as_json:
        print_json([_as_json(scope, found) for scope, found in today])
    elif today:
        _print(today)
    else:
        print("nothing was spent today")


def _forecast(scope: _Scope, recent: Sequence[CostRow], hours: int, now_us: int) -> Forecast:
    of_scope = [
        row.cost_nano_usd
        for row in recent
        if row.group[0] == scope.tenant and scope.agent in (None, row.group[1])
    ]
    spending = Spending(
        spent_nano_usd=scope.balance.spent_nano_usd,
        recent_nano_usd=sum(of_scope),
        recent_us=hours * HOUR_US,
        cap_nano_usd=scope.cap_nano_usd,
    )
    return forecast(spending, now_us, days.day_and_end(scope.timezone, now_us)[1])


def _print(today: Sequence[tuple[_Scope, Forecast]]) -> None:
    lines = []
    for scope, found in today:
        cap, reached = scope.cap_nano_usd, found.reached_at_us
        moment = (
            None if reached is None else datetime.fromtimestamp(reached // 10**6, ZoneInfo(scope.timezone))
        )
        lines.append(
            (
                scope.balance.scope,
                format_usd(scope.balance.spent_nano_usd, 2),
                format_usd(found.rate_nano_usd_per_hour, 2),
                format_usd(found.total_nano_usd, 2),
                "-" if cap is None else format_usd(cap, 2),
                "-" if moment is None else f"{moment:%H:%M} ({scope.timezone})",
            )
        )
    header = ("day", "spent", "an hour", "at its end", "cap", "cap reached")
    print_table(header, lines, right=frozenset({1, 2, 3, 4}))


def _as_json(scope: _Scope, found: Forecast) -> dict[str, Any]:
    amounts = {
        "spent": scope.balance.spent_nano_usd,
        "held": scope.balance.held_nano_usd,
        "rate_per_hour": found.rate_nano_usd_per_hour,
        "forecast": found.total_nano_usd,
        "cap": scope.cap_nano_usd,
    }
    fields: dict[str, Any] = {
        "scope": scope.balance.scope,
        "tenant": scope.tenant,
        "agent": scope.agent,
        "timezone": scope.timezone,
    }
    for name, nano_usd in amounts.items():
        fields[f"{name}_usd"] = None if nano_usd is None else usd_text(nano_usd)
        fields[f"{name}_nano_usd"] = nano_usd
    reached = found.reached_at_us
    return fields | {"cap_reached_at": None if reached is None else audit.timestamp(reached)}


async def _read(deployment: Deployment, since_us: int) -> tuple[Sequence[Balance], Sequence[CostRow]]:
    async with open_reader(deployment) as journal:
        if journal is None:
            return [], []
        balances = [*await journal.balances("day:"), *await journal.balances("tenant:")]
        return balances, await journal.costs(CostQuery(by=("tenant", "agent"), since_us=since_us))
