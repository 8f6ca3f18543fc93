"""`remit costs prices` and `remit costs forecast`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from remit.adapters.journal.sqlite import SqliteJournal
from remit.core.days import local_day
from remit.ports.journal import Hold
from remit.ports.runs import StartRun
from remit.runtime.clock import SystemClock
from remit.testing.fakes import FakeClock
from remit.testing.journal_values import Z, admission_of, completion_of, run_of

SONNET = "claude-sonnet-4-20260514"


@pytest.fixture(autouse=True)
def no_prices_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REMIT_PRICES", "REMIT_TIMEZONE", "REMIT_TENANT_DAILY_USD"):
        monkeypatch.delenv(name, raising=False)


def test_a_price_is_explained_with_its_source_and_an_example(remit: Any) -> None:
    shown = remit("costs", "prices", SONNET).stdout
    assert "prices.yaml:4" in shown
    assert "us +10 %" in shown
    assert "10000 tokens in and 1000 out: $0.045000; held before the call: $0.082500" in shown
    found = json.loads(remit("costs", "prices", SONNET, "--json").stdout)
    assert found["usd_per_million_tokens"]["standard"] == [
        {
            "above_input_tokens": None,
            "input": "3",
            "output": "15",
            "cache_read": "0.3",
            "cache_write": "3.75",
            "cache_write_1h": "6",
        }
    ]
    assert found["geo_surcharge_percent"] == {"us": 10}
    assert found["example"]["cost_nano_usd"] == 45_000_000


def test_the_public_table_names_its_version_tiers_and_day(remit: Any) -> None:
    found = json.loads(remit("costs", "prices", "gpt-5.4", "--input-tokens", "300000", "--json").stdout)
    assert found["source"].startswith("genai-prices ")
    assert datetime.fromisoformat(found["since"])
    tables = found["usd_per_million_tokens"]
    assert {"standard", "priority", "flex", "batch"} <= tables.keys()
    assert [tier["above_input_tokens"] for tier in tables["standard"]] == [None, 272_000]
    assert found["example"]["held_nano_usd"] > found["example"]["cost_nano_usd"] > 0


def test_a_price_of_one_s_own_is_explained_by_its_line(
    remit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"models:\n  other: {{input: 1, output: 2}}\n  {SONNET}: {{input: 1, output: 2}}\n")
    monkeypatch.setenv("REMIT_PRICES", str(path))
    assert f"{path}:3" in remit("costs", "prices", SONNET).stdout


def test_an_unknown_model_is_refused_with_the_nearest_and_what_to_write(remit: Any) -> None:
    done = remit("costs", "prices", "claude-sonet-4-5")
    assert done.exit == 3
    assert "price.unknown" in done.stderr
    assert "claude-sonnet-4-5" in done.stderr
    assert "models: {claude-sonet-4-5: {input: 3.00, output: 15.00}}" in done.stderr
    assert "REMIT_PRICES" in done.stderr


def test_an_option_before_a_command_is_not_passed_over(remit: Any) -> None:
    done = remit("costs", "--since", "7d", "forecast")
    assert (done.exit, "usage.invalid" in done.stderr) == (2, True)


def zone_where_it_is_noon() -> str:
    """A zone in which today is some hours old and has some hours left, whenever the test runs."""
    ahead = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-ahead:+d}" if ahead else "UTC"


async def spend(home: Path, zone: str, tenant: str) -> None:
    """$3 for the agent `desk` of a tenant, within this hour."""
    clock = FakeClock(SystemClock().now_us())
    journal = SqliteJournal.open(home / "remit.db", clock)
    await journal.create_run(StartRun(run=replace(run_of("r", agent="desk"), tenant=tenant), audit=Z))
    await journal.begin_run("r", 1000, clock.now_us())
    day = local_day(zone, clock.now_us())
    holds = tuple(
        Hold(scope=scope, cap_nano_usd=10**12, rule="x")
        for scope in (f"day:{tenant}/desk/{day}", f"tenant:{tenant}/{day}")
    )
    admission = admission_of("r.1.m1", clock, kind="model", holds=holds, amount_nano_usd=3 * 10**9)
    await journal.admit(admission)
    await journal.complete(completion_of("r.1.m1", clock, cost_nano_usd=3 * 10**9))
    await journal.close()


@pytest.mark.parametrize("name", ["t", "acme/eu"])
def test_the_forecast_knows_the_caps_of_agent_and_tenant(
    remit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    zone = zone_where_it_is_noon()
    asyncio.run(spend(tmp_path / "home", zone, name))
    config = tmp_path / "desk.yaml"
    config.write_text(
        f"agent:\n  name: desk\n  model: {SONNET}\n  allowed_tools: []\n"
        f"  cost_controls: {{max_daily_spend_usd: 4.50, max_cost_per_run_usd: 2, timezone: {zone}}}\n"
    )
    monkeypatch.setenv("REMIT_TENANT_DAILY_USD", "2.00")
    monkeypatch.setenv("REMIT_TIMEZONE", zone)
    agent, tenant = json.loads(remit("costs", "forecast", config, "--json").stdout)
    assert (agent["tenant"], agent["agent"], agent["timezone"]) == (name, "desk", zone)
    assert (agent["spent_usd"], agent["rate_per_hour_usd"], agent["cap_usd"]) == ("3", "3", "4.5")
    assert agent["forecast_nano_usd"] > 4_500_000_000
    assert agent["cap_reached_at"] is not None
    assert (tenant["agent"], tenant["cap_usd"], tenant["spent_nano_usd"]) == (None, "2", 3 * 10**9)
    assert tenant["cap_reached_at"] is not None  # already
    (without_file, _) = json.loads(remit("costs", "forecast", "--json").stdout)
    assert (without_file["cap_usd"], without_file["cap_reached_at"]) == (None, None)
    lines = remit("costs", "forecast", config).stdout.splitlines()
    assert lines[0].split() == ["day", "spent", "an", "hour", "at", "its", "end", "cap", "cap", "reached"]
    assert f"({zone})" in lines[1]


def test_a_day_on_which_nothing_was_spent(remit: Any) -> None:
    assert remit("costs", "forecast").stdout == "nothing was spent today\n"
    assert json.loads(remit("costs", "forecast", "--json").stdout) == []
